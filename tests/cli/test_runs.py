"""`runs list`, `show`, `cancel` and `fork`."""

import asyncio
import contextlib
import os
import shlex
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import CLI
from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowExecutor, upgrade_schema
from workflows_mcp.engine import abandoned as abandoned_runs
from workflows_mcp.engine.abandoned import find_runs
from workflows_mcp.engine.events import BlockStarted, Event
from workflows_mcp.testing import make_state

DATABASE = ("--database-url", "runs.db")

DEPLOYING = """\
name: deploying
inputs:
  places: {type: list, default: [eu, us]}
  code: {type: num, default: 0}
blocks:
  - {id: build, type: Shell, inputs: {command: "echo >> built; exit {{ inputs.code }}"}}
  - id: approve
    type: Prompt
    depends_on: [build]
    for_each: "{{ inputs.places }}"
    inputs: {prompt: "Deploy to {{ each.value }}?", choices: ["yes", "no"]}
  - {id: hold, type: Shell, depends_on: [approve], inputs: {command: "sleep 600"}}
outputs:
  answers: "{{ inputs.places }}"
"""
"""A workflow that builds, asks for each place, and then never ends by itself."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a run of each kind; the ids say which."""
    folder = tmp_path_factory.mktemp("runs")
    asyncio.run(_make_runs(folder / "runs.db"))
    return folder / "runs.db"


async def _make_runs(path: Path) -> None:
    holding = asyncio.Event()

    async def notice(event: Event) -> None:
        if isinstance(event, BlockStarted) and event.block_id == "hold":
            holding.set()

    await upgrade_schema(str(path))
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        async with SQLAlchemyCheckpointStore(str(path)) as store:
            executor = WorkflowExecutor(store, on_event=notice)
            executor.load_workflow(DEPLOYING)
            executor.load_workflow("name: fine\nblocks: [{id: a, type: Shell, inputs: {command: 'true'}}]\n")
            await executor.execute_workflow("fine", run_id="good")
            await executor.execute_workflow("deploying", {"code": 3}, run_id="bad")
            stopped = await executor.execute_workflow("deploying", {"places": ["eu"]}, run_id="stopped")
            held = asyncio.create_task(executor.resume_workflow(str(stopped.checkpoint_id), "yes"))
            await holding.wait()
            held.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await held
            await executor.execute_workflow("deploying", run_id="asking")
    finally:
        os.chdir(before)


@pytest.fixture
def made(template: Path, tmp_path: Path) -> None:
    """The same in the command's folder."""
    shutil.copyfile(template, tmp_path / "runs.db")


@pytest.mark.usefixtures("made")
def test_each_run_is_listed_once_with_what_it_has_come_to(cli: CLI) -> None:
    """The one that was saved last first; one that nobody holds any more is told apart, and filters and pages work."""
    listing = cli("runs", "list", *DATABASE)
    header, *rows = listing.out.splitlines()
    assert header.split() == ["run", "workflow", "status", "wave", "age", "prompt"]
    assert [row.split()[:4] for row in rows] == [
        ["asking", "deploying", "paused", "1"],
        ["stopped", "deploying", "abandoned", "2"],
        ["bad", "deploying", "failure", "3"],
        ["good", "fine", "success", "1"],
    ]
    assert rows[0].endswith("Deploy to eu?")

    first = cli("runs", "list", "--workflow", "deploying", "--limit", "2", "--json", *DATABASE).json()
    assert [(run["run_id"], run["abandoned"]) for run in first["runs"]] == [("asking", False), ("stopped", True)]
    page = ("--workflow", "deploying", "--limit", "2", "--before", first["next"])
    assert [run["run_id"] for run in cli("runs", "list", *page, "--json", *DATABASE).json()["runs"]] == ["bad"]
    left = cli("runs", "list", "--status", "abandoned", "--json", *DATABASE).json()
    assert ([run["run_id"] for run in left["runs"]], left["next"]) == (["stopped"], None)
    failed = cli("runs", "list", "--status", "failure", "--json", *DATABASE).json()
    assert [run["run_id"] for run in failed["runs"]] == ["bad"]

    def found(*words: str) -> list[str]:
        return [run["run_id"] for run in cli("runs", "list", "--json", *words, *DATABASE).json()["runs"]]

    asking, _, bad, _ = cli("runs", "list", "--json", *DATABASE).json()["runs"]
    assert found("--contains", "oo") == ["good"]
    assert found("--contains", bad["checkpoint_id"]) == ["bad"]
    assert found("--contains", "OO") == found("--until", "1h") == []
    assert found("--since", "1h", "--status", "abandoned", "--contains", "s") == ["stopped"]
    assert found("--since", str(bad["updated_at"]), "--until", str(asking["updated_at"])) == ["stopped", "bad"]


