"""Runs that belong to their executor, and not to a call."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.engine.probe import Probe, block, shell, text
from tests.engine.test_recovery import FailingStore
from tests.executor.test_owners import paused_at
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointConfig,
    CheckpointNotFoundError,
    CheckpointStore,
    ExecutorStoppedError,
    InMemoryCheckpointStore,
    StoreUnavailableError,
    WorkflowDefinitionError,
    WorkflowExecutor,
    WorkflowNotFoundError,
    WorkflowResult,
)

FLOW = text(block("a", give=7), block("b", "a"), outputs={"o": "{{ blocks.a.outputs.value }}"})
ASK = text(block("ask", ask="?"), block("a", "ask"))


async def test_a_run_is_left_running_once_its_beginning_is_durable(store: CheckpointStore, probe: Probe) -> None:
    """To ask for it again is safe, also elsewhere; each executor can wait for it, and no block runs twice."""
    probe.hold("a", started=1)
    mine, other = WorkflowExecutor(store), WorkflowExecutor(store)
    begun = await mine.start_workflow(FLOW, run_id="r")
    assert begun.status == "running"
    [first] = await store.list_checkpoints(run_id="r")
    assert begun.checkpoint_id == first.checkpoint_id
    for executor in (mine, other):
        assert await executor.start_workflow(FLOW, run_id="r") == begun
        assert await executor.wait_for_run("r", 0.01) == begun
    waiting = [asyncio.create_task(executor.wait_for_run("r", 60)) for executor in (mine, other)]
    await probe.all_started.wait()
    probe.release()
    for result in await asyncio.gather(*waiting):
        assert (result.status, result.outputs) == ("success", {"o": 7})
    assert await other.start_workflow(FLOW, run_id="r") == await mine.wait_for_run("r", 0)
    assert probe.started == ["a", "b"]


@pytest.fixture
def memory() -> InMemoryCheckpointStore:
    """An empty store, where all of them do the same."""
    return InMemoryCheckpointStore()


async def test_what_is_wrong_is_said_before_a_run_is_left_running(
    memory: InMemoryCheckpointStore, probe: Probe
) -> None:
    """By the call that asks for it."""
    executor = WorkflowExecutor(memory)
    with pytest.raises(WorkflowNotFoundError):
        await executor.start_workflow("nowhere")
    with pytest.raises(WorkflowDefinitionError, match="unknown"):
        await executor.start_workflow(FLOW, {"unknown": 1})
    await executor.execute_workflow(FLOW, run_id="r")
    with pytest.raises(ValueError, match="choose another run_id"):
        await executor.start_workflow(text(block("a"), name="other"), run_id="r")
    with pytest.raises(StoreUnavailableError):
        await WorkflowExecutor(FailingStore(0)).start_workflow(FLOW)
    assert probe.started == ["a", "b"]


async def test_an_answer_is_durable_when_its_run_is_left_running(store: CheckpointStore, probe: Probe) -> None:
    """Nobody can answer once more, and a crash would not ask again."""
    executor = WorkflowExecutor(store)
    paused = paused_at(await executor.execute_workflow(ASK, run_id="r"))
    probe.hold("a", started=2)
    assert (await executor.start_resume(paused, "yes")).status == "running"
    [head, *_] = await store.list_checkpoints(run_id="r")
    assert (head.status, head.superseded) == ("running", False)
    with pytest.raises(CheckpointAlreadyClaimedError):
        await executor.start_resume(paused, "no")
    probe.release()
    assert (await executor.wait_for_run("r", 60)).is_success
    assert probe.started == ["ask", "a"]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([{**block("a", ask="?"), "for_each": [1, 2], "for_each_mode": "sequential"}], None),
        ([block("a", ask="?")], [block("a", ask="?"), block("new")]),
    ],
    ids=["items in order", "current definition"],
)
async def test_an_answer_is_durable_before_any_block_begins(
    memory: InMemoryCheckpointStore, probe: Probe, before: list[dict[str, Any]], now: list[dict[str, Any]] | None
) -> None:
    """Also in a wave that is not over by it."""
    executor = WorkflowExecutor(memory)
    paused = paused_at(await executor.execute_workflow(text(*before), run_id="r"))
    executor.load_workflow(text(*(now or before)))
    probe.hold("a", "new", started=2)
    begun = await executor.start_resume(paused, "yes", definition="saved" if now is None else "current")
    await probe.all_started.wait()
    state = await memory.load_checkpoint(begun.checkpoint_id or "")
    assert state is not None
    answered = state.context["blocks"]["a"]
    assert (answered if now else answered["items"]["0"])["status"] == "succeeded"
    probe.release()
    assert (await executor.wait_for_run("r", 60)).status == ("paused" if now is None else "success")


async def test_a_fork_is_left_running(memory: InMemoryCheckpointStore, probe: Probe) -> None:
    """As any run."""
    executor = WorkflowExecutor(memory)
    await executor.execute_workflow(FLOW, run_id="r")
    first = (await memory.list_checkpoints(run_id="r"))[-1]
    probe.hold("a", started=3)
    assert (await executor.start_fork(first.checkpoint_id, run_id="fork")).status == "running"
    await probe.all_started.wait()
    probe.release()
    assert (await executor.wait_for_run("fork", 60)).is_success


async def test_without_saves_a_run_is_left_running_once_it_has_begun(probe: Probe) -> None:
    """There is no checkpoint to wait for, and this executor alone knows of it."""
    probe.hold("a", started=1)
    executor = WorkflowExecutor(checkpoint_config=CheckpointConfig(enabled=False))
    begun = await executor.start_workflow(FLOW, run_id="r")
    assert (begun.status, begun.checkpoint_id) == ("running", None)
    assert await executor.wait_for_run("r", 0) == begun
    probe.release()
    assert (await executor.wait_for_run("r", 60)).is_success


async def test_a_run_outlives_its_caller_when_that_is_wanted(memory: InMemoryCheckpointStore, probe: Probe) -> None:
    """Whether the caller ran or answered it; `cancel` ends it."""
    executor = WorkflowExecutor(memory, runs_outlive_callers=True)
    paused = paused_at(await executor.execute_workflow(ASK, run_id="asks"))
    calls: dict[str, Callable[[], Coroutine[Any, Any, WorkflowResult]]] = {
        "r": lambda: executor.execute_workflow(FLOW, run_id="r"),
        "asks": lambda: executor.resume_workflow(paused, "yes"),
    }
    for run_id, call in calls.items():
        probe.hold("a", started=len(probe.started) + 1)
        caller = asyncio.create_task(call())
        await probe.all_started.wait()
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        probe.release()
        assert (await executor.wait_for_run(run_id, 60)).is_success
    probe.hold("a", started=len(probe.started) + 1)
    caller = asyncio.create_task(executor.execute_workflow(FLOW, run_id="unwanted"))
    await probe.all_started.wait()
    caller.cancel()
    assert (await executor.cancel("unwanted")).status == "cancelled"


async def test_whoever_only_waits_for_a_run_leaves_it_alone(memory: InMemoryCheckpointStore, probe: Probe) -> None:
    """Also when the run belongs to its caller."""
    probe.hold("a", started=1)
    executor = WorkflowExecutor(memory)
    run = asyncio.create_task(executor.execute_workflow(FLOW, run_id="r"))
    await probe.all_started.wait()
    waiting = asyncio.create_task(executor.wait_for_run("r", 60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    probe.release()
    assert (await run).is_success


async def test_a_run_that_is_not_there_cannot_be_waited_for(memory: InMemoryCheckpointStore) -> None:
    """Nor for ever, nor for less than nothing."""
    executor = WorkflowExecutor(memory)
    with pytest.raises(CheckpointNotFoundError, match="there is no run 'nope'"):
        await executor.wait_for_run("nope", 60)
    for seconds in (-1, float("inf"), float("nan"), 10**400, "1", True, None):
        with pytest.raises(ValueError, match="seconds must be"):
            await executor.wait_for_run("r", seconds)  # type: ignore[arg-type]


async def test_what_goes_wrong_later_is_logged(probe: Probe, caplog: pytest.LogCaptureFixture) -> None:
    """Once, with what is wrong with the store, and without what somebody else's store says."""

    class Odd(FailingStore):
        async def save_checkpoint(self, state: Any, **options: Any) -> str:
            try:
                return await super().save_checkpoint(state, **options)
            except StoreUnavailableError:
                raise RuntimeError("hunter2") from None

    for store, said in ((FailingStore(1), "the database is gone"), (Odd(1), "RuntimeError")):
        caplog.clear()
        await WorkflowExecutor(store).start_workflow(FLOW, run_id="r")
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others)
        await asyncio.sleep(0)
        del others
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage() == f"run 'r' has stopped, and nobody waited for it: {said}"
        assert record.exc_info is None
    assert probe.started == ["a", "a"]


