"""Somebody looks through a state, and at what differs between two."""

import asyncio
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.server.ui.visiting import Visitor, run_workflow, text_of, visiting
from workflows_mcp.engine.comparing import Comparison, compare_checkpoints
from workflows_mcp.persistence.store import create_checkpoint_store
from workflows_mcp.server.ui.paths import path_to
from workflows_mcp.testing import make_state
from workflows_mcp.testing.values import nested

XSS = "<img src=x onerror=alert(1)>"

CONTEXT: dict[str, Any] = {
    "many": {f"key {number}": number for number in range(250)},
    "text": "first line\n" + "x" * 50_000,
    "deep": nested(90),
    f"a/b~{XSS}": {"hunter22": ["hunter22 <script>", "\u202e"], "long enough to be folded": "y" * 200},
    "": {"n": 1},
}


async def fill(database: Path | str) -> None:
    """Two checkpoints of a run, and one of another."""
    async with create_checkpoint_store(str(database)) as store:
        later = {**CONTEXT, "many": {**CONTEXT["many"], "key 3": 3.0, "new": XSS}, "text": f"{CONTEXT['text']}more"}
        del later["deep"]
        await store.save_checkpoint(make_state("c/1", run_id="r 1", created_at=1.0, context=CONTEXT))
        await store.save_checkpoint(make_state("c/2", run_id="r 1", created_at=2.0, context=later), follows="c/1")
        await store.save_checkpoint(make_state(XSS, run_id="r 2", created_at=3.0, workflow_name=XSS))


def links(text: str, label: str) -> list[str]:
    """Where the links with a label lead."""
    return [html.unescape(found) for found in re.findall(rf'<a[^>]* href="([^"]*)"[^>]*>{re.escape(label)}', text)]


