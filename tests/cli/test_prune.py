"""`checkpoints prune`, `pin`, `unpin` and `delete`, and `runs delete`."""

import asyncio
import os
import pty
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import CLI
from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowResult
from workflows_mcp.cli.durations import parse_duration
from workflows_mcp.cli.failures import UsageError
from workflows_mcp.testing import make_state

URL = ("--database-url", "runs.db")
DAY = 86400.0


@pytest.fixture(scope="session")
def untidy(waiting_template: tuple[Path, WorkflowResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with what is old, what is many, what waits and what is pinned; to be copied."""

    async def fill(path: Path) -> None:
        now = time.time()
        async with SQLAlchemyCheckpointStore(path) as store:
            for workflow in ("audit", "nightly"):
                for number, days in enumerate((10, 6, 4, 1)):
                    name = f"{workflow} {number}"
                    state = make_state(name, workflow_name=workflow, created_at=now - days * DAY)
                    await store.save_checkpoint(state)
            waits = make_state("waits", workflow_name="nightly", created_at=now - 30 * DAY, paused_block_id="b")
            await store.save_checkpoint(waits)
            await store.pin_checkpoint("nightly 0")

    path = Path(shutil.copy(waiting_template[0], tmp_path_factory.mktemp("untidy") / "runs.db"))
    asyncio.run(fill(path))
    return path


def names(folder: Path) -> set[str]:
    """The ids of all checkpoints but those of the run that waits."""
    with closing(sqlite3.connect(folder / "runs.db")) as file:
        return {
            name for (name,) in file.execute("SELECT checkpoint_id FROM checkpoints WHERE workflow_name <> 'asking'")
        }


@pytest.fixture
def stored(untidy: Path, tmp_path: Path) -> set[str]:
    """A copy of it in the command's folder; the ids in it."""
    shutil.copy(untidy, tmp_path / "runs.db")
    return names(tmp_path)


@pytest.mark.parametrize(
    ("words", "settings", "gone"),
    [
        ((), {}, {"audit 0"}),
        (
            (),
            {"RETENTION": '{"audit": {"ttl_seconds": null, "max_per_workflow": 1}}'},
            {"audit 0", "audit 1", "audit 2"},
        ),
        (("--workflow", "nightly", "--keep", "1"), {}, {"nightly 1", "nightly 2"}),
        (("--older-than", "5d"), {"RETENTION": '{"audit": {}}'}, {"nightly 1"}),
        (("--older-than", "2w", "--include-paused"), {}, {"waits"}),
    ],
)
def test_a_dry_run_says_what_would_go_and_then_it_goes(
    cli: CLI, stored: set[str], words: tuple[str, ...], settings: dict[str, str], gone: set[str]
) -> None:
    """By the settings, or by what was typed; policies are obeyed, and left alone by limits that were typed."""
    env = {f"WORKFLOWS_{name}": value for name, value in settings.items()}
    told = cli("checkpoints", "prune", "--dry-run", "--list", "--json", *words, *URL, env=env).json()
    assert {one["checkpoint_id"] for one in told["checkpoints"] if one["goes_by"]} == gone
    assert told["would_delete"] == len(gone)
    assert names(cli.folder) == stored
    done = cli("checkpoints", "prune", "--json", *words, *URL, env=env).json()
    assert done == {"deleted": len(gone), "by_age": told["by_age"], "by_count": told["by_count"]}
    assert stored - names(cli.folder) == gone


def test_a_plan_is_a_table_that_says_why(cli: CLI, stored: set[str]) -> None:
    """A line a workflow and one for all, before it each checkpoint if that is asked for."""
    told = cli("checkpoints", "prune", "--dry-run", "--list", "--keep", "2", *URL)
    assert (told.code, told.err) == (0, "")
    lines = told.out.splitlines()
    assert [line.split()[0:3] for line in lines if line.endswith("audit 1")] == [["goes", "by", "count"]]
    assert [line.split()[0:2] for line in lines if line.endswith("nightly 0")] == [["stays:", "pinned"]]
    [nightly] = [line.split() for line in lines if line.startswith("nightly ")]
    assert nightly[:4] == ["nightly", "5", "0", "1"]
    assert nightly[-4:] == ["1", "pinned,", "1", "waiting"]
    assert "all workflows: all but the newest 2" in lines
    assert any(line.startswith("(all) ") for line in lines)
    assert lines[-1].startswith("Nothing was changed.")
    assert names(cli.folder) == stored


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--older-than", "3m"), "m may be minutes or months"),
        (("--keep", "0"), "keep"),
        (("--list",), "--dry-run"),
    ],
)
def test_a_limit_that_makes_no_sense_deletes_nothing(
    cli: CLI, stored: set[str], words: tuple[str, ...], problem: str
) -> None:
    """And is told at once."""
    refused = cli("checkpoints", "prune", *words, *URL)
    assert refused.code == 2
    assert problem in refused.error()
    assert names(cli.folder) == stored


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30min", 1800), ("12h", 43200), ("7d", 7 * DAY), ("2w", 14 * DAY), (" 1.5 h ", 5400)],
)
def test_a_duration_is_a_number_with_its_unit(text: str, seconds: float) -> None:
    """Of these."""
    assert parse_duration("--older-than", text) == seconds


