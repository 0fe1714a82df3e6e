"""What the blocks of a run were given and gave, in the table of blocks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.engine.probe import text
from tests.executor.test_run_details import FOREIGN
from tests.server.ui.visiting import run_workflow, text_of, visiting
from workflows_mcp import CheckpointState, SQLAlchemyCheckpointStore, WorkflowExecutor
from workflows_mcp.engine.block_details import BlockDetails
from workflows_mcp.engine.pointers import follow
from workflows_mcp.server.ui.block_values import given_to


def unmasked(value: Any) -> Any:
    """Where there are no secrets."""
    return value


def state_with(records: dict[str, Any], *stack: dict[str, Any]) -> CheckpointState:
    """A state with these records."""
    return replace(FOREIGN, context={"blocks": records}, workflow_stack=[{}, *stack])


def block(path: str, parent: str | None = None, key: str | None = None, status: Any = "succeeded") -> BlockDetails:
    """A block, or an item, as it is told of."""
    name = path.rpartition("/")[2] if key is None else path.partition("[")[0]
    return BlockDetails(path, status, 0, block_id=name, key=key, parent=parent)


def test_each_record_is_found_where_it_stands() -> None:
    """Of blocks, of items, and of what is in nested workflows; the pointer leads to it."""
    state = state_with(
        {"each": {"items": {"eu/1": {"inputs": {"n": 1}}}}, "inner": {"inputs": {"n": 3}}},
        {"parent": 0, "block": "each", "key": "eu/1", "records": {"a": {"outputs": {"n": 2}}}},
        {"parent": 0, "block": "inner", "key": None, "records": {"a": {"inputs": {"n": 4}, "outputs": {}}}},
        {"parent": 0, "block": "inner", "key": [], "records": 7},
    )
    item = 'each["eu/1"]'
    blocks = [
        block("each"),
        block(item, "each", "eu/1"),
        block(f"{item}/a", item),
        block("inner"),
        block("inner/a", "inner"),
    ]
    found = given_to(state, [*blocks, block("gone"), block("gone/a", "gone")], unmasked)
    assert {path: [one.text for one in (*it.inputs, *it.outputs)] for path, it in found.items()} == {
        item: ["1"],
        f"{item}/a": ["2"],
        "inner": ["3"],
        "inner/a": ["4"],
    }
    fields = {"context": state.context, "workflow_stack": state.workflow_stack}
    assert follow(fields, found[f"{item}/a"].pointer)[1] == {"outputs": {"n": 2}}
    assert follow(fields, found[item].pointer)[1] == {"inputs": {"n": 1}}


def test_there_is_an_end_to_what_is_shown() -> None:
    """Of one block, and of all, of which those that failed come first; of what failed the end of a text is there."""
    log = "x" * 5_000 + "\nno such host\n"
    large = {f"n{number}": number for number in range(50)}
    records: dict[str, Any] = {f"b{number}": {"inputs": large, "outputs": {"log": log}} for number in range(400)}
    blocks = [block(path, status="failed" if path == "b399" else "succeeded") for path in records]
    found = given_to(state_with(records), blocks, unmasked)
    assert found.keys() == records.keys()
    assert sum(len(one.inputs) + len(one.outputs) for one in found.values()) == 1_500
    assert (len(found["b399"].inputs), found["b399"].outputs[0].text[-12:]) == (6, "no such host")
    assert len(found["b399"].outputs[0].text) < len(log) / 2
    assert found["b0"].outputs[0].text.startswith('"xxx')
    assert not any(one.is_whole for one in found.values())
    odd = given_to(state_with({"a": {"inputs": [1], "outputs": "x"}, "b": 7}), [block("a"), block("b")], unmasked)
    assert [(one.inputs, one.outputs, one.is_whole) for one in odd.values()] == [((), (), False)]
    assert given_to(replace(FOREIGN, context={}), [block("a")], unmasked) == {}


async def test_a_run_s_page_tells_what_went_in_and_what_came_out(runs_file: Path, tmp_path: Path) -> None:
    """Its inputs beside its outputs, and those of each block; what a failed one wrote stands open."""
    await run_workflow(runs_file, tmp_path, "greet", "r1", who="Ann")
    async with SQLAlchemyCheckpointStore(runs_file) as store:
        command = "seq 3 >&2; echo 'no <b>host' >&2; exit 1"
        await WorkflowExecutor(store).execute_workflow(
            text({"id": "a", "type": "Shell", "inputs": {"command": command}}), run_id="r2"
        )
    async with visiting(runs_file) as visitor:
        good, bad = await visitor.get("/ui/run?id=r1"), await visitor.get("/ui/run?id=r2")
        assert 'Started with who "Ann"' in text_of(good)
        assert "path=%2Fcontext%2Fblocks%2F" in good.text
        assert 'class="given"' in good.text
        assert "-failed" not in good.text
        assert 'command "seq 3' in text_of(bad)
        assert "<pre>1\n2\n3\nno &lt;b&gt;host</pre>" in bad.text
        assert bad.text.partition('class="given"')[2].partition(">")[0].endswith('-failed" open')
        assert "Started with" not in text_of(bad)


async def test_a_fork_s_page_tells_what_the_other_run_had_done(runs_file: Path, tmp_path: Path) -> None:
    """It has a row, and no bar; and how long what is at work is held is told with its end."""
    paused = await run_workflow(runs_file, tmp_path, "approve", "r1")
    async with SQLAlchemyCheckpointStore(runs_file) as store:
        await WorkflowExecutor(store).fork(paused.checkpoint_id or "", run_id="r2")
        state = replace(FOREIGN, checkpoint_id="c1", run_id="r3", paused_block_id=None)
        await store.save_checkpoint(state, owner="somebody", lease_seconds=90)
    async with visiting(runs_file) as visitor:
        said = text_of(await visitor.get("/ui/run?id=r2"))
        assert "in the run it was forked from" in said.partition("Blocks")[2]
        assert "1 was done in the run it was forked from, and has no bar" in said
        held = text_of(await visitor.get("/ui/run?id=r3"))
        assert "UTC (in 90 s) unless it renews its lease" in held.replace("89 s", "90 s")
        assert "May have begun: its turn has come" in held
