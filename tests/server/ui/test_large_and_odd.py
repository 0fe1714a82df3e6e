"""Questions of any size and of other programs: pages stay small, the server free, and none hides another."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.server.ui.visiting import text_of, visiting
from workflows_mcp import CheckpointState, WorkflowExecutor
from workflows_mcp.persistence.store import create_checkpoint_store
from workflows_mcp.testing import make_state

MOST_BYTES = 200_000


def asking(name: str, **changes: Any) -> CheckpointState:
    """A state that waits, saved by another program."""
    fields: dict[str, Any] = {
        "run_id": name,
        "created_at": time.time(),
        "workflow_name": "w",
        "status": "paused",
        "paused_block_id": "ask",
        "pause_prompt": f"Is {name} well?",
        "pause_metadata": {},
        "runtime_inputs": {"i": "x"},
        "context": {"blocks": {"b": {"outputs": {"o": 1}}}},
        "completed_blocks": ["b"],
        "execution_waves": [["b"], ["ask"]],
        "current_wave_index": 1,
        "block_definitions": {"b": {"type": "t"}, "ask": {"type": "t"}},
    }
    return make_state(name, **(fields | changes))


async def save(file: Path, *states: CheckpointState) -> None:
    """Keep them."""
    async with create_checkpoint_store(str(file)) as store:
        for state in states:
            await store.save_checkpoint(state)


async def test_outputs_that_are_no_object_hide_no_question(runs_file: Path) -> None:
    """They are shown as they are."""
    odd: dict[str, Any] = {"number": 7, "text": "abc", "list": [1], "none": None, "much": ["x" * 100] * 9}
    states = [asking(name, context={"blocks": {"b": {"outputs": one}}}) for name, one in odd.items()]
    await save(runs_file, *states, asking("good"))
    async with visiting(runs_file) as visitor:
        page = await visitor.get("/ui/waiting")
        assert page.status_code == 200
        said = text_of(page)
        assert all(f"Is {name} well?" in said for name in (*odd, "good"))
        assert all(f"Known by now b {shown}" in said for shown in ("7", '"abc"', "[1]", "[9 items]", "o 1"))
        for name in odd:
            for path in (f"/ui/run?id={name}", f"/ui/answer?checkpoint={name}", f"/ui/fork?checkpoint={name}"):
                assert (await visitor.get(path)).status_code == 200, path


async def test_large_states_make_no_large_page_and_keep_nobody_waiting(runs_file: Path) -> None:
    """Leases are renewed by the same server: only what is shown is made, and not between two of its turns."""
    many = {f"k{number}": {"a": number, "b": "x" * 20, "c": [1, 2, 3]} for number in range(10_000)}
    large = asking(
        "large",
        pause_prompt="Go <b>&on" * 200_000,
        runtime_inputs={"many": many, "text": "a line\n" * 200_000} | {f"i{number}": number for number in range(300)},
        context={"blocks": {f"b{number}": {"outputs": {"o": many, "t": "<" * 100_000}} for number in range(3)}},
    )
    await save(runs_file, large, asking("good"))
    async with visiting(runs_file) as visitor:
        await visitor.get("/ui/waiting?before=1.0,x")
        # Of this thread alone, in which the event loop is: how long others wait for it, however much else is going on.
        began = time.thread_time()
        paths = ("/ui/waiting", "/ui", "/ui/answer?checkpoint=large", "/ui/fork?checkpoint=large", "/ui/run?id=large")
        pages = [await visitor.get(path) for path in paths]
        used = time.thread_time() - began
        assert used < 0.5
    for page in pages:
        assert (page.status_code, len(page.content) < MOST_BYTES) == (200, True), page.url
    said = text_of(pages[0])
    assert "Not all that is asked is shown here" in said
    assert "Is good well?" in said
    assert "many {10,000 keys}" in said


@pytest.mark.parametrize("outputs", [{"o": "x" * 30_000, "p": {"k": ["y"] * 9_000}, "q": 1}])
async def test_long_outputs_of_a_run_are_shown_in_part(runs_file: Path, outputs: dict[str, Any]) -> None:
    """The rest is a click away."""
    done = {"status": "completed", "paused_block_id": None, "pause_prompt": None, "pause_metadata": None}
    await save(runs_file, asking("r1", **done, context={"outputs": outputs}))
    async with visiting(runs_file) as visitor:
        page = await visitor.get("/ui/run?id=r1")
        assert ("x" * 20_000 in page.text, "x" * 20_001 in page.text) == (True, False)
        assert "p {1 key} q 1" in text_of(page)
        link = page.text.partition('not all is shown: <a href="')[2].partition('"')[0].replace("&amp;", "&")
        assert "o and p" not in text_of(await visitor.get(link))


async def test_what_cannot_be_answered_here_still_waits(runs_file: Path) -> None:
    """As the question of a program whose workflows this one does not know; and it is told why."""
    await save(runs_file, asking("r1"))
    async with visiting(runs_file) as visitor:
        await visitor.get("/ui/waiting")
        refused = await visitor.send("/ui/answer?checkpoint=r1", response="yes")
        assert (refused.status_code, "It cannot be answered here" in refused.text) == (409, True)
        assert "Is r1 well?" in (await visitor.get("/ui/waiting")).text


async def test_no_secret_is_in_the_names_of_blocks(runs_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of items are values; two that look alike then are two still, and what waits for one is drawn so."""
    first, second = "eu-hunter2", "eu-swordfish"
    waves = [[first, second], ["last"]]
    definitions = {
        first: {"type": "hunter2"},
        second: {"type": "t"},
        "last": {"type": "t", "depends_on": [second]},
    }
    named: dict[str, Any] = {"execution_waves": waves, "block_definitions": definitions, "completed_blocks": [first]}
    known: dict[str, Any] = {
        "runtime_inputs": {"i": "hunter2"},
        "context": {"blocks": {first: {"outputs": {"o": "swordfish"}}}},
    }
    await save(runs_file, asking("r1", **named, **known, paused_block_id=second, pause_metadata={"pending": [first]}))
    monkeypatch.setenv("WORKFLOW_SECRET_A", "hunter2")
    monkeypatch.setenv("WORKFLOW_SECRET_B", "swordfish")
    async with visiting(runs_file) as visitor:
        for path in ("/ui/run?id=r1", "/ui/waiting", "/ui/answer?checkpoint=r1"):
            page = await visitor.get(path)
            assert ("hunter2" in page.text, "swordfish" in page.text) == (False, False), path
            assert "asks in eu-*** ," in text_of(page).replace("It asks in", "asks in")
        run = text_of(await visitor.get("/ui/run?id=r1"))
        assert "eu-*** *** ✓ done" in run
        assert "eu-***" in run.partition("Blocks Block Status")[2]
    async with create_checkpoint_store(str(runs_file)) as store:
        blocks = (await WorkflowExecutor(store).get_run("r1")).blocks
        assert [(one.path, one.needs) for one in blocks] == [
            ("eu-***", ()),
            ("eu-****", ()),
            ("last", ("eu-****",)),
        ]