@pytest.mark.parametrize(
    "text", ["7", "7y", "-7d", "d", "", "nan d", "1e3s", f"{'9' * 400}d", f"{'9' * 308}w", "7d 3h"]
)
def test_what_is_no_duration_is_refused_with_one_that_is(text: str) -> None:
    """By name."""
    with pytest.raises(UsageError, match=r"--older-than .*7d"):
        parse_duration("--older-than", text)


def test_a_checkpoint_is_pinned_and_unpinned(cli: CLI, stored: set[str]) -> None:
    """Retention leaves it alone in between; one that is not there is an error."""
    assert "audit 0" in stored
    assert "pinned: checkpoint audit 0" in cli("checkpoints", "pin", "audit 0", *URL).out
    assert cli("checkpoints", "prune", *URL).code == 0
    assert "audit 0" in names(cli.folder)
    assert cli("checkpoints", "unpin", "audit 0", "--json", *URL).json() == {
        "checkpoint_id": "audit 0",
        "pinned": False,
    }
    cli("checkpoints", "prune", *URL)
    assert "audit 0" not in names(cli.folder)
    assert "there is no checkpoint 'audit 0'" in cli("checkpoints", "pin", "audit 0", *URL).error()


def test_a_checkpoint_is_deleted_unless_somebody_may_need_it(cli: CLI, stored: set[str], tmp_path: Path) -> None:
    """Pinned, waiting, held, and what a run goes on from: those by force alone. A damaged one is no hindrance."""

    async def hold() -> None:
        async with SQLAlchemyCheckpointStore(tmp_path / "runs.db") as store:
            await store.save_checkpoint(make_state("held", run_id="r"), owner="me", lease_seconds=600)
            await store.save_checkpoint(make_state("left", run_id="s"), owner="me", lease_seconds=600)
            await store.release_claim("left", "me")

    asyncio.run(hold())
    for name, why in (
        ("nightly 0", "it is pinned"),
        ("waits", "waits there for an answer"),
        ("held", "a process holds it until"),
        ("left", "run s can be recovered from there alone"),
    ):
        refused = cli("checkpoints", "delete", name, *URL)
        assert refused.code == 1
        assert why in refused.error()
        assert "--force" in refused.error()
        assert cli("checkpoints", "delete", name, "--force", *URL).code == 0
    with closing(sqlite3.connect(tmp_path / "runs.db")) as file, file:
        file.execute("UPDATE checkpoints SET payload = x'00' WHERE checkpoint_id = 'audit 1'")
    assert cli("checkpoints", "delete", "audit 1", "--json", *URL).json()["deleted"] is True
    assert cli("checkpoints", "delete", "audit 1", *URL).code == 1
    assert names(cli.folder) == stored - {"nightly 0", "waits", "audit 1"}


