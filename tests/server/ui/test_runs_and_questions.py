"""Somebody looks at the runs, finds one that waits, and answers it."""

import asyncio
import contextlib
import html
import json
import re
import sqlite3
import time
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from tests.server.conversation import write_workflows
from tests.server.http.served import settings_of
from tests.server.ui.visiting import damage, run_workflow, text_of, visiting
from workflows_mcp import WorkflowExecutor, WorkflowResult
from workflows_mcp.engine.library import WorkflowLibrary
from workflows_mcp.persistence.keys import new_key
from workflows_mcp.persistence.store import create_checkpoint_store
from workflows_mcp.server.ui.paths import path_to
from workflows_mcp.testing import make_state

ODD = "a/b?c=<script>alert(1)</script>&d=\u202e%00 '\""


async def ended(database: Path | str, run_id: str) -> str:
    """What a run comes to."""
    async with create_checkpoint_store(str(database)) as store:
        return (await WorkflowExecutor(store).wait_for_run(run_id, 10)).status


async def test_runs_are_shown_newest_first_by_status_and_workflow(database_url: str, tmp_path: Path) -> None:
    """With what they ask, as text; a status or a cursor that is none is told."""
    await run_workflow(database_url, tmp_path, "greet", ODD, who="Ann")
    await run_workflow(database_url, tmp_path, "approve", "r2")
    await run_workflow(database_url, tmp_path, "fail", "r3")
    async with visiting(database_url) as visitor:
        page = await visitor.get("/ui")
        assert "<script>alert" not in page.text
        said = text_of(page)
        assert said.index("✗ failure r3 fail") < said.index("? paused r2 Deploy? approve")
        assert "1 waiting for an answer" in said
        assert "✓ success a/b?c=<script>alert(1)</script>&d=\\u202e%00 '\" greet" in said
        assert "r2" not in text_of(await visitor.get("/ui?status=failure"))
        assert "r3" not in text_of(await visitor.get("/ui?workflow=approve"))
        assert "No runs are like that" in text_of(await visitor.get("/ui?status=cancelled"))
        for query in ("status=done", "before=yesterday"):
            wrong = await visitor.get(f"/ui?{query}")
            assert (wrong.status_code, "All runs" in wrong.text) == (400, True)
        part = await visitor.get("/ui", **{"hx-request": "true"})
        assert ("<html" in part.text, "failure" in part.text) == (False, True)
        assert "✓ 1 success" in text_of(await visitor.get("/ui/counts"))


async def test_what_is_counted_above_the_runs_is_what_is_found_by_it(database_url: str) -> None:
    """A run that is held, one that its process left behind, and one that nobody ever held are told apart."""
    async with create_checkpoint_store(database_url) as store:
        for name in ("held", "left", "free"):
            lease = {} if name == "free" else {"owner": "me", "lease_seconds": 600.0}
            await store.save_checkpoint(make_state(name, run_id=f"{name}-run"), **lease)  # type: ignore[arg-type]
        await store.release_claim("left", "me")
    async with visiting(database_url) as visitor:
        said = text_of(await visitor.get("/ui"))
        assert "1 at work 1 abandoned" in said
        assert all(one in said for one in ("running held-run", "abandoned left-run", "running free-run"))
        for status, expected in (("at+work", "held"), ("abandoned", "left"), ("running", "free held")):
            found = (await visitor.get(f"/ui?status={status}")).text
            assert " ".join(name for name in ("free", "held", "left") if f"{name}-run" in found) == expected
        assert "● 2 running ! 1 abandoned" in text_of(await visitor.get("/ui/counts"))


async def test_many_runs_come_in_pages(runs_file: Path, tmp_path: Path) -> None:
    """From page to page, each once; only the first one keeps itself up to date."""
    async with create_checkpoint_store(str(runs_file)) as store:
        for number in range(52):
            executor = WorkflowExecutor(store, library=WorkflowLibrary([write_workflows(tmp_path)]))
            await executor.execute_workflow("anything", run_id=f"run-{number:02}")
    async with visiting(runs_file) as visitor:
        first = await visitor.get("/ui")
        older = first.text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        second = await visitor.get(older)
        assert ("run-02" in first.text, "run-01" in first.text) == (True, False)
        assert [f"run-{number:02}" in second.text for number in (0, 1, 2)] == [True, True, False]
        assert ("every 3s" in first.text, "every 3s" in second.text) == (True, False)


