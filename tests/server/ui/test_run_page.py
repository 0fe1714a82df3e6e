"""Somebody looks at one run: as it is, as it was, and does something with it."""

import asyncio
import contextlib
import html
import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.engine.probe import text
from tests.executor.test_run_details import FOREIGN
from tests.server.ui.visiting import Visitor, damage, run_workflow, text_of, visiting
from workflows_mcp import CheckpointMetadata, CheckpointStore, WorkflowExecutor
from workflows_mcp.persistence.store import create_checkpoint_store
from workflows_mcp.server.ui import history
from workflows_mcp.server.ui.paths import UiOptions

ODD = "a/b?c=<script>alert(1)</script>&d='\""

PART = {"hx-request": "true"}


@asynccontextmanager
async def opened(database: Path | str) -> AsyncIterator[CheckpointStore]:
    """The store that a server has, for whoever looks past it."""
    async with create_checkpoint_store(str(database)) as store:
        yield store


async def checkpoints_of(database: Path | str, run_id: str) -> Sequence[CheckpointMetadata]:
    """All checkpoints of a run, the first one first."""
    async with opened(database) as store:
        return (await store.list_checkpoints(run_id=run_id))[::-1]


async def save_foreign(database: Path | str, count: int) -> None:
    """A run of another program, whose checkpoints follow each other."""
    async with opened(database) as store:
        previous = None
        for number in range(1, count + 1):
            state = replace(FOREIGN, checkpoint_id=f"c{number}", run_id="foreign", created_at=float(number))
            previous = await store.save_checkpoint(state, follows=previous)


def slider_of(page: httpx2.Response) -> tuple[str, str]:
    """Where the slider is, and its end."""
    found = re.search(r'id="slide" name="n" min="1" max="(\d+)" step="1" value="(\d+)"', page.text)
    return ("", "") if found is None else (found[2], found[1])


async def test_a_run_is_shown_with_its_question_its_picture_and_its_blocks(database_url: str, tmp_path: Path) -> None:
    """What it asks can be answered there; each thing that can be done is told as a command, too."""
    paused = await run_workflow(database_url, tmp_path, "approve", ODD)
    async with visiting(database_url) as visitor:
        page = await visitor.get(f"/ui/run?id={quote(ODD, safe='')}")
        said = text_of(page)
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert not re.search(r"<script(?![^>]* src=)|\sstyle=|\son\w+=|hx-on", page.text)
        assert f"{ODD} a run of approve" in said
        assert all(f">{choice}</button>" in page.text for choice in ("yes", "no"))
        assert "build: succeeded (Shell)" in said
        assert "ask: paused (Prompt)" in said
        assert "3 blocks: 1 succeeded, 1 paused, 1 not begun" in said
        assert 'role="img"' in page.text
        assert re.search(r"deploy Shell ○ not begun ask", said)
        assert f"workflows-mcp resume {paused.checkpoint_id}" in said
        assert "workflows-mcp runs cancel 'a/b?c=<script>alert(1)</script>&d='\"'\"'\"'" in said
        assert slider_of(page) == ("3", "3")


async def test_a_run_that_is_over_tells_how_it_ended(runs_file: Path, tmp_path: Path) -> None:
    """Its outputs, or why it failed; and the page does not ask any more what it is doing."""
    await run_workflow(runs_file, tmp_path, "greet", "r1", who="<b>Ann</b>")
    await run_workflow(runs_file, tmp_path, "fail", "r2")
    async with visiting(runs_file) as visitor:
        good, bad = await visitor.get("/ui/run?id=r1"), await visitor.get("/ui/run?id=r2")
        assert "said hello <b>Ann</b>" in text_of(good)
        assert "<b>Ann" not in good.text
        assert "stderr ends with: no such host" in text_of(bad)
        assert "Try again what failed" in text_of(bad)
        assert "Begin a new run here" not in text_of(good)
        assert not any("every 2s" in page.text or "Cancel the run" in page.text for page in (good, bad))


