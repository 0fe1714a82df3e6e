"""What a watcher is told."""

import asyncio
import contextlib
import logging
from typing import Any

import pytest

from tests.engine.probe import Probe, block, shell, text
from workflows_mcp.engine.checkpoint import CheckpointState, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.events import (
    BlockFinished,
    BlockSkipped,
    BlockStarted,
    CheckpointSaved,
    Event,
    RunEnded,
    RunPaused,
    RunStarted,
    RunStopped,
    WaveFinished,
    WaveStarted,
)
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.errors import LeaseLostError, StoreUnavailableError


async def test_a_run_tells_what_happens_in_order(executor: WorkflowExecutor, events: list[Event], probe: Probe) -> None:
    """Each event names the run."""
    assert probe is not None
    workflow = text(block("a"), block("ask", "a", ask="well?"), block("bad", "ask", fail="no"), block("c", "bad"))
    paused = await executor.execute_workflow(workflow, run_id="r")
    assert [type(event) for event in events] == [
        RunStarted, CheckpointSaved,
        WaveStarted, BlockStarted, BlockFinished, WaveFinished, CheckpointSaved,
        WaveStarted, BlockStarted, WaveFinished, CheckpointSaved, RunPaused,
    ]  # fmt: skip
    assert events[0] == RunStarted("r", "flow", (("a",), ("ask",), ("bad",), ("c",)), 0, continued=False)
    assert paused.checkpoint_id is not None
    assert events[-2] == CheckpointSaved("r", "flow", paused.checkpoint_id, CheckpointStatus.PAUSED, 1)
    assert events[-1] == RunPaused("r", "flow", paused.checkpoint_id, "ask", "well?")
    events.clear()
    failed = await executor.resume_workflow(paused.checkpoint_id, "yes")
    assert [type(event) for event in events] == [
        RunStarted, BlockFinished, CheckpointSaved,
        WaveStarted, BlockStarted, BlockFinished, WaveFinished, CheckpointSaved,
        WaveStarted, BlockSkipped, WaveFinished, CheckpointSaved, CheckpointSaved, RunEnded,
    ]  # fmt: skip
    started, answered, *_ = events
    assert isinstance(started, RunStarted)
    assert started.continued
    assert started.wave == 1
    assert isinstance(answered, BlockFinished)
    assert (answered.block_id, answered.status) == ("ask", "succeeded")
    assert answered.seconds > 0
    last: Event = events[-1]
    assert last == RunEnded("r", "flow", "failure", failed.error, failed.checkpoint_id)
    assert {(event.run_id, event.workflow_name) for event in events} == {("r", "flow")}


async def test_a_watcher_that_fails_does_not_end_the_run(
    store: InMemoryCheckpointStore, probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is logged."""

    async def broken(_: Event) -> None:
        raise RuntimeError("watcher")

    assert probe is not None
    with caplog.at_level(logging.ERROR):
        result = await WorkflowExecutor(store, on_event=broken).execute_workflow(text(block("a")), run_id="r")
    assert result.is_success
    assert "the event callback failed on RunStarted of run 'r'" in caplog.text


async def test_a_watcher_that_comes_upon_a_cancellation_takes_no_block_away(
    store: InMemoryCheckpointStore, probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    """Say, of a task of its own that it awaits; only the run's own cancellation ends a block."""

    async def cancelled(_: Event) -> None:
        sending = asyncio.ensure_future(asyncio.sleep(0))
        sending.cancel()
        await sending

    result = await WorkflowExecutor(store, on_event=cancelled).execute_workflow(text(block("a"), block("b", "a")))
    assert result.is_success
    assert probe.finished == ["a", "b"]
    assert "cancelled from within on BlockStarted" in caplog.text


async def test_a_run_that_is_cancelled_while_a_watcher_is_at_work_is_cancelled(
    store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """The cancellation is not the watcher's."""
    at_work = asyncio.Event()

    async def slow(event: Event) -> None:
        if isinstance(event, BlockStarted):
            at_work.set()
            await asyncio.sleep(60)

    run = asyncio.create_task(WorkflowExecutor(store, on_event=slow).execute_workflow(text(block("a"))))
    await at_work.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert probe.started == []


async def test_a_checkpoint_is_durable_when_its_event_comes(store: InMemoryCheckpointStore, probe: Probe) -> None:
    """Whoever hears of it can load it."""
    seen: list[str] = []

    async def look(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            assert await store.load_checkpoint(event.checkpoint_id) is not None
            seen.append(event.checkpoint_id)

    assert probe is not None
    await WorkflowExecutor(store, on_event=look).execute_workflow(text(block("a")))
    assert len(seen) == 3


async def test_a_run_that_stops_before_its_end_tells_why() -> None:
    """It was ended elsewhere, or its store failed; once, and as the last thing that is told."""

    class Failing(InMemoryCheckpointStore):
        async def save_checkpoint(self, state: CheckpointState, **options: Any) -> str:
            if state.current_wave_index:
                raise StoreUnavailableError("gone")
            return await super().save_checkpoint(state, **options)

    for store, error in ((InMemoryCheckpointStore(), LeaseLostError), (Failing(), StoreUnavailableError)):
        told: list[Event] = []
        other = WorkflowExecutor(store)

        async def listen(event: Event, told: list[Event] = told, other: WorkflowExecutor = other) -> None:
            told.append(event)
            if isinstance(event, BlockFinished) and type(other.checkpoint_store) is InMemoryCheckpointStore:
                await other.cancel("r")

        executor = WorkflowExecutor(store, on_event=listen)
        with contextlib.suppress(StoreUnavailableError):
            await executor.execute_workflow(text(shell("a", "true"), shell("b", "true", "a")), run_id="r")
        assert told[-1] == RunStopped("r", "flow", "lost" if error is LeaseLostError else "failed", error.__name__)
        assert [type(event) for event in told].count(RunStopped) == 1