async def test_a_state_is_looked_through_by_links_alone(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to any value, part by part; what it holds is text, and no secret is shown."""
    monkeypatch.setenv("WORKFLOW_SECRET_KEY", "hunter22")
    await fill(database_url)
    async with visiting(database_url) as visitor:
        page = await visitor.get("/ui/state?checkpoint=c%2F1")
        assert "of checkpoint c/1 of run r 1" in text_of(page)
        assert "many {250 keys}" in text_of(page)
        assert len(page.content) < 60_000
        odd = await visitor.get("/ui/state?checkpoint=c%2F1&path=/context/a~1b~0" + XSS.replace(" ", "%20"))
        assert "*** <script>" in text_of(odd)
        assert "\\u202e" in text_of(odd)
        for shown in (page, odd):
            assert XSS not in shown.text
            assert "hunter22" not in shown.text
        keys = await visitor.get("/ui/state?checkpoint=c%2F1&path=/context/many")
        assert ("key 99 99" in text_of(keys), "key 100 100" in text_of(keys)) == (True, False)
        [more] = links(keys.text, "Show more")
        rest = await visitor.get(more)
        assert ("key 99 99" in text_of(rest), "key 100 100" in text_of(rest)) == (False, True)
        [before] = links(rest.text, "Before these")
        assert "key 0 0" in text_of(await visitor.get(before))
        part = await visitor.get(more, **{"hx-request": "true"})
        assert ("<html" in part.text, "key 100" in part.text, part.text.count("<li")) == (False, True, 101)
        assert (await visitor.get(links(odd.text, "context")[0])).status_code == 200
        await differences_are_shown(visitor)


async def differences_are_shown(visitor: Visitor) -> None:
    """In three groups, by path; with what it takes to look closer."""
    page = await visitor.get("/ui/diff?a=c%2F2")
    said = text_of(page)
    assert "2 added" not in said
    assert "1 added 2 changed 1 removed" in said
    assert said.index("+ context.many.new") < said.index("~ context.many.key 3 Before 3 After 3.0")
    assert "- context.deep" in said
    assert '"…' in said
    assert XSS not in page.text
    assert "workflows-mcp checkpoints diff c/2" in said
    [swap] = links(page.text, "Swap")
    assert "1 added 2 changed 1 removed" in text_of(await visitor.get(swap))
    changed = text_of(await visitor.get(links(page.text, "context.many.key 3")[0]))
    assert "number, 3 bytes 3.0 " in changed
    removed = await visitor.get(links(page.text, "context.deep")[0])
    assert "of checkpoint c/1" in text_of(removed)
    other = text_of(await visitor.get("/ui/diff?a=c%2F1&b=" + XSS.replace(" ", "%20")))
    assert "between runs of different workflows" in other
    assert "the first of its run" in text_of(await visitor.get("/ui/diff?a=c%2F1"))
    assert "Nothing differs" in text_of(await visitor.get("/ui/diff?a=c%2F1&b=c%2F1"))


async def test_a_secret_that_is_a_word_of_a_state_itself_hides_no_page(
    runs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it break the ways to what is masked."""
    monkeypatch.setenv("WORKFLOW_SECRET_DB", "workflow")
    async with create_checkpoint_store(str(runs_file)) as store:
        for number in (1, 2):
            state = make_state(f"workflow-{number}", run_id="workflow", created_at=number, current_wave_index=number)
            await store.save_checkpoint(state)
    async with visiting(runs_file) as visitor:
        shown = await visitor.get("/ui/state?checkpoint=workflow-1")
        assert "workflow_stack" in text_of(shown)
        assert (await visitor.get(links(shown.text, "***")[0])).status_code == 200
        page = await visitor.get("/ui/diff?a=workflow-2")
        assert "between two checkpoints of run ***" in text_of(page)
        assert "~ current_wave_index Before 1 After 2" in text_of(page)
        for label in ("***", "current_wave_index", "Swap"):
            assert (await visitor.get(links(page.text, label)[0])).status_code == 200


async def test_one_comparison_is_made_at_a_time(runs_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """States may be large; however many people ask, no more than two of them are in memory."""
    await fill(runs_file)
    at_work: list[str] = []
    most = []

    async def compare(*args: Any, **options: Any) -> Comparison:
        at_work.append("")
        most.append(len(at_work))
        await asyncio.sleep(0.01)
        try:
            return await compare_checkpoints(*args, **options)
        finally:
            at_work.pop()

    monkeypatch.setattr("workflows_mcp.server.ui.difference.compare_checkpoints", compare)
    async with visiting(runs_file) as visitor:
        pages = await asyncio.gather(*(visitor.get("/ui/diff?a=c%2F2") for _ in range(3)))
    assert [page.status_code for page in pages] == [200] * 3
    assert most == [1] * 3


async def test_a_state_is_downloaded_as_a_file_without_secrets(
    runs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole or in part, under a name that a file may have."""
    monkeypatch.setenv("WORKFLOW_SECRET_KEY", "hunter22")
    await fill(runs_file)
    async with visiting(runs_file) as visitor:
        whole = await visitor.get("/ui/state.json?checkpoint=c%2F1")
        assert whole.headers["content-disposition"] == 'attachment; filename="c_1.json"'
        assert whole.headers["content-type"] == "application/json"
        state = json.loads(whole.text)
        assert (state["checkpoint_id"], state["context"]["text"]) == ("c/1", CONTEXT["text"])
        assert "hunter22" not in whole.text
        part = await visitor.get("/ui/state.json?checkpoint=c%2F1&path=/context/many")
        assert json.loads(part.text) == CONTEXT["many"]


async def test_what_another_program_has_named_and_nested_is_still_shown(
    runs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file has a short name that is not hidden; what is too deep for a file is told so; a long way is cut."""
    names = {"...": "state", ".a/../b": "a_.._b", "é" * 9: "_", "x" * 200: "x" * 80}
    async with create_checkpoint_store(str(runs_file)) as store:
        for name in names:
            await store.save_checkpoint(make_state(name, context={"deep": nested(90)}))
    async with visiting(runs_file) as visitor:
        for name, file in names.items():
            sent = await visitor.get(path_to("state.json", checkpoint=name))
            named = sent.headers["content-disposition"].partition('filename="')[2].removesuffix('.json"')
            assert named == file, name
        way = path_to("state", checkpoint="...", path="/context/deep" + "/in" * 80)
        assert "… 75 more …" in text_of(await visitor.get(way)), "three steps of it at its begin, and five at its end"

        def fail(_: object) -> bytes:
            raise RecursionError

        monkeypatch.setattr("workflows_mcp.server.ui.states._json_of", fail)
        deep = await visitor.get(path_to("state.json", checkpoint="..."))
        assert (deep.status_code, "too deeply to be downloaded" in deep.text) == (422, True)


async def test_what_is_not_there_is_said_with_a_way_on(runs_file: Path, tmp_path: Path) -> None:
    """No checkpoint, a path to nothing, one that is no JSON pointer, no number; in a part in a few words."""
    done = await run_workflow(runs_file, tmp_path, "greet", "r1", who="x")
    async with visiting(runs_file) as visitor:
        base = f"state?checkpoint={done.checkpoint_id}"
        for path, status, text in (
            ("state?checkpoint=nope", 404, "There is no checkpoint 'nope'"),
            ("state", 400, "needs 'checkpoint'"),
            ("diff?a=nope", 404, "It is not there"),
            ("diff", 400, "needs 'a'"),
            (f"{base}&path=/context/nope", 404, "In this state there is no context.nope."),
            (f"{base}&path=context", 400, "begins with a slash"),
            (f"{base}&from=-1", 400, "takes the number"),
            (f"{base}&from=9999999999999999999", 400, "takes the number"),
            (f"{base}&from=99", 200, "nothing more"),
        ):
            page = await visitor.get(f"/ui/{path}")
            assert (page.status_code, text in text_of(page)) == (status, True), path
        part = await visitor.get(f"/ui/{base}&path=/nope", **{"hx-request": "true"})
        assert (part.status_code, "<html" in part.text) == (404, False)
