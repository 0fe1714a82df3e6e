"""Callers that give up."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.engine.probe import Probe, block, shell, text
from tests.engine.test_shell import is_alive, read_pid
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.events import BlockStarted, Event, RunStopped
from workflows_mcp.engine.executor import WorkflowExecutor


def other_tasks() -> set["asyncio.Task[object]"]:
    """All tasks but the test's own."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_a_cancelled_run_stops_its_commands_and_can_be_recovered(
    store: InMemoryCheckpointStore, tmp_path: Path
) -> None:
    """When the cancellation comes out of the call, the process is gone, and no task is left."""
    fifo, go_on = tmp_path / "pid", tmp_path / "go"
    os.mkfifo(fifo)
    workflow = text(
        shell("first", f"echo x >> {tmp_path}/count"),
        shell("second", f"test -e {go_on} || {{ echo $$ > {fifo}; exec sleep 1000; }}", "first"),
    )
    executor = WorkflowExecutor(store)
    run = asyncio.create_task(executor.execute_workflow(workflow, run_id="r"))
    pid = await read_pid(fifo)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not is_alive(pid)
    assert other_tasks() == set()
    assert [one.current_wave_index for one in await store.list_checkpoints(run_id="r")] == [1, 0]
    go_on.touch()
    assert (await executor.recover("r")).is_success
    assert (tmp_path / "count").read_text() == "x\n"


async def test_a_timeout_around_the_call_is_a_cancellation(
    executor: WorkflowExecutor, events: list[Event], probe: Probe
) -> None:
    """It comes out as the timeout that it is, and no block is said to have failed."""
    probe.hold("a", "b", started=2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await executor.execute_workflow(text(block("a"), block("b")))
    assert probe.finished == []
    assert isinstance(events[-2], BlockStarted)
    assert events[-1] == RunStopped(events[-1].run_id, "flow", reason="cancelled", error=None)
    assert other_tasks() == set()


async def test_a_run_goes_on_while_somebody_waits_for_it(executor: WorkflowExecutor, probe: Probe) -> None:
    """The last caller who gives up cancels it."""
    probe.hold("a", started=1)
    executor.load_workflow(text(block("a")))
    first = asyncio.create_task(executor.execute_workflow("flow", run_id="r"))
    await probe.all_started.wait()
    second = asyncio.create_task(executor.execute_workflow("flow", run_id="r"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    probe.release()
    assert (await second).is_success
    assert probe.started == ["a"]
    assert other_tasks() == set()


async def test_who_comes_while_a_run_is_being_cancelled_gets_a_result(
    store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """Not somebody else's cancellation."""
    probe.hold("a", started=1)
    executor = WorkflowExecutor(store)
    executor.load_workflow(text(block("a")))
    first = asyncio.create_task(executor.execute_workflow("flow", run_id="r"))
    await probe.all_started.wait()
    first.cancel()
    recovering = asyncio.create_task(executor.recover("r"))
    with pytest.raises(asyncio.CancelledError):
        await first
    probe.release()
    assert (await recovering).is_success
    assert probe.started == ["a", "a"]


async def test_a_run_cancelled_at_any_moment_can_be_recovered(probe: Probe, tmp_path: Path) -> None:
    """After every number of steps of the event loop; nothing is leaked, and a saved wave never runs again."""
    workflow = text(
        block("a"), shell("b", f"echo b >> {tmp_path}/b", "a"), block("c", "b"), outputs={"o": "{{ blocks.c.status }}"}
    )
    for steps in range(60):
        store = InMemoryCheckpointStore()
        run = asyncio.create_task(WorkflowExecutor(store).execute_workflow(workflow, run_id="r"))
        for _ in range(steps):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])
        assert other_tasks() == set()
        saved = await store.list_checkpoints(run_id="r", limit=1)
        probe.started.clear()
        if saved:
            assert (await WorkflowExecutor(store).recover("r")).outputs == {"o": "succeeded"}
            if saved[0].current_wave_index > 0:
                assert "a" not in probe.started