async def make_running(path: Path, number: int) -> None:
    """Runs, the newest first in a listing: of three the first is held or nobody ever held it; others are abandoned."""
    await upgrade_schema(str(path))
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        for index in range(number):
            state = make_state(f"c{index}", run_id=f"r{index}", workflow_name="w", created_at=10_000.0 - index)
            if index % 6 == 3:
                await store.save_checkpoint(state)
                continue
            await store.save_checkpoint(state, owner="somebody", lease_seconds=600)
            if index % 3:
                await store.release_claim(f"c{index}", "somebody")


def test_abandoned_runs_are_found_among_others_that_run(
    cli: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pages, each of which goes on where the one before ended, however many others lie between them."""
    asyncio.run(make_running(tmp_path / "runs.db", 9))
    expected = ["r1", "r2", "r4", "r5", "r7", "r8"]
    found: list[str] = []
    before: list[str] = []
    for _ in range(3):
        page = cli("runs", "list", "--status", "abandoned", "--limit", "2", *before, "--json", *DATABASE).json()
        assert all(run["abandoned"] and run["status"] == "running" for run in page["runs"])
        found += [run["run_id"] for run in page["runs"]]
        before = ["--before", str(page["next"])]
    assert (found, page["next"]) == (expected, None)
    for none in (["--workflow", "other"], ["--contains", "r0"], ["--since", "1970-01-01T02:46:41Z"]):
        assert cli("runs", "list", "--status", "abandoned", *none, *DATABASE).out.startswith("There are no")
    some = ("--contains", "r", "--since", "1970-01-01T02:46:34Z", "--until", "1970-01-01T02:46:39Z")
    page = cli("runs", "list", "--status", "abandoned", *some, "--json", *DATABASE).json()
    assert [run["run_id"] for run in page["runs"]] == ["r2", "r4", "r5"]

    # Where there are more than are asked for at first.
    monkeypatch.setattr(abandoned_runs, "_PAGE", 2)
    assert asyncio.run(abandoned(tmp_path / "runs.db", 5)) == expected[:5]
    assert asyncio.run(abandoned(tmp_path / "runs.db", 50)) == expected


async def abandoned(path: Path, limit: int) -> list[str]:
    """The ids of the abandoned runs."""
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        found = await find_runs(store, status="abandoned", limit=limit)
        return [run.run_id for run in found]


@pytest.mark.usefixtures("made")
def test_show_tells_where_a_run_stands_and_the_commands_that_are_printed_work(cli: CLI) -> None:
    """The question with its choices, the blocks with their items, the checkpoints."""
    shown = cli("runs", "show", "asking", *DATABASE)
    assert shown.code == 0
    assert "Deploy to eu?\n(the answer: one of: yes, no)\nAsked after it: approve[1]\n" in shown.out
    rows = [line.split() for line in shown.out.splitlines()]
    assert [row[:2] for row in rows if row and row[0].startswith(("build", "approve", "hold"))] == [
        ["build", "succeeded"],
        ["approve", "paused"],
        ["approve[0]", "paused"],
        ["approve[1]", "paused"],
        ["hold", "not"],
    ]
    assert [row[2:4] for row in rows if len(row) == 9 and row[1] == "s" and row[2] in {"running", "paused"}] == [
        ["paused", "1"],
        ["running", "1"],
        ["running", "0"],
    ]
    commands = [line.split(maxsplit=1)[1] for line in shown.out.splitlines() if line.startswith("  workflows-mcp ")]
    assert [command.split()[0] for command in commands] == ["resume", "runs", "runs"]
    answered = cli(*shlex.split(commands[0].replace("TEXT", "yes")))
    assert "Deploy to us?" in answered.out
    cancelled = cli(*shlex.split(commands[1]))
    assert cancelled.out.startswith("cancelled: run asking\n")
    assert cli("runs", "show", "asking", "--json", *DATABASE).json()["run"]["status"] == "cancelled"


@pytest.mark.usefixtures("made")
def test_what_can_be_done_depends_on_what_a_run_has_come_to(cli: CLI) -> None:
    """An abandoned one is recovered, one that failed is tried again, and nothing is to be done about a success."""

    def commands(run_id: str) -> dict[str, list[str]]:
        found = cli("runs", "show", run_id, "--json", *DATABASE).json()["commands"]
        return {what: shlex.split(command)[1:3] for what, command in found.items()}

    assert commands("stopped")["go on with it"] == ["recover", "stopped"]
    assert commands("bad") == {"try again what failed, as a new run": ["runs", "fork"]}
    assert "end it" not in commands("good")
    failed = cli("runs", "show", "bad", *DATABASE).out
    assert "error     block 'build' failed: the command ended with exit code 3" in failed
    assert "skipped" in failed


@pytest.mark.usefixtures("made")
def test_what_is_over_is_not_cancelled(cli: CLI) -> None:
    """And what had been cancelled before is."""
    over = cli("runs", "cancel", "good", *DATABASE)
    assert over.code == 1
    assert "run good was over before, as a success" in over.error()
    first, second = (cli("runs", "cancel", "stopped", "--json", *DATABASE) for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert first.json() == second.json()
    assert cli("recover", "stopped", *DATABASE).code == 3


@pytest.mark.usefixtures("made")
def test_a_fork_is_a_new_run_that_repeats_nothing_but_what_failed(cli: CLI, tmp_path: Path) -> None:
    """With other inputs, under a name of its own; the other run stays as it was."""
    listed = {run["run_id"]: run for run in cli("runs", "list", "--json", *DATABASE).json()["runs"]}
    forked = cli("runs", "fork", listed["asking"]["checkpoint_id"], "--run-id", "mine", *DATABASE)
    assert forked.out.startswith("paused: run mine\n\nDeploy to eu?")
    assert not (tmp_path / "built").exists()

    retried = cli("runs", "fork", listed["bad"]["checkpoint_id"], "--input", "code=0", "--json", *DATABASE)
    assert retried.json()["status"] == "paused"
    assert (tmp_path / "built").read_text() == "\n"
    after = {run["run_id"]: run for run in cli("runs", "list", "--json", *DATABASE).json()["runs"]}
    assert after["mine"]["parent_checkpoint_id"] == listed["asking"]["checkpoint_id"]
    assert after["asking"]["checkpoint_id"] == listed["asking"]["checkpoint_id"]

    success = cli("runs", "fork", listed["good"]["checkpoint_id"], *DATABASE)
    assert "is the end of a run that succeeded" in success.error()


@pytest.mark.parametrize("odd", ["soon", b"\xff"])
def test_a_run_with_a_row_that_no_store_has_written_is_shown(cli: CLI, tmp_path: Path, odd: str | bytes) -> None:
    """With what stands there in place of its age."""

    async def save() -> None:
        await upgrade_schema(str(tmp_path / "runs.db"))
        async with SQLAlchemyCheckpointStore(str(tmp_path / "runs.db")) as store:
            for name in "ab":
                await store.save_checkpoint(make_state(name, run_id="r"))

    asyncio.run(save())
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as file:
        file.execute("PRAGMA ignore_check_constraints = ON")
        file.execute("UPDATE checkpoints SET created_at = ? WHERE checkpoint_id = 'a'", (odd,))
        file.commit()
    shown = cli("runs", "show", "r", "--database-url", "runs.db")
    assert shown.code == 0, shown.err
    assert repr(odd) in shown.out
