"""An executor whose server goes down: what is under way ends, nothing begins, and others go on."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.probe import Probe, block, shell, text
from tests.engine.test_shell import is_alive, read_pid
from tests.executor.test_owners import eventually, paused_at
from workflows_mcp import (
    CheckpointConfig,
    CheckpointMetadata,
    CheckpointState,
    CheckpointStore,
    ExecutorStoppedError,
    InMemoryCheckpointStore,
    StoreUnavailableError,
    WorkflowExecutor,
    WorkflowResult,
)
from workflows_mcp.engine.events import Event, RunStopped

CHAIN = text(block("a"), block("b", "a"), block("c", "b"))
INNER = text(block("x"), block("y", "x"), name="inner")


@pytest.fixture
def memory() -> InMemoryCheckpointStore:
    """An empty store, where all of them do the same."""
    return InMemoryCheckpointStore()


async def stop_in(executor: WorkflowExecutor, probe: Probe, workflow: str, *held: str, started: int) -> WorkflowResult:
    """What a caller is told whose run is stopped while these blocks are under way, and then end."""
    probe.hold(*held, started=started)
    run = asyncio.create_task(executor.execute_workflow(workflow, run_id="r"))
    await probe.all_started.wait()
    stopping = asyncio.create_task(executor.stop(60))
    await asyncio.sleep(0)
    probe.release()
    await stopping
    return await run


async def test_a_block_under_way_ends_and_none_begins(store: CheckpointStore, probe: Probe) -> None:
    """The run is saved and let go, its caller told how it is found again, and another executor does the rest."""
    told: list[Event] = []

    async def note(event: Event) -> None:
        told.append(event)

    result = await stop_in(WorkflowExecutor(store, on_event=note), probe, CHAIN, "b", started=2)
    assert (result.status, result.run_id) == ("running", "r")
    assert probe.finished == ["a", "b"]
    assert told[-1] == RunStopped("r", "flow", reason="cancelled", error=None)
    [head] = await store.list_abandoned()
    assert (head.checkpoint_id, head.current_wave_index) == (result.checkpoint_id, 2)
    assert (await WorkflowExecutor(store).recover("r")).is_success
    assert probe.started == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("workflow", "held", "before_and_rest"),
    [
        (
            text({**block("each"), "for_each": [1, 2, 3], "for_each_mode": "sequential"}, block("z", "each")),
            "each",
            (["each"], ["each", "each", "z"]),
        ),
        (
            text({**block("each"), "for_each": [1, 2, 3], "max_parallel": 2}, block("beside"), block("z", "each")),
            "each",
            (["beside", "each", "each"], ["each", "z"]),
        ),
        (
            text({"id": "n", "type": "Workflow", "inputs": {"workflow": "inner"}}, block("z", "n")),
            "x",
            (["x"], ["y", "z"]),
        ),
        (
            text({"id": "n", "type": "Workflow", "for_each": [1, 2], "inputs": {"workflow": "inner"}}, block("z", "n")),
            "x",
            (["x", "x"], ["y", "y", "z"]),
        ),
    ],
    ids=["items in order", "items together", "nested", "nested items"],
)
async def test_what_was_held_back_is_done_by_whoever_goes_on(
    memory: InMemoryCheckpointStore,
    probe: Probe,
    workflow: str,
    held: str,
    before_and_rest: tuple[list[str], list[str]],
) -> None:
    """And nothing that had ended is done again, wherever in the run it was."""
    before, rest = before_and_rest
    executor = WorkflowExecutor(memory)
    executor.load_workflow(INNER)
    assert (await stop_in(executor, probe, workflow, held, started=len(before))).status == "running"
    assert sorted(probe.finished) == before
    assert "paused" not in {one.status for one in (await executor.get_run("r")).blocks}
    probe.started.clear()
    assert (await WorkflowExecutor(memory).recover("r")).is_success
    assert probe.started == rest


async def test_a_run_that_would_wait_anyway_just_waits(memory: InMemoryCheckpointStore, probe: Probe) -> None:
    """Nothing of it was held back; nor of one that is over by then."""
    workflow = text(block("ask", ask="?"), block("a"))
    assert (await stop_in(WorkflowExecutor(memory), probe, workflow, "a", started=2)).is_paused
    other = InMemoryCheckpointStore()
    probe.started.clear()
    assert (await stop_in(WorkflowExecutor(other), probe, text(block("a")), "a", started=1)).is_success


async def test_what_asks_and_what_was_held_back_both_come_back(memory: InMemoryCheckpointStore, probe: Probe) -> None:
    """The question is asked, not lost, by whoever goes on."""
    items = {**block("each"), "for_each": [1, 2], "for_each_mode": "sequential"}
    await stop_in(WorkflowExecutor(memory), probe, text(block("ask", ask="?"), items), "each", started=2)
    other = WorkflowExecutor(memory)
    paused = paused_at(await other.recover("r"))
    assert (await other.resume_workflow(paused, "yes")).is_success
    assert probe.started == ["ask", "each", "each"]


async def test_what_does_not_end_in_time_is_killed(store: CheckpointStore, tmp_path: Path) -> None:
    """What had ended beside it is kept; the caller is told that the run goes on elsewhere, and it does, at once."""
    fifo, go_on = tmp_path / "pid", tmp_path / "go"
    os.mkfifo(fifo)
    workflow = text(
        shell("quick", f"echo x >> {tmp_path}/count"),
        shell("slow", f"test -e {go_on} || {{ echo $$ > {fifo}; exec sleep 1000; }}"),
        shell("after", f"echo y >> {tmp_path}/count", "slow"),
    )
    executor = WorkflowExecutor(store)
    run = asyncio.create_task(executor.execute_workflow(workflow, run_id="r"))
    pid = await read_pid(fifo)
    await eventually(lambda: _exists(tmp_path / "count"))
    await executor.stop(0.02)
    assert not is_alive(pid)
    assert (await run).status == "running"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    go_on.touch()
    [result] = await WorkflowExecutor(store).recover()
    assert result.is_success
    assert (tmp_path / "count").read_text() == "x\ny\n"


async def _exists(path: Path) -> bool:
    # What a shell block gives is noted a moment after it has written.
    await asyncio.sleep(0.05)
    return path.exists()


async def test_a_stopped_executor_begins_nothing(memory: InMemoryCheckpointStore, probe: Probe) -> None:
    """It says so, and still tells of runs, and cancels them."""
    executor = WorkflowExecutor(memory)
    executor.load_workflow(CHAIN)
    paused = paused_at(await executor.execute_workflow(text(block("ask", ask="?")), run_id="r"))
    await executor.stop()
    await executor.stop(1)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: executor.execute_workflow("flow"),
        lambda: executor.start_workflow("flow", run_id="new"),
        lambda: executor.resume_workflow(paused, "yes"),
        lambda: executor.start_resume(paused, "yes"),
        lambda: executor.fork(paused),
        lambda: executor.start_fork(paused),
        executor.recover,
        lambda: executor.recover("r"),
    ]
    for call in calls:
        with pytest.raises(ExecutorStoppedError, match="shutting down"):
            await call()
    assert (await executor.get_run("r")).status == "paused"
    assert (await executor.cancel("r")).status == "cancelled"
    assert probe.started == ["ask"]
    for grace in (-1, float("nan"), "1"):
        with pytest.raises(ValueError, match="grace_seconds"):
            await executor.stop(grace)  # type: ignore[arg-type]


@pytest.mark.parametrize("grace", [0, 60])
async def test_a_run_that_has_not_begun_does_not_begin(probe: Probe, grace: float) -> None:
    """Whoever waits for it is told, and nothing is stored."""
    looking, go_on = asyncio.Event(), asyncio.Event()

    class Slow(InMemoryCheckpointStore):
        async def list_checkpoints(self, *args: Any, **options: Any) -> Any:
            looking.set()
            await go_on.wait()
            return await super().list_checkpoints(*args, **options)

    store = Slow()
    executor = WorkflowExecutor(store)
    starting = asyncio.create_task(executor.start_workflow(CHAIN, run_id="r"))
    await looking.wait()
    stopping = asyncio.create_task(executor.stop(grace))
    await asyncio.sleep(0)
    go_on.set()
    await stopping
    with pytest.raises(ExecutorStoppedError):
        await starting
    assert probe.started == []
    assert await store.list_checkpoints() == []


async def test_an_answer_that_was_not_saved_was_not_given(probe: Probe) -> None:
    """It can be given again at once, to another server."""
    saving = asyncio.Event()

    class Failing(InMemoryCheckpointStore):
        is_away = False

        async def save_checkpoint(self, state: CheckpointState, **options: Any) -> str:
            if self.is_away and saving.is_set():  # the second try of what was cancelled
                raise StoreUnavailableError("the database is gone")
            if self.is_away:
                saving.set()
                await asyncio.Event().wait()
            return await super().save_checkpoint(state, **options)

    store = Failing()
    executor = WorkflowExecutor(store)
    paused = paused_at(await executor.execute_workflow(text(block("ask", ask="?"), block("a", "ask"))))
    store.is_away = True
    answering = asyncio.create_task(executor.start_resume(paused, "yes"))
    await saving.wait()
    await executor.stop()
    with pytest.raises(ExecutorStoppedError, match="before what was asked for was saved"):
        await answering
    store.is_away = False
    assert (await WorkflowExecutor(store).resume_workflow(paused, "yes")).is_success
    assert probe.started == ["ask", "a"]


async def test_a_second_stop_cuts_the_first_one_short(memory: InMemoryCheckpointStore, probe: Probe) -> None:
    """As a second Ctrl-C does."""
    probe.hold("a", started=1)
    executor = WorkflowExecutor(memory)
    await executor.start_workflow(CHAIN, run_id="r")
    await probe.all_started.wait()
    first = asyncio.create_task(executor.stop(1000))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await executor.stop()
        await first
    assert [one.run_id for one in await memory.list_abandoned()] == ["r"]
    assert probe.finished == []


async def test_a_stop_waits_for_no_retry(memory: InMemoryCheckpointStore, probe: Probe) -> None:
    """The next try is made by whoever goes on."""
    flaky = {**block("a", fail="no"), "retries": {"times": 1, "delay_seconds": 1000}}
    executor = WorkflowExecutor(memory)
    probe.wait_for = 1
    await executor.start_workflow(text(flaky), run_id="r")
    await probe.all_started.wait()
    async with asyncio.timeout(10):
        await executor.stop(1000)
    result = await WorkflowExecutor(memory).recover("r")
    assert result.status == "failure"
    assert probe.started == ["a", "a"]


async def test_without_saves_a_stopped_run_is_saved_all_the_same(memory: InMemoryCheckpointStore, probe: Probe) -> None:
    """It would be lost, else: as a pause, that is no place to save time."""
    executor = WorkflowExecutor(memory, CheckpointConfig(enabled=False))
    result = await stop_in(executor, probe, CHAIN, "a", started=1)
    assert result.checkpoint_id is not None
    assert (await WorkflowExecutor(memory).recover("r")).is_success
    assert probe.started == ["a", "b", "c"]


async def test_a_run_that_ends_as_it_is_stopped_has_ended(probe: Probe) -> None:
    """It is not made a running one again by the save of those that are stopped."""
    ending, go_on = asyncio.Event(), asyncio.Event()

    class Slow(InMemoryCheckpointStore):
        async def save_checkpoint(self, state: CheckpointState, **options: Any) -> str:
            saved = await super().save_checkpoint(state, **options)
            if state.status == "completed" and not go_on.is_set():
                ending.set()
                go_on.set()
                await asyncio.Event().wait()
            return saved

    store = Slow()
    executor = WorkflowExecutor(store)
    run = asyncio.create_task(executor.execute_workflow(text(block("a", give=1)), run_id="r"))
    await ending.wait()
    await executor.stop()
    assert (await run).is_success
    assert await store.list_abandoned() == []
    assert (await WorkflowExecutor(store).recover("r")).is_success
    assert probe.started == ["a"]


@pytest.mark.parametrize("grace", [0, 60])
async def test_a_slow_release_is_not_taken_for_a_loss(probe: Probe, grace: float) -> None:
    """By the renewal that would have been due meanwhile."""

    class Slow(InMemoryCheckpointStore):
        async def release_claim(self, *args: Any) -> None:
            await super().release_claim(*args)
            await asyncio.sleep(0.1)

    probe.hold("a", started=1)
    executor = WorkflowExecutor(Slow(), lease_seconds=0.1)
    run = asyncio.create_task(executor.execute_workflow(CHAIN, run_id="r"))
    await probe.all_started.wait()
    stopping = asyncio.create_task(executor.stop(grace))
    await asyncio.sleep(0)
    if grace:
        probe.release()
    await stopping
    assert (await run).status == "running"


@pytest.mark.parametrize("calls", [["stop"], ["cancel"], ["stop", "cancel"], ["cancel", "stop"]])
async def test_what_ends_a_run_while_it_is_let_go_changes_nothing_for_its_caller(
    probe: Probe, calls: list[str]
) -> None:
    """It hears why the run stopped, and not that nothing was done: blocks ran, and others may go on with it."""
    releasing, go_on = asyncio.Event(), asyncio.Event()

    class Failing(InMemoryCheckpointStore):
        is_away = False

        async def save_checkpoint(self, state: CheckpointState, **options: Any) -> str:
            if state.current_wave_index and state.status == "running":
                raise StoreUnavailableError("the database is gone")
            return await super().save_checkpoint(state, **options)

        async def release_claim(self, *args: Any) -> None:
            releasing.set()
            await go_on.wait()
            await super().release_claim(*args)

    executor = WorkflowExecutor(Failing(), runs_outlive_callers=True)
    run = asyncio.create_task(executor.execute_workflow(CHAIN, run_id="r"))
    await releasing.wait()
    ends: dict[str, Callable[[], Awaitable[Any]]] = {"stop": executor.stop, "cancel": lambda: executor.cancel("r")}
    ending = []
    for call in calls:
        ending.append(asyncio.ensure_future(ends[call]()))
        for _ in range(10):
            await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(StoreUnavailableError, match="the database is gone"):
        await run
    await asyncio.gather(*ending)
    assert probe.started == ["a"]


async def test_a_run_that_has_begun_is_never_told_to_be_none(probe: Probe) -> None:
    """Not though all that runs is cancelled as the server goes down: it would be begun again, and recovered besides."""
    releasing = asyncio.Event()

    class Slow(InMemoryCheckpointStore):
        async def release_claim(self, *args: Any) -> None:
            releasing.set()
            await asyncio.sleep(0.05)
            await super().release_claim(*args)

    store = Slow()
    executor = WorkflowExecutor(store, runs_outlive_callers=True)
    probe.hold("a", started=1)
    run = asyncio.create_task(executor.execute_workflow(CHAIN, run_id="r"))
    await probe.all_started.wait()
    for task in asyncio.all_tasks():
        if task.get_name() == "run r":
            task.cancel()
    await releasing.wait()
    await executor.stop()
    assert (await run).status == "running"
    probe.release()
    assert (await WorkflowExecutor(store).recover("r")).is_success


async def test_a_stop_holds_back_blocks_though_the_store_hangs(probe: Probe) -> None:
    """Whoever looks for runs waits for it, even when cancelled, and the blocks must not go on meanwhile."""
    looking, go_on = asyncio.Event(), asyncio.Event()

    class Hanging(InMemoryCheckpointStore):
        async def list_abandoned(self, limit: int | None = None) -> list[CheckpointMetadata]:
            assert limit
            looking.set()
            try:
                await asyncio.Event().wait()
            finally:
                await go_on.wait()
            return []

    executor = WorkflowExecutor(Hanging(), recover_every_seconds=1)
    probe.hold("a", started=1)
    async with executor:
        run = asyncio.create_task(executor.execute_workflow(CHAIN, run_id="r"))
        await probe.all_started.wait()
        await looking.wait()
        stopping = asyncio.create_task(executor.stop(60))
        for _ in range(5):
            await asyncio.sleep(0)
        probe.release()
        assert (await run).status == "running"
        assert probe.started == ["a"]
        assert not stopping.done()
        go_on.set()
        await stopping


async def test_a_claim_is_given_back_however_often_it_is_cancelled(probe: Probe) -> None:
    """By its caller, and by the executor that ends meanwhile: nobody would know that it is nobody's."""
    claimed, releasing, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(InMemoryCheckpointStore):
        async def claim_checkpoint(self, *args: Any) -> CheckpointState:
            await super().claim_checkpoint(*args)
            claimed.set()
            return await asyncio.Future()

        async def release_claim(self, *args: Any) -> None:
            releasing.set()
            await go_on.wait()
            await super().release_claim(*args)

    store = Slow()
    executor = WorkflowExecutor(store)
    paused = paused_at(await executor.execute_workflow(text(block("ask", ask="?"))))
    run = asyncio.create_task(executor.resume_workflow(paused, "yes"))
    await claimed.wait()
    run.cancel()
    await releasing.wait()
    [resuming] = (one for one in asyncio.all_tasks() if one.get_name() == "run to be claimed")
    stopping = asyncio.create_task(executor.stop())
    await asyncio.sleep(0)
    resuming.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait([run, stopping])
    assert max(one.lease_expires_at or 0.0 for one in await store.list_checkpoints()) <= time.time()
    assert probe.started == ["ask"]


async def test_what_a_stop_brings_about_is_no_fault_in_the_log(probe: Probe, caplog: pytest.LogCaptureFixture) -> None:
    """A run that nobody waits for any more, and that has not begun."""
    looking, go_on = asyncio.Event(), asyncio.Event()

    class Slow(InMemoryCheckpointStore):
        async def list_checkpoints(self, *args: Any, **options: Any) -> Any:
            looking.set()
            await go_on.wait()
            return await super().list_checkpoints(*args, **options)

    executor = WorkflowExecutor(Slow(), runs_outlive_callers=True)
    starting = asyncio.create_task(executor.start_workflow(CHAIN, run_id="r"))
    await looking.wait()
    starting.cancel()
    await asyncio.wait([starting])
    caplog.set_level(logging.INFO)
    stopping = asyncio.create_task(executor.stop(60))
    await asyncio.sleep(0)
    go_on.set()
    await stopping
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("run 'r' has stopped, and nobody waited for it: this server is shutting down")
    assert probe.started == []
