"""`db backup`, `db restore` and `db vacuum`."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import CLI, PASSWORD
from tests.migrations import raw
from workflows_mcp import WorkflowResult

URL = ("--database-url", "runs.db")


def test_a_backup_is_put_back_and_what_was_there_is_named(cli: CLI, waiting: WorkflowResult, tmp_path: Path) -> None:
    """Each command says what it did, as text or as data."""
    made = cli("db", "backup", "b.db", "--json", *URL).json()
    assert (made["file"], made["checkpoints"], made["revision"], made["ran"]) == (
        str(tmp_path / "b.db"),
        3,
        "0003",
        True,
    )
    assert "exists already" in cli("db", "backup", "b.db", *URL).error()
    assert "backed up: 3 checkpoints at revision 0003" in cli("db", "backup", "b.db", "--overwrite", *URL).out
    cli("runs", "delete", waiting.run_id, "--yes", *URL)
    restored = cli("db", "restore", "b.db", *URL)
    assert (restored.code, restored.err) == (0, "")
    assert "restored: 3 checkpoints" in restored.out
    [kept] = tmp_path.glob("runs.db.before-*")
    assert str(kept) in restored.out
    assert len(cli("checkpoints", "list", "--json", *URL).json()["checkpoints"]) == 3


def test_a_backup_of_an_earlier_version_is_restored_with_a_hint(cli: CLI) -> None:
    """Nothing is upgraded unasked."""
    assert cli("db", "upgrade", "0001", *URL).code == 0
    assert cli("db", "backup", "b.db", *URL).code == 0
    restored = cli("db", "restore", "b.db", *URL)
    assert "workflows-mcp db upgrade --database-url runs.db" in restored.out
    assert cli("checkpoints", "list", *URL).code == 1
    assert cli("db", "upgrade", *URL).code == 0
    assert cli("checkpoints", "list", *URL).code == 0


def test_on_postgresql_the_commands_are_printed_and_nothing_is_run(cli: CLI) -> None:
    """Without a password; not even the server is asked."""
    url = ("--database-url", f"postgresql://me:{PASSWORD}@absent.invalid:5433/runs")
    backup, restore = cli("db", "backup", "b.dump", *url), cli("db", "restore", "b.dump", "--json", *url)
    assert backup.code == restore.code == 1  # so that no script takes it for done
    assert backup.out.startswith("Nothing was run.")
    assert "  pg_dump --format=custom --file=b.dump" in backup.out
    assert "--dbname=postgresql://me@absent.invalid:5433/runs\n" in backup.out
    assert restore.json()["ran"] is False
    assert [command.split()[0] for command in restore.json()["commands"]] == ["createdb", "pg_restore", "workflows-mcp"]


async def test_ctrl_c_leaves_no_backup(cli: CLI, tmp_path: Path) -> None:
    """Not even while it waits for a lock; one line says so."""
    await raw.make_guide_database(str(tmp_path / "runs.db"))
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")  # the guide's file is not in WAL mode: nobody else reads it meanwhile
        process = cli.start("db", "backup", "b.db", *URL)
        while not list(tmp_path.glob(".b.db*")):
            assert process.poll() is None
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        ended = cli.finish(process)
    assert ended.code == 128 + signal.SIGINT
    assert ended.err == "interrupted; no backup was made, and nothing was changed\n"
    assert [one.name for one in tmp_path.iterdir() if "b.db" in one.name] == []


STOPPED_LATE = """\
import os, signal, sys
from workflows_mcp.cli.entry import run_command_line
from workflows_mcp.persistence.dialects import sqlite_backup

def replace_and_stop(new, final, replace=sqlite_backup._replace):
    kept = replace(new, final)
    os.kill(os.getpid(), signal.{signal})
    return kept

sqlite_backup._replace = replace_and_stop
sys.exit(run_command_line(["db", "restore", "b.db", "--database-url", "runs.db"]))
"""
"""Gets a signal when the database is replaced already."""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_who_stops_a_restore_too_late_is_told_that_it_is_done(cli: CLI, waiting: WorkflowResult, name: str) -> None:
    """And nothing else, whatever stopped it."""
    assert waiting.is_paused
    assert cli("db", "backup", "b.db", *URL).code == 0
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_LATE.format(signal=name)],
        cwd=cli.folder,
        env=cli.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "restored: 3 checkpoints" in done.stdout
    assert "What was there is kept in" in done.stdout


def test_a_vacuum_tells_what_it_gained(cli: CLI, waiting: WorkflowResult, tmp_path: Path) -> None:
    """In bytes."""
    assert waiting.is_paused
    with closing(sqlite3.connect(tmp_path / "runs.db")) as file:
        for statement in ("CREATE TABLE more (x)", "INSERT INTO more SELECT zeroblob(2000000)", "DROP TABLE more"):
            file.execute(statement)
        file.commit()
    told = json.loads(cli("db", "vacuum", "--json", *URL).out)
    assert told["bytes_before"] - told["bytes_after"] > 1_900_000
    assert "no less than before" in cli("db", "vacuum", *URL).out