def test_a_run_is_erased_when_that_was_agreed_to(cli: CLI, waiting: WorkflowResult, tmp_path: Path) -> None:
    """All of it, and with --vacuum nothing is left of it in the file; who does not say yes deletes nothing."""
    words = ("runs", "delete", waiting.run_id, *URL)
    assert b"Ann" in (tmp_path / "runs.db").read_bytes()
    with closing(sqlite3.connect(tmp_path / "runs.db")) as file:
        for statement in ("CREATE TABLE more (x)", "INSERT INTO more SELECT zeroblob(50000)", "DROP TABLE more"):
            file.execute(statement)
        file.commit()
    refused = cli(*words)
    assert refused.code == 2
    assert "3 checkpoints" in refused.error()
    assert "--yes" in refused.error()
    assert len(cli("checkpoints", "list", "--json", *URL).json()["checkpoints"]) == 3
    erased = cli(*words, "--yes", "--vacuum", "--json").json()
    assert (erased["run_id"], erased["deleted"], erased["vacuumed"]) == (waiting.run_id, 3, True)
    assert b"Ann" not in (tmp_path / "runs.db").read_bytes()
    with closing(sqlite3.connect(tmp_path / "runs.db")) as file:
        assert file.execute("PRAGMA freelist_count").fetchall() == [(0,)]
    assert f"there is no run '{waiting.run_id}'" in cli(*words, "--yes").error()


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("", 1, 3)])
def test_on_a_terminal_one_is_asked_before_a_run_is_erased(
    cli: CLI, waiting: WorkflowResult, answer: str, code: int, left: int
) -> None:
    """Only a yes is a yes."""
    mine, its = pty.openpty()
    os.write(mine, f"{answer}\n".encode())
    done = cli.finish(cli.start_quickly("runs", "delete", waiting.run_id, *URL, stdin=its))
    for descriptor in (mine, its):
        os.close(descriptor)
    assert "is deleted for good: 3 checkpoints" in done.err
    assert "[y/N]" in done.err
    assert done.code == code
    assert len(cli("checkpoints", "list", "--json", *URL).json()["checkpoints"]) == left


@pytest.mark.parametrize(("force", "left"), [((), 3), (("--force",), 0)])
def test_a_run_that_is_taken_up_while_the_question_stands_there_is_not_erased(
    cli: CLI, waiting: WorkflowResult, tmp_path: Path, force: tuple[str, ...], left: int
) -> None:
    """People take their time. By force it is."""

    async def take_up() -> None:
        async with SQLAlchemyCheckpointStore(tmp_path / "runs.db") as store:
            [head] = await store.list_checkpoints(run_id=waiting.run_id, limit=1)
            await store.claim_checkpoint(head.checkpoint_id, "somebody", 600)

    mine, its = pty.openpty()
    process = cli.start_quickly("runs", "delete", waiting.run_id, *force, *URL, stdin=its)
    assert process.stderr is not None
    asked = ""
    while not asked.endswith("[y/N] "):
        assert process.poll() is None, asked
        asked += process.stderr.read(1)
    asyncio.run(take_up())
    os.write(mine, b"y\n")
    done = cli.finish(process)
    for descriptor in (mine, its):
        os.close(descriptor)
    assert (done.code, "holds it until" in done.err) == ((0, False) if force else (1, True))
    assert len(cli("checkpoints", "list", "--json", *URL).json()["checkpoints"]) == left


def test_a_run_that_is_at_work_is_erased_by_force_alone(cli: CLI, waiting: WorkflowResult, tmp_path: Path) -> None:
    """Without it one is told until when it is held, and how to end it. Forks of it live on."""
    path = tmp_path / "runs.db"

    async def hold() -> None:
        async with SQLAlchemyCheckpointStore(path) as store:
            state = make_state("head", run_id="busy")
            await store.save_checkpoint(state, owner="me", lease_seconds=600)
            await store.save_checkpoint(make_state("fork", run_id="fork", parent_checkpoint_id="head"))

    asyncio.run(hold())
    refused = cli("runs", "delete", "busy", "--yes", *URL)
    assert refused.code == 1
    assert "holds it until" in refused.error()
    assert "workflows-mcp runs cancel busy" in refused.error()
    assert "deleted: run busy, 1 checkpoints" in cli("runs", "delete", "busy", "--yes", "--force", *URL).out
    left = {one["run_id"] for one in cli("checkpoints", "list", "--json", *URL).json()["checkpoints"]}
    assert left == {"fork", waiting.run_id}