async def test_a_run_is_shown_as_it_was_at_each_checkpoint(runs_file: Path, tmp_path: Path) -> None:
    """By its address, by steps, and by the slider without a script; with the way to what has changed."""
    await run_workflow(runs_file, tmp_path, "approve", "r1")
    first, second, third = [one.checkpoint_id for one in await checkpoints_of(runs_file, "r1")]
    async with visiting(runs_file) as visitor:
        page = await visitor.get(f"/ui/run?id=r1&at={second}")
        said = text_of(page)
        assert "build: succeeded (Shell)" in said
        assert "ask: not begun (Prompt)" in said
        assert "? paused" in said, "what it is doing now is told as well"
        only_now = r'<div id="run" data-page="[^"]*">\s*<div id="now" hx-get="[^"]*only=now'
        assert re.search(only_now, page.text), "what is past does not go on, what is now does"
        assert slider_of(page) == ("2", "3")
        for there in (f"at={first}", f"at={third}", "id=r1"):
            assert there in page.text
        assert f"/ui/diff?a={first}&amp;b={second}" in page.text
        assert f"/ui/state?checkpoint={second}" in page.text
        assert "current_wave_index 1" in said, "the state is there, too"
        visitor.http.follow_redirects = False
        moved = await visitor.get(f"/ui/run?id=r1&n=1&count=3&of={third}")
        assert (moved.status_code, moved.headers["location"]) == (303, f"/ui/run?id=r1&at={first}")
        newest = await visitor.get(f"/ui/run?id=r1&n=3&count=3&of={third}")
        assert newest.headers["location"] == "/ui/run?id=r1"
        part = await visitor.get(f"/ui/run?id=r1&n=1&count=3&of={third}", **PART)
        assert (part.status_code, "<html" in part.text, slider_of(part)) == (200, False, ("1", "3"))
        assert f'data-page="/ui/run?id=r1&amp;at={first}"' in part.text


async def test_a_slider_that_is_behind_still_means_the_same_checkpoint(runs_file: Path) -> None:
    """Others were saved since it was made, or the oldest were deleted; and one that is no number is told so."""
    await save_foreign(runs_file, 6)
    async with visiting(runs_file) as visitor:
        visitor.http.follow_redirects = False
        moved = await visitor.get("/ui/run?id=foreign&n=2&count=4&of=c4")
        assert moved.headers["location"] == "/ui/run?id=foreign&at=c2"
        async with opened(runs_file) as store:
            assert await store.delete_checkpoint("c1")
        moved = await visitor.get("/ui/run?id=foreign&n=2&count=4&of=c4")
        assert moved.headers["location"] == "/ui/run?id=foreign&at=c2"
        moved = await visitor.get("/ui/run?id=foreign&n=1&count=4&of=c4")
        assert moved.headers["location"] == "/ui/run?id=foreign&at=c2", "the nearest that is left"
        moved = await visitor.get("/ui/run?id=foreign&n=99&count=4&of=c4")
        assert moved.headers["location"] == "/ui/run?id=foreign"
        for odd in ("n=x&count=4", "n=1", "n=1&count=٣", "n=99999999999&count=1"):
            assert (await visitor.get(f"/ui/run?id=foreign&{odd}&of=c4")).status_code == 400, odd