async def test_runs_that_were_left_running_end_with_their_executor(store: CheckpointStore) -> None:
    """Their processes are killed, and anybody may go on with them at once."""
    workflow = text(shell("a", "test -e {{ inputs.go }} || exec sleep 1000"), inputs={"go": {"type": "str"}})
    async with WorkflowExecutor(store) as executor:
        await executor.start_workflow(workflow, {"go": "/"}, run_id="over")
        assert (await executor.wait_for_run("over", 60)).is_success
        await executor.start_workflow(workflow, {"go": "/nowhere"}, run_id="r")
    [left] = await store.list_abandoned()
    assert left.run_id == "r"
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("others", [0, 1], ids=["nobody else", "somebody who waits for its end"])
async def test_a_run_that_begins_as_its_executor_is_left_is_left_to_others(probe: Probe, others: int) -> None:
    """Its starter is told that it has begun; nobody would end it any more, and its lease would be renewed for good."""
    saving, go_on = asyncio.Event(), asyncio.Event()

    class Slow(InMemoryCheckpointStore):
        async def save_checkpoint(self, state: Any, **options: Any) -> str:
            if not saving.is_set():
                saving.set()
                await go_on.wait()
            return await super().save_checkpoint(state, **options)

    store = Slow()
    probe.hold("a", started=1)
    executor = WorkflowExecutor(store)
    async with executor:
        starting = asyncio.create_task(executor.start_workflow(FLOW, run_id="r"))
        await saving.wait()
        waiting = [asyncio.create_task(executor.execute_workflow(FLOW, run_id="r")) for _ in range(others)]
        for _ in range(5):
            await asyncio.sleep(0)
    for task in waiting:  # while the starter waits, too, so that the run is not cancelled with it
        task.cancel()
        await asyncio.wait([task])
    go_on.set()
    assert (await starting).status == "running"
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()} or {starting})
    assert len(await store.list_abandoned()) == 1
    with pytest.raises(ExecutorStoppedError):
        await executor.start_workflow(FLOW, run_id="other")
    probe.release()
    async with executor:
        assert (await executor.recover("r")).is_success
        await executor.stop()
    async with executor:
        with pytest.raises(ExecutorStoppedError):
            await executor.start_workflow(FLOW, run_id="other")