async def test_a_choice_is_a_button_and_its_answer_goes_on_with_the_run(database_url: str, tmp_path: Path) -> None:
    """Without a script: a form, and a page of what became of it."""
    paused = await run_workflow(database_url, tmp_path, "approve", "r1")
    async with visiting(database_url) as visitor:
        page = await visitor.get("/ui/waiting")
        assert '<button name="choice" value="1">no</button>' in page.text
        assert f"workflows-mcp resume {paused.checkpoint_id}" in text_of(page)
        visitor.http.follow_redirects = False
        sent = await visitor.send(f"/ui/answer?checkpoint={paused.checkpoint_id}", choice="1")
        assert (sent.status_code, sent.headers["location"].startswith("/ui/run?id=r1")) == (303, True)
        assert await ended(database_url, "r1") == "success"
        assert "Nothing waits for you" in (await visitor.get("/ui/waiting")).text


async def test_a_question_that_cannot_be_read_hides_no_other(runs_file: Path, tmp_path: Path) -> None:
    """One that is damaged, and one that is sealed with a key that this server lacks, stand there as such."""
    damaged = await run_workflow(runs_file, tmp_path, "approve", "damaged")
    damage(runs_file, damaged.checkpoint_id or "")
    await run_workflow(runs_file, tmp_path, "approve", "sound")
    key = SecretStr(new_key("elsewhere").entry)
    async with create_checkpoint_store(settings=settings_of(runs_file, encryption_keys=key)) as store:
        asks = {"paused_block_id": "ask", "pause_prompt": "Who knows?"}
        await store.save_checkpoint(make_state("c1", run_id="sealed", created_at=time.time(), **asks))
    async with visiting(runs_file) as visitor:
        page = await visitor.get("/ui/waiting")
        assert page.status_code == 200
        assert text_of(page).count("cannot be read") == 2
        assert [f'href="/ui/run?id={run}"' in page.text for run in ("damaged", "sound", "sealed")] == [True] * 3
        assert [page.text.count(part) for part in ('name="choice" value="0"', "Who knows?")] == [1, 0]


async def test_each_page_of_what_waits_says_when_there_is_more_and_only_then(runs_file: Path) -> None:
    """Where somebody who sees nothing hears it, and hears nothing else: how old the oldest one is changes always."""
    async with create_checkpoint_store(str(runs_file)) as store, visiting(runs_file) as visitor:

        async def ask(number: int) -> None:
            state = make_state(f"c{number}", run_id=f"r{number}", created_at=float(number), paused_block_id="ask")
            await store.save_checkpoint(state)

        async def heard(page: httpx2.Response) -> str:
            """What an open page is told when it looks again, of what a screen reader says."""
            found = re.search(r'id="lead"[^>]* hx-get="([^"]+)"', page.text)
            assert found is not None
            part = await visitor.get(html.unescape(found[1]), **{"hx-request": "true"})
            assert "The oldest question was asked" in part.text.partition("</span>")[2]
            return text_of(part).partition(" The oldest")[0]

        for number in range(1, 13):
            await ask(number)
        first = await visitor.get("/ui/waiting")
        [older] = re.findall(r'rel="next" href="([^"]+)"', first.text)
        second = await visitor.get(html.unescape(older))
        assert [page.text.count("<li class") for page in (first, second)] == [10, 2]
        assert [await heard(page) for page in (first, second)] == ["12 runs wait for an answer."] * 2
        await ask(13)
        news = "13 runs wait for an answer. There are new ones: show them"
        assert [await heard(page) for page in (first, second)] == [news] * 2