async def test_a_long_history_comes_in_stretches(runs_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest on the slider, those before them on a page of their own; one that is asked for is found anywhere."""
    monkeypatch.setattr(history, "MOST_IN_HISTORY", 5)
    await save_foreign(runs_file, 12)
    async with visiting(runs_file) as visitor:
        page = await visitor.get("/ui/run?id=foreign")
        assert slider_of(page) == ("5", "5")
        assert "of the newest 5" in text_of(page)
        earlier = re.search(r'href="([^"]*before=[^"]*)">Earlier', page.text)
        assert earlier is not None
        page = await visitor.get(earlier[1].replace("&amp;", "&"))
        assert (slider_of(page), "at=c6" in page.text) == (("5", "5"), True)
        assert "of these 5" in text_of(page)
        page = await visitor.get("/ui/run?id=foreign&at=c8")
        assert "/ui/diff?a=c7&amp;b=c8" in page.text, "the one before it is on another page"
        page = await visitor.get("/ui/run?id=foreign&at=c1")
        assert (slider_of(page), "Difference to the one before" in page.text) == (("1", "2"), False)
        gone = await visitor.get("/ui/run?id=foreign&at=c13")
        assert (gone.status_code, "belongs to another run" in gone.text) == (404, True)


async def test_a_run_of_one_checkpoint_has_no_slider(runs_file: Path) -> None:
    """Of another program's run it is told what its waves tell, and why no more."""
    await save_foreign(runs_file, 1)
    async with visiting(runs_file) as visitor:
        page = await visitor.get("/ui/run?id=foreign")
        assert (slider_of(page), page.status_code) == (("", ""), 200)
        said = text_of(page)
        assert "No more is known of its blocks than this" in said
        assert "a: done" in said
        assert "● running" in said, "nobody has ever held it, so nobody has left it behind"
        assert "takes no lease" in said
        assert not any(text in said for text in ("abandoned", "renews its lease", "workflows-mcp recover"))
        missing = await visitor.get("/ui/run?id=nope")
        assert (missing.status_code, "There is no such run" in missing.text) == (404, True)
        assert (await visitor.get("/ui/run?id=foreign&before=x")).status_code == 400
        assert (await visitor.get("/ui/run")).status_code == 400


async def test_a_checkpoint_that_cannot_be_read_is_told_and_hides_no_other(runs_file: Path, tmp_path: Path) -> None:
    """Neither one in the history, nor the newest; nothing of what is in it is shown."""
    await run_workflow(runs_file, tmp_path, "approve", "r1")
    first, second, third = [one.checkpoint_id for one in await checkpoints_of(runs_file, "r1")]
    async with visiting(runs_file) as visitor:
        damage(runs_file, second)
        page = await visitor.get(f"/ui/run?id=r1&at={second}")
        assert (page.status_code, "This checkpoint cannot be read" in page.text) == (200, True)
        assert f"at={first}" in page.text
        assert "Deploy?" in page.text, "what it asks now can be answered"
        damage(runs_file, third)
        page = await visitor.get("/ui/run?id=r1")
        assert (page.status_code, "Its newest checkpoint cannot be read" in page.text) == (200, True)
        assert "build: not begun" in text_of(await visitor.get(f"/ui/run?id=r1&at={first}"))
        await save_foreign(runs_file, 1)  # it runs, so that the page asks whether this server works on it
        damage(runs_file, "c1")
        page = await visitor.get("/ui/run?id=foreign")
        assert (page.status_code, "Its newest checkpoint cannot be read" in page.text) == (200, True)


async def test_columns_that_no_store_wrote_are_shown_as_far_as_they_go(runs_file: Path, tmp_path: Path) -> None:
    """A time that is none, a size that is text, a status of somebody else's."""
    await save_foreign(runs_file, 2)
    paused = await run_workflow(runs_file, tmp_path, "approve", "r1")
    async with opened(runs_file) as store:
        assert (await WorkflowExecutor(store).resume_workflow(paused.checkpoint_id or "", "yes")).is_success
    with contextlib.closing(sqlite3.connect(runs_file)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = on")
        connection.execute(
            "UPDATE checkpoints SET created_at = 'soon', full_bytes = 'x', status = '<b>', pinned = 7, "
            "current_wave_index = 'one', parent_checkpoint_id = x'00ff', encoding = 'what' "
            "WHERE checkpoint_id IN ('c1', ?)",
            (paused.checkpoint_id,),
        )
        connection.execute("UPDATE checkpoints SET lease_expires_at = 'never' WHERE checkpoint_id = 'c2'")
    async with visiting(runs_file) as visitor:
        for query in ("foreign", "foreign&at=c1", "foreign&at=c2", "r1", f"r1&at={paused.checkpoint_id}"):
            path = f"/ui/run?id={query}"
            page = await visitor.get(path)
            assert (page.status_code, "<b>" in page.text) == (200, False), path


async def test_a_page_that_is_open_changes_only_when_the_run_does(runs_file: Path, tmp_path: Path) -> None:
    """While nothing happens it is sent nothing; and once the run is over it stops to ask."""
    paused = await run_workflow(runs_file, tmp_path, "approve", "r1")
    async with visiting(runs_file) as visitor:
        for _ in range(20):  # the age that is shown may change just then
            page = await visitor.get("/ui/run?id=r1")
            asks = re.search(r'hx-get="([^"]*seen=\w+)" hx-trigger="every 2s"', page.text)
            assert asks is not None
            poll = asks[1].replace("&amp;", "&")
            same = await visitor.get(poll, **PART)
            if same.status_code == 204:
                break
        assert (same.status_code, same.text) == (204, "")
        changed = await visitor.get(f"{poll}x", **PART)
        assert (changed.status_code, "<html" in changed.text, 'id="run"' in changed.text) == (200, False, True)
        await visitor.send(f"/ui/answer?checkpoint={paused.checkpoint_id}", choice="0")
        async with opened(runs_file) as store:
            assert (await WorkflowExecutor(store).wait_for_run("r1", 10)).is_success
        over = await visitor.get(poll, **PART)
        assert (over.status_code, "hx-trigger" in over.text.partition(">")[0]) == (200, False)
        assert "✓ success" in text_of(over)


async def test_beside_what_is_past_only_what_tells_of_now_keeps_up(runs_file: Path, tmp_path: Path) -> None:
    """It is sent nothing while nothing happens; once the run is over it stops to ask, and once it is gone says so."""
    paused = await run_workflow(runs_file, tmp_path, "approve", "r1")
    [first, *_] = await checkpoints_of(runs_file, "r1")
    async with visiting(runs_file) as visitor:
        for _ in range(20):  # the age that is shown may change just then
            page = await visitor.get(f"/ui/run?id=r1&at={first.checkpoint_id}")
            [poll] = re.findall(r'hx-get="([^"]*seen=\w+)"', page.text)
            same = await visitor.get(html.unescape(poll), **PART)
            if same.status_code == 204:
                break
        assert (same.status_code, same.text) == (204, "")
        await visitor.send(f"/ui/answer?checkpoint={paused.checkpoint_id}", choice="0")
        async with opened(runs_file) as store:
            assert (await WorkflowExecutor(store).wait_for_run("r1", 10)).is_success
            over = await visitor.get(html.unescape(poll), **PART)
            assert over.text.strip().startswith('<div id="now">')
            assert ("✓ success" in text_of(over), "slide" in over.text) == (True, False)
            await store.delete_run("r1")
        gone = await visitor.get(html.unescape(poll), **PART)
        assert gone.status_code == 404
        assert all(part in gone.text for part in ("<h1>There is no such run</h1>", 'href="/ui"'))


async def test_no_link_has_a_page_say_what_was_not_done(runs_file: Path, tmp_path: Path) -> None:
    """Only what is stored bears out that somebody has answered, cancelled, or begun a run anew."""
    paused = await run_workflow(runs_file, tmp_path, "approve", "r1")
    [first, *_] = await checkpoints_of(runs_file, "r1")
    async with visiting(runs_file) as visitor:
        for given in ("cancelled=yes", "forked=yes", f"answered={paused.checkpoint_id}", "answered=x"):
            page = await visitor.get(f"/ui/run?id=r1&{given}")
            assert '<p class="told" role="status"></p>' in page.text, given
        await visitor.send(f"/ui/answer?checkpoint={paused.checkpoint_id}", choice="0")
        answered = await visitor.get(f"/ui/run?id=r1&answered={paused.checkpoint_id}")
        assert "Your answer was taken" in answered.text
        assert "was taken" not in (await visitor.get(f"/ui/run?id=r1&answered={first.checkpoint_id}")).text


async def test_a_run_that_goes_on_while_its_page_is_made_is_not_taken_for_past(
    runs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its page would never change again."""
    await save_foreign(runs_file, 2)

    async def find_later(store: CheckpointStore, run_id: str, **asked: Any) -> history.History | None:
        state = replace(FOREIGN, checkpoint_id="c3", run_id=run_id, created_at=3.0, paused_block_id="b")
        await store.save_checkpoint(state, follows="c2")
        return await history.find_history(store, run_id, **asked)

    monkeypatch.setattr("workflows_mcp.server.ui.run.find_history", find_later)
    async with visiting(runs_file) as visitor:
        page = await visitor.get("/ui/run?id=foreign")
        assert ("every 2s" in page.text, "Back to now" in page.text, 'id="question"' in page.text) == (
            True,
            False,
            True,
        )
        assert slider_of(page) == ("3", "3")


async def test_a_run_that_goes_on_here_is_shown_as_it_is_by_now(runs_file: Path, tmp_path: Path) -> None:
    """A block that has begun is at work, though no checkpoint says so yet; and each look is a new one."""
    gate, mark = tmp_path / "gate", tmp_path / "mark"
    await run_workflow(runs_file, tmp_path, "anything", "r0")  # writes the workflows
    async with visiting(runs_file, template_paths=[tmp_path / "library"]) as visitor:
        fork = await begun(visitor, runs_file, gate, mark)
        page = await visitor.get(f"/ui/run?id={fork}")
        assert "wait: running (Shell)" in text_of(page)
        assert "current_wave_index" not in text_of(page), "a state that is not saved yet is shown by no tree"
        assert "every 2s" in page.text
        assert (await visitor.get(f"/ui/run?id={fork}&seen=", **PART)).status_code == 200
        cancelled = await visitor.send(f"/ui/cancel?id={fork}")
        assert "The run is cancelled" in text_of(cancelled)
        assert "- cancelled" in text_of(cancelled)


async def begun(visitor: Visitor, database: Path, gate: Path, mark: Path) -> str:
    """A run that waits for a file, begun by a fork of one that was cancelled."""
    async with opened(database) as store:
        executor = WorkflowExecutor(store)
        source = text(
            {
                "id": "wait",
                "type": "Shell",
                "inputs": {"command": f"echo x >> {mark}; while [ ! -e {gate} ]; do sleep 0.02; done"},
            },
            name="wait_for",
        )
        await executor.start_workflow(source, run_id="r1")
        result = await executor.cancel("r1")
    mark.unlink(missing_ok=True)
    await visitor.get(f"/ui/fork?checkpoint={result.checkpoint_id}")
    page = await visitor.send(f"/ui/fork?checkpoint={result.checkpoint_id}", run_id="", inputs="")
    assert "This new run begins where the other one was" in text_of(page)
    while not mark.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    return str(page.url.params["id"])


async def test_a_run_is_cancelled_once_it_was_asked_whether_it_should_be(runs_file: Path, tmp_path: Path) -> None:
    """By a form of its own; one that is over stays what it is, and that is told."""
    await run_workflow(runs_file, tmp_path, "approve", "r1")
    await run_workflow(runs_file, tmp_path, "greet", "r2", who="x")
    async with visiting(runs_file) as visitor:
        page = await visitor.get("/ui/run?id=r1")
        assert '<details id="cancelling"><summary' in page.text
        assert (await visitor.get("/ui/cancel?id=r1")).status_code == 405
        done = await visitor.send("/ui/cancel?id=r1")
        assert (done.status_code, "- cancelled" in text_of(done)) == (200, True)
        assert (await visitor.send("/ui/cancel?id=r1")).status_code == 200, "to ask again is safe"
        late = await visitor.send("/ui/cancel?id=r2")
        assert (late.status_code, "It ended as a success" in late.text) == (409, True)
        assert (await visitor.send("/ui/cancel?id=nope")).status_code == 404


async def test_a_new_run_begins_where_another_one_was(runs_file: Path, tmp_path: Path) -> None:
    """Under an id and with inputs of its own; what cannot be is told beside what was typed, and begins nothing."""
    await run_workflow(runs_file, tmp_path, "greet", "r1", who="Ann")
    first, *_, last = [one.checkpoint_id for one in await checkpoints_of(runs_file, "r1")]
    path = f"/ui/fork?checkpoint={first}"
    async with visiting(runs_file) as visitor:
        form = await visitor.get(path)
        assert '{ "who": "Ann" }' in text_of(form), "what may differ is there to be changed"
        assert "--input NAME=VALUE" in text_of(form)
        assert f"workflows-mcp runs fork {first}" in text_of(form)
        for inputs, flaw in (
            ("{who: </textarea>}", 'such as {"version": "1.4.3"}; what was typed is no JSON'),
            ('["x"]', 'such as {"version": "1.4.3"}; what was typed is of another kind: list'),
            ('{"who": NaN}', "hold NaN"),
            ("[" * 100_000, "nested too deeply"),
            ('{"nobody": 1}', "nobody"),
            ('{"who": []}', "who"),
        ):
            wrong = await visitor.send(path, run_id="r2", inputs=inputs)
            assert (wrong.status_code, flaw in text_of(wrong)) == (422, True), flaw
            assert 'value="r2"' in wrong.text
            assert inputs[:9].replace("<", "&lt;") in wrong.text.replace("&#34;", '"')
        assert (await visitor.send(path, run_id="r1", inputs="")).status_code == 422, "it is there already"
        assert (await visitor.send(path, run_id="x" * 600, inputs="")).status_code == 422
        assert await checkpoints_of(runs_file, "r2") == []
        page = await visitor.send(path, run_id=" r2 ", inputs='{"who": "Bob"}')
        async with opened(runs_file) as store:
            assert (await WorkflowExecutor(store).wait_for_run("r2", 10)).outputs == {"said": "hello Bob"}
        assert page.url.params["id"] == "r2"
        assert "Move the slider back" in text_of(await visitor.get("/ui/run?id=r1"))
        over = await visitor.get(f"/ui/fork?checkpoint={last}")
        assert (over.status_code, "nothing left to do" in over.text) == (409, True)
        assert (await visitor.get("/ui/fork?checkpoint=gone")).status_code == 404


async def test_no_secret_is_shown_on_a_run_s_page(
    runs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that was none when it was saved, and one that somebody types where it has no place."""
    paused = await run_workflow(runs_file, tmp_path, "approve", "r1")
    await run_workflow(runs_file, tmp_path, "greet", "r2", who="hunter2")
    first = (await checkpoints_of(runs_file, "r2"))[0].checkpoint_id
    monkeypatch.setenv("WORKFLOW_SECRET_PASSWORD", "hunter2")
    monkeypatch.setenv("WORKFLOW_SECRET_QUESTION", "Deploy?")
    async with visiting(runs_file) as visitor:
        for path in ("/ui", "/ui/run?id=r1", "/ui/run?id=r2", f"/ui/fork?checkpoint={first}"):
            page = await visitor.get(path)
            assert ("hunter2" in page.text, "Deploy?" in page.text, "***" in page.text) == (False, False, True), path
        refused = await visitor.send(f"/ui/fork?checkpoint={first}", run_id="r3", inputs='{"who": "hunter2"}')
        assert (refused.status_code, "an input holds a secret" in text_of(refused).lower()) == (422, True)
        # It goes back to whoever has just typed it; a mask in its place would be sent as the input.
        assert refused.text.count("hunter2") == 1
        assert "&#34;hunter2&#34;}</textarea>" in refused.text
    assert paused.checkpoint_id


async def test_read_only_pages_tell_only_the_commands(runs_file: Path, tmp_path: Path) -> None:
    """There is nothing to be sent, and what is sent all the same is refused."""
    await run_workflow(runs_file, tmp_path, "approve", "r1")
    first = (await checkpoints_of(runs_file, "r1"))[0].checkpoint_id
    async with visiting(runs_file, UiOptions(read_only=True)) as visitor:
        page = await visitor.get("/ui/run?id=r1")
        assert 'method="post"' not in page.text
        assert "workflows-mcp runs cancel r1" in text_of(page)
        assert 'method="post"' not in (await visitor.get(f"/ui/fork?checkpoint={first}")).text
        for path in ("/ui/cancel?id=r1", f"/ui/fork?checkpoint={first}"):
            refused = await visitor.send(path, run_id="", inputs="")
            assert (refused.status_code, "read-only" in refused.text) == (403, True)
        assert "? paused" in text_of(await visitor.get("/ui/run?id=r1"))


async def test_names_of_blocks_and_items_are_text(runs_file: Path) -> None:
    """In pictures and tables, whatever another program has called them."""
    odd = "<img src=x onerror=alert(1)>\u202e"
    async with opened(runs_file) as store:
        state = replace(
            FOREIGN,
            run_id="r1",
            execution_waves=[[odd], ["b"]],
            completed_blocks=[odd],
            block_definitions={"b": {"type": odd, "depends_on": [odd]}},
            context={"error": odd, "outputs": {odd: odd}},
            workflow_name=odd,
        )
        await store.save_checkpoint(state)
    async with visiting(runs_file) as visitor:
        page = await visitor.get("/ui/run?id=r1")
        assert page.status_code == 200
        assert "<img src=x" not in page.text
        assert "\u202e" not in page.text
        assert page.text.count("&lt;img src=x") >= 6
