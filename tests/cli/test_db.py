"""`db upgrade`, `downgrade`, `current`, `check`."""

import contextlib
import os
import pty
import signal
import sqlite3
import time
from pathlib import Path

from tests.cli.conftest import CLI
from tests.migrations import raw
from workflows_mcp import WorkflowResult


def test_each_command_tells_where_the_schema_was_and_is(cli: CLI, tmp_path: Path) -> None:
    """From a new file to head and down again; nobody's data is converted unasked, unless the settings ask for it."""
    url = ("--database-url", str(tmp_path / "new.db"))
    up = cli("db", "upgrade", *url, "--json").json()
    assert (up["previous"], up["revision"]) == (None, "0003")
    assert str(tmp_path / "new.db") in up["database"]
    assert "is at revision 0001 (before: revision 0003)" in cli("db", "downgrade", "0001", *url).out

    current = cli("db", "current", *url, "--json")
    check, listing = cli("db", "check", *url), cli("checkpoints", "list", *url)
    assert (current.json()["revision"], current.json()["head"]) == ("0001", "0003")
    for refused in (check, listing):
        assert refused.code == 1
        assert "workflows-mcp db upgrade" in refused.error()
    assert cli("checkpoints", "list", *url, env={"WORKFLOWS_AUTO_UPGRADE": "1"}).code == 0


def test_a_schema_in_order_passes_the_check_with_nothing_but_the_answer(cli: CLI, waiting: WorkflowResult) -> None:
    """On stdout stands one JSON object."""
    assert waiting.is_paused
    check = cli("db", "check", "--json", "--database-url", "runs.db")
    assert check.code == 0, check.err
    assert check.json()["revision"] == check.json()["head"]


def test_going_down_to_base_keeps_checkpoints_unless_told_otherwise(cli: CLI, waiting: WorkflowResult) -> None:
    """Data goes only by --drop-data."""
    words = ("db", "downgrade", "base", "--database-url", "runs.db")
    refused = cli(*words)
    assert refused.code == 1
    assert "checkpoints" in refused.error()
    assert waiting.is_paused
    assert "is at no revision of ours" in cli(*words, "--drop-data").out


def test_going_down_asks_before_runs_are_cut_off(cli: CLI, waiting: WorkflowResult) -> None:
    """Only --yes does it where nobody can be asked; without runs there is nothing to ask about."""
    words = ("db", "downgrade", "0001", "--database-url", "runs.db")
    for more in ((), ("--json",)):
        refused = cli(*words, *more)
        assert refused.code == 2
        assert "checkpoints in" in refused.error()
        assert "these runs can never be continued" in refused.error()
        assert "--yes" in refused.error()
    assert waiting.is_paused
    assert cli("db", "check", "--database-url", "runs.db").code == 0
    done = cli(*words, "--json", "--yes")
    assert (done.code, done.json()["revision"]) == (0, "0001")
    cli("db", "upgrade", "--database-url", "runs.db")
    again = cli(*words)
    assert (again.code, again.err) == (0, "")  # the rows are there, and of no run any more


def test_going_down_goes_by_what_is_typed(cli: CLI, waiting: WorkflowResult) -> None:
    """At a terminal."""
    assert waiting.is_paused
    for answer, code in (("n", 1), ("y", 0)):
        near, far = pty.openpty()
        words = ("db", "downgrade", "0001", "--database-url", "runs.db")
        process = cli.start_quickly(*words, stdin=far)
        os.write(near, f"{answer}\n".encode())
        done = cli.finish(process)
        os.close(near)
        os.close(far)
        assert done.code == code, done.err
        assert "[y/N]" in done.err
        assert ("nothing was changed" in done.err) == bool(code)


def test_postgresql_is_upgraded_when_asked_and_never_by_itself(cli: CLI, postgres_url: str) -> None:
    """A server's database is its owner's, even a new one."""
    refused = cli("checkpoints", "list", "--database-url", postgres_url)
    assert refused.code == 1
    assert "db upgrade" in refused.error()
    assert "at revision 0003" in cli("db", "upgrade", "--database-url", postgres_url).out


async def test_who_waits_for_a_lock_is_told_so_and_may_leave(cli: CLI, tmp_path: Path) -> None:
    """Ctrl-C ends it at once, and another attempt succeeds when the lock is gone."""
    url = ("--database-url", str(tmp_path / "new.db"))
    cli("db", "upgrade", "0001", *url)
    async with raw.locked(str(tmp_path / "new.db")):
        process = cli.start("db", "upgrade", *url)
        assert process.stderr is not None
        assert "is locked by another process: waiting for it" in process.stderr.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        interrupted = cli.finish(process)
        assert time.monotonic() - began < 5
    assert (interrupted.code, interrupted.out) == (128 + signal.SIGINT, "")
    assert interrupted.err == "interrupted\n"
    assert "is at revision 0003" in cli("db", "upgrade", *url).out


def test_a_revision_cannot_move_the_cursor_of_a_terminal(cli: CLI, tmp_path: Path) -> None:
    """It is whatever stands in the table of a database that may come from elsewhere."""
    assert cli("db", "upgrade", "--database-url", "x.db").code == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as file:
        file.execute("UPDATE workflows_alembic_version SET version_num = ?", ("\x1b]0;9999\x07",))
        file.commit()
    shown = cli("db", "current", "--database-url", "x.db")
    assert "]0;9999" in shown.out
    assert shown.out.rstrip("\n").isprintable()
