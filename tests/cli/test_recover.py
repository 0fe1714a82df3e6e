"""`recover`, and what becomes of a run that is taken away from its process."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CLI
from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowExecutor, upgrade_schema
from workflows_mcp.cli.failures import CommandError
from workflows_mcp.cli.waiting import recover_when_free
from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore

DATABASE = ("--database-url", "runs.db")

HOLDING = """\
name: holding
blocks:
  - {id: quick, type: Shell, inputs: {command: "echo >> quick-ran"}}
  - {id: hold, type: Shell, depends_on: [quick], inputs: {command: "test -e done || { echo > started; cat go; }"}}
  - {id: end, type: Shell, depends_on: [hold], inputs: {command: "true"}}
"""


@pytest.fixture
def held(cli: CLI, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The process of a run `r` whose second block has begun, and goes on when something is written to `go`."""
    (tmp_path / "w.yaml").write_text(HOLDING)
    for name in ("started", "go"):
        os.mkfifo(tmp_path / name)
    process = cli.start_quickly("run", "w.yaml", "--run-id", "r", *DATABASE, env={"WORKFLOWS_LEASE_SECONDS": "600"})
    (tmp_path / "started").read_text()  # opening a FIFO waits for the block to open it too
    yield process
    process.kill()
    process.communicate()
    os.close(os.open(tmp_path / "go", os.O_RDWR | os.O_NONBLOCK))  # lets go of commands that outlived their process


def change(folder: Path, assignment: str, *values: object) -> None:
    """Change the row of the run's newest checkpoint."""
    connection = sqlite3.connect(folder / "runs.db", timeout=10)
    with connection:
        connection.execute(f"UPDATE checkpoints SET {assignment} WHERE NOT superseded", values)
    connection.close()