@pytest.mark.parametrize("error", [KeyError("hunter22"), json.JSONDecodeError("no hunter22", "hunter22", 0)])
async def test_a_fault_of_the_server_is_a_page_and_is_logged(
    runs_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """What the error says may be of what a run works on: it is in neither. A part of a page is told as one."""

    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("workflows_mcp.server.ui.runs.find_runs", fail)
    async with visiting(runs_file) as visitor:
        page = await visitor.get("/ui")
        assert (page.status_code, "<h1>The server failed</h1>" in page.text) == (500, True)
        assert 'href="/ui/health"' in page.text.partition("<main")[2]
        part = await visitor.get("/ui", **{"hx-request": "true"})
        assert (part.status_code, "<html" in part.text) == (500, False)
        assert "hunter22" not in page.text + part.text
    told = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert told == [f"a page could not be shown: unexpected {type(error).__name__}, a bug"] * 2


async def test_what_fails_while_a_form_is_taken_is_told_on_no_page(
    runs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of no known kind may quote what it failed with, though it is a `ValueError` as a wrong answer is."""
    asked = await run_workflow(runs_file, tmp_path, "anything", "r1")

    async def fail(*_: object, **__: object) -> None:
        raise json.JSONDecodeError("no hunter22", "hunter22", 0)

    monkeypatch.setattr(WorkflowExecutor, "start_resume", fail)
    monkeypatch.setattr(WorkflowExecutor, "start_fork", fail)
    async with visiting(runs_file) as visitor:
        await visitor.get("/ui/waiting")
        for page in ("answer", "fork"):
            failed = await visitor.send(path_to(page, checkpoint=asked.checkpoint_id), response="x", inputs="")
            assert (failed.status_code, "hunter22" in failed.text) == (500, False)


async def test_who_answers_while_another_answer_is_taken_is_told_that_it_was(
    runs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that somebody is answering it, and that it may be sent again."""
    asked = await run_workflow(runs_file, tmp_path, "anything", "r1")
    start = WorkflowExecutor.start_resume

    async def start_late(executor: WorkflowExecutor, checkpoint_id: str, response: str) -> WorkflowResult:
        async with create_checkpoint_store(str(runs_file)) as store:
            assert (await WorkflowExecutor(store).resume_workflow(checkpoint_id, "the first")).is_success
        return await start(executor, checkpoint_id, response)

    monkeypatch.setattr(WorkflowExecutor, "start_resume", start_late)
    async with visiting(runs_file) as visitor:
        await visitor.get("/ui/waiting")
        late = await visitor.send(path_to("answer", checkpoint=asked.checkpoint_id), response="the second")
        assert (late.status_code, "It was answered already" in late.text) == (409, True)


async def test_of_two_people_one_is_first_and_the_other_is_told(database_url: str, tmp_path: Path) -> None:
    """Kindly, and where to look; the same later on."""
    paused = await run_workflow(database_url, tmp_path, "approve", "r1")
    path = f"/ui/answer?checkpoint={paused.checkpoint_id}"
    async with visiting(database_url) as visitor:
        await visitor.get("/ui/waiting")
        visitor.http.follow_redirects = False
        answers = await asyncio.gather(visitor.send(path, choice="0"), visitor.send(path, choice="1"))
        assert sorted(answer.status_code for answer in answers) == [303, 409]
        late = next(answer for answer in answers if answer.status_code == 409)
        assert (
            "Somebody else was a moment quicker" in late.text or "somebody else is answering it just now" in late.text
        )
        assert 'href="/ui/run?id=r1"' in late.text
        assert await ended(database_url, "r1") == "success"
        again = await visitor.send(path, choice="0")
        assert (again.status_code, "answered already" in again.text) == (409, True)
        seen = await visitor.get(path)
        assert (seen.status_code, "answered already" in seen.text, "<button" in seen.text) == (409, True, False)


async def test_what_somebody_else_has_begun_to_answer_may_still_wait(database_url: str, tmp_path: Path) -> None:
    """It is not called answered: whoever holds it may be gone. What was typed is still there, to be sent again."""
    ticket = await run_workflow(database_url, tmp_path, "ticket", "r1")
    assert ticket.checkpoint_id is not None
    path = f"/ui/answer?checkpoint={ticket.checkpoint_id}"
    async with create_checkpoint_store(database_url) as store, visiting(database_url) as visitor:
        await visitor.get("/ui/waiting")
        await store.claim_checkpoint(ticket.checkpoint_id, "somebody", lease_seconds=60)
        held = await visitor.send(path, response="AB-12")
        assert held.status_code == 409
        assert "somebody else is answering it just now" in text_of(held)
        assert "AB-12</textarea>" in held.text
        await store.release_claim(ticket.checkpoint_id, "somebody")
        visitor.http.follow_redirects = False
        assert (await visitor.send(path, response="AB-12")).status_code == 303
        assert await ended(database_url, "r1") == "success"


async def test_an_answer_that_is_not_taken_is_asked_again(runs_file: Path, tmp_path: Path) -> None:
    """With what was typed still there; nothing has changed, and the right one is taken, line breaks and all."""
    ticket = await run_workflow(runs_file, tmp_path, "ticket", "r1")
    note = await run_workflow(runs_file, tmp_path, "anything", "r2")
    async with visiting(runs_file) as visitor:
        await visitor.get("/ui/waiting")
        path = f"/ui/answer?checkpoint={ticket.checkpoint_id}"
        wrong = await visitor.send(path, response="</textarea><b>12")
        assert wrong.status_code == 422
        assert "It was not taken: the answer must match" in text_of(wrong)
        assert "&lt;/textarea&gt;&lt;b&gt;12</textarea>" in wrong.text
        for choice in ("7", "9" * 5_000):
            assert (await visitor.send(path, choice=choice)).status_code == 422
        visitor.http.follow_redirects = False
        assert (await visitor.send(path, response="AB-12")).status_code == 303
        sent = await visitor.send(f"/ui/answer?checkpoint={note.checkpoint_id}", response="one\r\ntwo")
        assert sent.status_code == 303
        await ended(runs_file, "r2")
        async with create_checkpoint_store(str(runs_file)) as store:
            assert (await WorkflowExecutor(store).get_run("r2")).outputs == {"said": "one\ntwo"}


async def test_an_answer_may_be_empty(runs_file: Path, tmp_path: Path) -> None:
    """That is another thing than none."""
    asked = await run_workflow(runs_file, tmp_path, "anything", "r1")
    path = path_to("answer", checkpoint=asked.checkpoint_id)
    async with visiting(runs_file) as visitor:
        await visitor.get("/ui/waiting")
        visitor.http.follow_redirects = False
        assert (await visitor.send(path)).status_code == 422
        assert (await visitor.send(path, response="")).status_code == 303
    assert await ended(runs_file, "r1") == "success"


async def test_what_was_typed_stays_as_it_was_in_forms(runs_file: Path, tmp_path: Path) -> None:
    """What would hide in it is made visible where it is only shown: in a form, it would be sent otherwise."""
    odd = "\u202ea\u200f\x1b<b>"
    kept = "\u202ea\u200f\x1b&lt;b&gt;"
    ticket = await run_workflow(runs_file, tmp_path, "ticket", odd)
    async with visiting(runs_file) as visitor:
        listed = await visitor.get(path_to("", workflow=odd, text=odd))
        assert listed.text.count(f'value="{kept}"') == 2
        refused = await visitor.send(path_to("answer", checkpoint=ticket.checkpoint_id), response=odd)
        assert (refused.status_code, f"\n{kept}</textarea>" in refused.text) == (422, True)
        form = await visitor.send(path_to("fork", checkpoint=ticket.checkpoint_id), run_id=odd, inputs=odd)
        assert (form.status_code, f'value="{kept}"' in form.text, f"\n{kept}</textarea>" in form.text) == (
            422,
            True,
            True,
        )
        run = await visitor.get(path_to("run", id=odd))
        assert f'<input type="hidden" name="id" value="{kept}">' in run.text
        assert f"<h1>{kept}" not in run.text
        told = "runs cancel $'\\u202ea\\u200f\\x1b<b>'"
        assert html.unescape(run.text).count(told) == 2, "as it is shown, and as it is copied"


async def test_what_is_not_there_is_told(runs_file: Path, tmp_path: Path) -> None:
    """A checkpoint that was deleted, or that does not wait; an address that lacks something."""
    done = await run_workflow(runs_file, tmp_path, "greet", "r1", who="x")
    async with visiting(runs_file) as visitor:
        for path, status, text in (
            ("/ui/answer?checkpoint=gone", 404, "It is not there"),
            (f"/ui/answer?checkpoint={done.checkpoint_id}", 409, "There is nothing to answer"),
            ("/ui/answer", 400, "Something is missing"),
            ("/ui/logout", 405, "only takes a form"),
            ("/ui/nothing", 404, "There is no such page"),
        ):
            page = await visitor.get(path)
            assert (page.status_code, text in page.text) == (status, True), path


async def test_a_database_that_cannot_be_used_is_a_page_that_says_so(runs_file: Path) -> None:
    """And what to do; a part of an open page says it in a line, with a status that keeps what is shown."""
    async with visiting(runs_file) as visitor:
        assert "There are no runs yet" in (await visitor.get("/ui")).text
        with contextlib.closing(sqlite3.connect(runs_file)) as connection:
            connection.execute("DROP TABLE checkpoints")
        for path in ("/ui", "/ui/waiting"):
            page = await visitor.get(path)
            assert (page.status_code, "refused a statement" in page.text) == (500, True)
            assert 'href="/ui/health"' in page.text.partition("<main")[2]
        part = await visitor.get("/ui", **{"hx-request": "true"})
        assert (part.status_code, "<html" in part.text) == (500, False)
