"""Somebody looks whether all is well, and how much there is."""

import contextlib
import re
import sqlite3
import time
from pathlib import Path

import pytest

from tests.server.ui.visiting import text_of, visiting
from workflows_mcp.persistence.store import create_checkpoint_store
from workflows_mcp.server.ui import health
from workflows_mcp.testing import make_state

PART = {"hx-request": "true"}

HTML = "<b>x</b>"


async def _fill(database: Path | str) -> None:
    """Fifteen workflows, of which the first has four checkpoints; one of another month, one that waits."""
    now = time.time()
    async with create_checkpoint_store(str(database)) as store:
        for number in range(15):
            name = f"w{number:02}" if number else HTML
            await store.save_checkpoint(make_state(f"c{number}", workflow_name=name, created_at=now - 60.0 * number))
        for number, days in enumerate((1.5, 40)):
            state = make_state(f"d{number}", workflow_name=HTML, created_at=now - 86400 * days, status="completed")
            await store.save_checkpoint(state)
        state = make_state("p", workflow_name=HTML, created_at=now - 7200, paused_block_id="b", pause_prompt="?")
        await store.save_checkpoint(state)


async def test_health_says_what_is_stored_and_what_was_examined(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one page, without a script, where that is found out at once."""
    monkeypatch.setattr(health, "_AT_ONCE_SECONDS", 20.0)
    await _fill(database_url)
    async with visiting(database_url) as visitor:
        page = await visitor.get("/ui/health")
        said = text_of(page)
        assert page.status_code == 200
        assert "Checkpoints 18 0 of them deltas" in said
        assert "Runs 18 15 running, 1 paused, 2 success" in said
        assert "Waiting for an answer 1 the oldest since 2 h ago" in said
        assert "Saved in the last hour 15 checkpoints, 1 in the busiest minute" in said
        assert "from 1 to 18; what was deleted since is not among them" in said
        assert page.text.count('<rect class="column"') == 15
        assert re.search(r"Checkpoints by workflow .* <b>x</b> 4 .* w11 1 3 others 3 ", said)
        assert f'href="/ui?workflow={HTML.replace("<", "%3C").replace(">", "%3E").replace("/", "%2F")}"' in page.text
        assert HTML not in page.text
        assert re.search(r"\d+ in order 0 s ago", said)
        assert re.search(r"revision \d+, the newest", said)
        for command in ("doctor", "stats"):
            assert f"workflows-mcp {command}" in said
        assert ' style="' not in page.text
        alone = await visitor.get("/ui/health/checks")
        assert "What is stored" in alone.text, "a part that is visited by itself leads to its page"


async def test_what_takes_longer_comes_as_a_part_of_the_open_page(
    runs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is there at once, has a place for each part, and says how to see them without a script."""
    monkeypatch.setattr(health, "_AT_ONCE_SECONDS", 0.0)
    await _fill(runs_file)
    async with visiting(runs_file) as visitor:
        page = await visitor.get("/ui/health")
        assert "The database is being examined. This takes a moment. Look again" in text_of(page)
        assert "What is stored is being counted. This takes a moment. Look again" in text_of(page)
        for part, text in (("checks", "in order"), ("figures", "18")):
            assert f'hx-get="/ui/health/{part}" hx-trigger="load' in page.text
            found = await visitor.get(f"/ui/health/{part}", **PART)
            assert ("<html" in found.text, "pending" in found.text, text in found.text) == (False, False, True)


async def test_a_database_that_fails_is_a_finding(runs_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page stands, and says what is the matter and what to do."""
    monkeypatch.setattr(health, "_AT_ONCE_SECONDS", 20.0)
    async with visiting(runs_file) as visitor:
        with contextlib.closing(sqlite3.connect(runs_file)) as connection:
            connection.execute("DROP TABLE checkpoints")
        page = await visitor.get("/ui/health")
        said = text_of(page)
        assert page.status_code == 200
        assert "✗ 1 problem" in said
        assert re.search(
            r"✗ problem revision .* no checkpoints table → restore a backup .*workflows-mcp db upgrade", said
        )
        assert "✗ problem the database" in said
        part = await visitor.get("/ui/health/figures", **PART)
        assert (part.status_code, "refused a statement" in part.text) == (200, True)


async def test_no_secret_is_in_what_is_said_of_a_database(runs_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in what was found, nor in what to do, nor in why nothing was counted."""
    monkeypatch.setattr(health, "_AT_ONCE_SECONDS", 20.0)
    secrets = ("checkpoints table", "restore a backup", "refused a statement")
    for number, secret in enumerate(secrets):
        monkeypatch.setenv(f"WORKFLOW_SECRET_{number}", secret)
    async with visiting(runs_file) as visitor:
        with contextlib.closing(sqlite3.connect(runs_file)) as connection:
            connection.execute("DROP TABLE checkpoints")
        said = text_of(await visitor.get("/ui/health"))
        assert said.count("***") >= 3
        assert not any(secret in said for secret in secrets)


async def test_nothing_stored_is_nothing_to_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of a store in memory, which ends with its process, as it says."""
    monkeypatch.setattr(health, "_AT_ONCE_SECONDS", 20.0)
    async with visiting("memory://") as visitor:
        said = text_of(await visitor.get("/ui/health"))
        assert "There are no checkpoints yet" in said
        assert "! 1 notice, 0 in order" in said
        assert "checkpoints are kept in memory: they end with this process → name a file" in said


async def test_runs_are_found_by_text_and_time(runs_file: Path) -> None:
    """What the form of the first page asks for, in UTC, also in words; what makes no sense is told."""
    async with create_checkpoint_store(runs_file) as store:
        for number, moment in enumerate((1_700_000_000.0, 1_700_003_600.0, time.time() - 1800)):
            await store.save_checkpoint(make_state(f"c{number}", run_id=f"run-{number}%<x>", created_at=moment))
    queries = {
        "text=RUN": "",
        "text=+n-1%25+": "1",
        "text=%25%3Cx": "012",
        "text=c2": "2",
        "after=2023-11-14T22:13:20": "012",
        "after=2023-11-14T22:13:21&until=2023-11-15": "1",
        "until=2023-11-14T23:14%2B01:00": "0",
        "after=2h": "2",
        "until=2h&status=running": "01",
        "status=abandoned": "",
        "text=run-0&after=2h": "",
    }
    async with visiting(runs_file) as visitor:
        for query, expected in queries.items():
            page = await visitor.get(f"/ui?{query}")
            assert "".join(re.findall(r"/ui/run\?id=run-(\d)", page.text))[::-1] == expected, query
        assert (
            'name="after" type="datetime-local" value="2023-11-14T22:13:21"'
            in (await visitor.get("/ui?after=1700000001")).text
        )
        for query, text in {
            "after=lately": "Saved from takes a date such as",
            "until=5m": "m may be minutes or months",
            "text=%00": "The text in the id must not hold U+0000",
        }.items():
            wrong = await visitor.get(f"/ui?{query}")
            assert (wrong.status_code, text in text_of(wrong)) == (400, True), query
