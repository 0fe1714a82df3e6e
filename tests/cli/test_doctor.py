"""`doctor`: a report on the database for people and for programs, and an exit code for scripts."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import CLI, PASSWORD
from tests.migrations import raw
from tests.persistence.examined import lead_in_circles
from workflows_mcp import WorkflowResult


def test_a_database_in_order_is_told_line_by_line(cli: CLI, waiting: WorkflowResult) -> None:
    """Each line begins with a verdict; the last one counts them; nothing on stderr."""
    assert waiting.is_paused
    done = cli("doctor", "--database-url", "runs.db")
    assert (done.code, done.err) == (0, ""), done.out
    lines = done.out.splitlines()
    assert lines[0].startswith("ok       database ")
    assert str(cli.folder / "runs.db") in lines[0]
    assert any("of which 1 wait for an answer" in line for line in lines)
    assert lines[-1].startswith("0 problems, ")
    for line in lines[:-2]:
        assert line.startswith(("ok ", "notice ", " " * 9)), line
    assert sorted(path.name for path in cli.folder.iterdir()) == ["runs.db"]


def test_programs_get_a_list_of_objects(cli: CLI, waiting: WorkflowResult) -> None:
    """Nothing else on stdout; the same exit code."""
    assert waiting.is_paused
    done = cli("doctor", "--database-url", "runs.db", "--json", "--deep")
    assert done.code == 0
    checks = done.json()
    assert all(list(one) == ["check", "verdict", "found", "advice"] for one in checks)
    assert {one["verdict"] for one in checks} <= {"ok", "notice"}
    assert {"database", "SQLite", "file system", "space", "mode", "journal mode", "revision"} <= {
        one["check"] for one in checks
    }
    (cli.folder / "runs.db").chmod(0o644)
    done = cli("doctor", "--database-url", "runs.db", "--json")
    assert done.code == 1
    [problem] = [one for one in done.json() if one["verdict"] == "problem"]
    assert problem["check"] == "mode"
    assert problem["advice"].startswith("chmod 600 ")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--database-url", "absent.db"), "it does not exist"),
        (("--database-url", "."), "it is not a file"),
        (("--database-url", "no/folder/a.db"), "there is no folder"),
        (("--database-url", "notes.txt"), "no SQLite database"),
        (("--database-url", "memory://"), "memory:// names no database"),
        (("--database-url", f"postgresql://ada:{PASSWORD}@127.0.0.1:1/db"), "does not answer"),
        (("--database-url", f"mysql://ada:{PASSWORD}@127.0.0.1:1/db"), "is not supported"),
        ((), "it does not exist"),
    ],
    ids=["missing", "a folder", "no folder", "text", "memory", "no server", "another product's", "the default"],
)
def test_what_cannot_be_used_is_a_report_and_exit_code_one(cli: CLI, words: tuple[str, ...], found: str) -> None:
    """No traceback, no password, and nothing is created."""
    (cli.folder / "notes.txt").write_text("notes " * 100)
    done = cli("doctor", *words, env={"WORKFLOWS_DEADLINE_SECONDS": "1"})
    assert done.code == 1
    [problem] = [line for line in done.out.splitlines() if line.startswith("problem ")]
    assert found in problem
    assert "1 problem, " in done.out
    assert done.err == ""
    assert [path.name for path in cli.folder.iterdir()] == ["notes.txt"]


async def test_a_damaged_checkpoint_is_named(cli: CLI, waiting: WorkflowResult) -> None:
    """By its id, with the command that says more."""
    await raw.execute(str(cli.folder / "runs.db"), "UPDATE checkpoints SET payload = x'00' WHERE is_paused")
    done = cli("doctor", "--database-url", "runs.db")
    assert done.code == 1
    assert repr(waiting.checkpoint_id) in done.out
    assert "workflows-mcp checkpoints show ID" in done.out


def test_ctrl_c_ends_an_examination_that_would_take_years(tmp_path: Path, sqlite_template: Path) -> None:
    """The query that runs is not waited for."""
    path = Path(shutil.copy(sqlite_template, tmp_path / "runs.db"))
    lead_in_circles(path)
    command = [sys.executable, "-m", "workflows_mcp", "doctor", "--deep", "--database-url", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as doctor:
        while all(os.path.realpath(one) != str(path) for one in Path(f"/proc/{doctor.pid}/fd").iterdir()):
            time.sleep(0.05)
        time.sleep(1)
        assert doctor.poll() is None
        doctor.send_signal(signal.SIGINT)
        try:
            _, err = doctor.communicate(timeout=10)
        finally:
            doctor.kill()
    assert (doctor.returncode, err) == (130, b"interrupted\n")


def test_a_setting_that_is_wrong_is_an_error(cli: CLI) -> None:
    """As it is for every command."""
    done = cli("doctor", "--database-url", "a.db", env={"WORKFLOWS_POOL_SIZE": "0"})
    assert done.code == 1
    assert "WORKFLOWS_POOL_SIZE" in done.error()


def test_a_server_is_examined_too(cli: CLI, postgres_url: str) -> None:
    """Before its schema is there, which is a problem, and after."""
    before = cli("doctor", "--database-url", postgres_url)
    assert before.code == 1
    assert "db upgrade" in before.out
    assert cli("db", "upgrade", "--database-url", postgres_url).code == 0
    after = cli("doctor", "--database-url", postgres_url)
    assert after.code == 0, after.out
    assert "synchronous_commit" in after.out