def test_a_killed_run_goes_on_when_its_lease_has_run_out_and_not_before(
    cli: CLI, held: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Until then a recovery waits, or fails at once when it is told not to wait; nothing that was saved runs twice."""
    held.kill()
    held.communicate()
    (tmp_path / "done").touch()

    refused = cli("recover", "r", "--no-wait", *DATABASE)
    assert refused.code == 1
    assert "is claimed by somebody else until" in refused.error()
    assert cli("recover", *DATABASE).out == "There was nothing to recover.\n"
    unknown = cli("recover", "nobody", *DATABASE)
    assert unknown.code == 1
    assert f"there is no run 'nobody' in the SQLite database '{tmp_path / 'runs.db'}'; " in unknown.error()
    assert "; those that there are: workflows-mcp runs list " in unknown.error()

    waiting = cli.start_quickly("recover", "r", *DATABASE)
    assert waiting.stderr is not None
    told = waiting.stderr.readline()
    assert told.startswith("run r is held by a process that is at work, or died a moment ago: waiting until its lease ")
    change(tmp_path, "lease_expires_at = ?", time.time())
    recovered = cli.finish(waiting)
    assert recovered.code == 0, recovered.err
    assert recovered.out == "success: run r\n"
    assert (tmp_path / "quick-ran").read_text() == "\n"


def test_a_run_that_is_cancelled_from_elsewhere_ends_with_a_code_of_its_own(
    cli: CLI, held: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Its process notices at its next save, and says how a new run begins where this one was."""
    assert cli("runs", "cancel", "r", *DATABASE).code == 0
    (tmp_path / "go").write_text("on")
    ended = cli.finish(held)
    assert ended.code == 3
    assert ended.out == "cancelled: run r\n"
    last = ended.err.splitlines()[-1]
    assert last.startswith("error: run r was cancelled; ")
    assert "workflows-mcp runs fork " in last


def test_a_process_that_lost_its_run_stops_and_names_where_to_look(
    cli: CLI, held: subprocess.Popen[str], tmp_path: Path
) -> None:
    """As after a long standstill: somebody else goes on with the run."""
    change(tmp_path, "lease_owner = ?", "somebody else")
    (tmp_path / "go").write_text("on")
    ended = cli.finish(held)
    assert ended.code == 1
    last = ended.err.splitlines()[-1]
    assert "stop working on it" in last
    assert last.endswith("; see what becomes of it: workflows-mcp runs show r --database-url runs.db")


def test_all_that_was_left_behind_goes_on_and_what_cannot_is_named(cli: CLI, tmp_path: Path) -> None:
    """Runs that were stopped, and questions that nobody answered in time; each line names its run."""
    asyncio.run(_leave_runs_behind(tmp_path))
    recovered = cli("recover", *DATABASE)
    assert recovered.code == 1
    assert set(recovered.out.splitlines()) == {"success: run r", "success: run asked"}
    assert "r   ✓ hold" in recovered.err
    assert "run asked: success" in recovered.err
    warning = next(line for line in recovered.err.splitlines() if line.startswith("warning: "))
    assert "was not saved by this executor" in warning
    assert recovered.err.splitlines()[-1].startswith("error: still abandoned: foreign; ")


async def _leave_runs_behind(folder: Path) -> None:
    """One that was stopped, one whose question is overdue, one of another program."""
    url = str(folder / "runs.db")
    await upgrade_schema(url)
    async with SQLAlchemyCheckpointStore(url) as store:
        executor = WorkflowExecutor(store)
        asking = (
            "name: asking\nblocks:\n"
            "- {id: a, type: Prompt, inputs: {prompt: '?', default: 'yes', timeout_seconds: 0.001}}\n"
        )
        await executor.execute_workflow(asking, run_id="asked")
        started, go = folder / "started", folder / "go"
        for path in (started, go):
            os.mkfifo(path)
        command = f"test -e {folder}/done || {{ echo > {started}; cat {go}; }}"
        run = asyncio.create_task(
            executor.execute_workflow(
                f"name: w\nblocks:\n- {{id: hold, type: Shell, inputs: {{command: '{command}'}}}}\n", run_id="r"
            )
        )
        await asyncio.to_thread(started.read_text)
        run.cancel()
        await asyncio.wait([run])
        (folder / "done").touch()
        foreign = CheckpointState(
            checkpoint_id="foreign",
            workflow_name="w",
            run_id="foreign",
            created_at=time.time(),
            runtime_inputs={},
            context={},
            completed_blocks=[],
            current_wave_index=0,
            execution_waves=[],
            block_definitions={},
            workflow_stack=[],
        )
        await store.save_checkpoint(foreign, owner="x", lease_seconds=30)
        await store.release_claim("foreign", "x")


def test_a_watch_takes_on_what_is_left_behind_and_ends_well_when_it_is_told_to(
    cli: CLI, held: subprocess.Popen[str], tmp_path: Path
) -> None:
    """It goes on with a run as soon as nobody holds it; told to end, it stops the run, which can go on at once."""
    watching = cli.start_quickly("recover", "--watch", *DATABASE, env={"WORKFLOWS_LEASE_SECONDS": "1"})
    held.kill()
    held.communicate()
    change(tmp_path, "lease_expires_at = ?", time.time())
    (tmp_path / "started").read_text()
    watching.send_signal(signal.SIGTERM)
    ended = cli.finish(watching)
    assert ended.code == 0
    assert "run r of holding goes on with wave 2 of 3\n" in ended.err
    assert ended.err.splitlines()[-1].startswith("ended; what was under way can be recovered at once: ")

    (tmp_path / "done").touch()
    assert cli("recover", "--json", *DATABASE).json()["runs"][0]["status"] == "success"


async def held_elsewhere(store: InMemoryCheckpointStore, seconds: float) -> None:
    """Save a run, as a process that holds it for so long and then is gone."""
    workflow = "name: w\nblocks: [{id: a, type: Shell, inputs: {command: 'true'}}]\n"
    result = await WorkflowExecutor(store).execute_workflow(workflow)
    first = (await store.list_checkpoints())[-1]
    state = await store.load_checkpoint(first.checkpoint_id)
    assert state is not None
    await store.delete_run(result.run_id)
    await store.save_checkpoint(state, owner="dead", lease_seconds=seconds)


async def test_a_recovery_waits_no_longer_than_the_lease_lasts() -> None:
    """And tells how long that is, once."""
    store = InMemoryCheckpointStore()
    await held_elsewhere(store, 0.2)
    run_id = str((await store.list_checkpoints())[0].run_id)
    told: list[float] = []
    result = await recover_when_free(store, run_id, WorkflowExecutor(store).recover, tell=told.append)
    assert result.is_success
    assert len(told) == 1
    assert 0 < told[0] <= 0.2


async def test_a_recovery_gives_up_when_the_process_turns_out_to_be_alive() -> None:
    """It renewed its lease: there would be no end to the waiting."""
    store = InMemoryCheckpointStore()
    await held_elsewhere(store, 600)
    head = (await store.list_checkpoints())[0]
    executor = WorkflowExecutor(store)
    waiting = asyncio.Event()
    recovery = asyncio.create_task(
        recover_when_free(store, str(head.run_id), executor.recover, tell=lambda _: waiting.set())
    )
    await waiting.wait()
    await store.renew_lease(head.checkpoint_id, "dead", 700)
    with pytest.raises(CommandError, match="is at work in another process"):
        await recovery
