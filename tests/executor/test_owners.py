"""One run, one owner: of any number of executors that want a run, one has it, and the others are told."""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.engine.probe import Probe, block, text
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointConfig,
    CheckpointStatus,
    CheckpointStore,
    LeaseLostError,
    StoreUnavailableError,
    WorkflowExecutor,
    WorkflowResult,
)

ASK = text(block("ask", ask="?"), block("after", "ask", give=1), outputs={"o": "{{ blocks.after.outputs.value }}"})


def paused_at(result: WorkflowResult) -> str:
    """The checkpoint of a pause."""
    assert result.is_paused
    assert result.checkpoint_id is not None
    return result.checkpoint_id


async def eventually(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Look until it is so, for as long as a slow machine may take."""
    for _ in range(1000):
        if await is_so():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never was so")


async def hold(
    store: CheckpointStore, probe: Probe, run_id: str = "r", **options: Any
) -> "asyncio.Task[WorkflowResult]":
    """A run whose block `a` is under way, in an executor of its own."""
    probe.hold("a", started=1)
    executor = WorkflowExecutor(store, **options)
    running = asyncio.create_task(executor.execute_workflow(text(block("a"), block("b", "a")), run_id=run_id))
    started = asyncio.create_task(probe.all_started.wait())
    await asyncio.wait([started, running], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    assert probe.all_started.is_set(), running
    return running


async def test_of_many_executors_that_answer_one_pause_one_goes_on(store: CheckpointStore, probe: Probe) -> None:
    """The others are told that it is claimed, and change nothing."""
    paused = paused_at(await WorkflowExecutor(store).execute_workflow(ASK))
    answers = (WorkflowExecutor(store).resume_workflow(paused, f"answer {n}") for n in range(8))
    found = await asyncio.gather(*answers, return_exceptions=True)
    won = [one for one in found if isinstance(one, WorkflowResult)]
    assert [one.outputs for one in won] == [{"o": 1}]
    assert sum(isinstance(one, CheckpointAlreadyClaimedError) for one in found) == 7
    assert probe.started == ["ask", "after"]


async def test_an_answered_pause_waits_no_more(store: CheckpointStore, probe: Probe) -> None:
    """It is history; only the end of the run is its head."""
    assert probe is not None
    result = await WorkflowExecutor(store).execute_workflow(ASK, run_id="r")
    assert [one.checkpoint_id for one in await store.list_checkpoints(is_paused=True)] == [result.checkpoint_id]
    end = await WorkflowExecutor(store).resume_workflow(paused_at(result), "yes")
    assert await store.list_checkpoints(is_paused=True) == []
    heads = await store.list_checkpoints(run_id="r", heads_only=True)
    assert [one.checkpoint_id for one in heads] == [end.checkpoint_id]


async def test_of_many_executors_that_begin_one_run_one_does(store: CheckpointStore, probe: Probe) -> None:
    """Whoever comes second is told what the run has come to by then."""
    workflow = text(block("a"), block("b", "a"))
    executors = [WorkflowExecutor(store) for _ in range(6)]
    found = await asyncio.gather(*(one.execute_workflow(workflow, run_id="r") for one in executors))
    assert probe.started == ["a", "b"]
    assert {one.status for one in found} <= {"success", "running"}
    assert sum(one.is_success for one in found) >= 1
    assert len(await store.list_checkpoints(run_id="r", heads_only=True)) == 1


async def test_a_run_that_is_held_is_not_recovered(store: CheckpointStore, probe: Probe) -> None:
    """Its lease says that somebody works on it."""
    running = await hold(store, probe)
    with pytest.raises(CheckpointAlreadyClaimedError):
        await WorkflowExecutor(store).recover("r")
    assert await WorkflowExecutor(store).recover() == []
    probe.release()
    assert (await running).is_success
    assert probe.started == ["a", "b"]


async def test_a_block_may_take_longer_than_the_lease(store: CheckpointStore, probe: Probe) -> None:
    """It is renewed as long as the process lives."""
    running = await hold(store, probe, lease_seconds=0.3)
    started = time.monotonic()

    async def has_been_long() -> bool:
        assert await WorkflowExecutor(store).recover() == []
        return time.monotonic() - started > 1

    await eventually(has_been_long)
    probe.release()
    assert (await running).is_success


async def test_a_run_whose_caller_goes_away_is_recovered_at_once(store: CheckpointStore, probe: Probe) -> None:
    """Its lease is released, however long it was."""
    running = await hold(store, probe, lease_seconds=3600)
    running.cancel()
    await asyncio.wait([running])
    probe.release()
    [result] = await WorkflowExecutor(store).recover()
    assert result.is_success
    assert result.run_id == "r"
    assert probe.started == ["a", "a", "b"]


async def test_a_run_that_was_taken_over_can_save_nothing_more(
    store: CheckpointStore, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its old executor is told so at its next save, and the new one's run is whole."""
    # Nothing is renewed, as when a process is stopped.
    monkeypatch.setattr("workflows_mcp.engine.lease.Heartbeat._begin", lambda _: None)
    running = await hold(store, probe, lease_seconds=0.2)
    held, probe.held = probe.held, {}
    result = await until_recovered(store)
    assert result.is_success
    saved = await store.list_checkpoints(run_id="r")
    for event in held.values():
        event.set()
    with pytest.raises(LeaseLostError):
        await running
    assert await store.list_checkpoints(run_id="r") == saved
    assert len([one for one in saved if not one.superseded]) == 1


async def until_recovered(store: CheckpointStore) -> WorkflowResult:
    """The result of the one run that is abandoned, as soon as it is."""
    found: list[WorkflowResult] = []

    async def is_recovered() -> bool:
        found.extend(await WorkflowExecutor(store).recover())
        return bool(found)

    await eventually(is_recovered)
    return found[0]


async def test_a_lost_lease_stops_a_block_in_the_middle(store: CheckpointStore, probe: Probe) -> None:
    """The next renewal finds out, without waiting for the block."""
    running = await hold(store, probe, lease_seconds=0.3)
    await store.delete_run("r")
    with pytest.raises(LeaseLostError):
        await running
    assert probe.finished == []
    assert await store.list_checkpoints(run_id="r") == []


@pytest.mark.parametrize("database", ["memory"])
async def test_a_loss_that_is_heard_of_late_cancels_nobody(
    store: CheckpointStore, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save has found out already; a renewal that finds out after it must not look like a cancellation."""
    probe.hold("a", started=1)
    executor = WorkflowExecutor(store)
    running = asyncio.create_task(executor.execute_workflow(text(block("a")), run_id="r"))
    await probe.all_started.wait()
    await store.delete_run("r")
    busy = executor._running.get("r")
    assert busy is not None
    run = busy.run
    assert run is not None
    lookup = store.list_checkpoints

    async def hear_of_it_now(*args: Any, **options: Any) -> Any:
        run.lose(LeaseLostError("late"))
        await asyncio.sleep(0)
        return await lookup(*args, **options)

    monkeypatch.setattr(store, "list_checkpoints", hear_of_it_now)
    probe.release()
    with pytest.raises(LeaseLostError, match="was not saved"):
        await running


async def test_recovering_continues_all_abandoned_runs(store: CheckpointStore, probe: Probe) -> None:
    """Those that were released, not those that are over, wait, or were never leased."""
    runs = [await hold(store, probe, f"r{n}") for n in range(3)]
    for one in runs:
        one.cancel()
    await asyncio.wait(runs)
    probe.release()
    await WorkflowExecutor(store).execute_workflow(ASK, run_id="asks")
    await WorkflowExecutor(store).execute_workflow(text(block("x")), run_id="done")
    found = await WorkflowExecutor(store).recover()
    assert sorted((one.run_id, one.status) for one in found) == [(f"r{n}", "success") for n in range(3)]
    assert await WorkflowExecutor(store).recover() == []


async def test_an_executor_recovers_in_the_background(store: CheckpointStore, probe: Probe) -> None:
    """From `async with` on, every so often."""
    running = await hold(store, probe)
    running.cancel()
    await asyncio.wait([running])
    probe.release()
    async with WorkflowExecutor(store, recover_every_seconds=0.05) as executor:

        async def is_over() -> bool:
            return (await executor.list_runs())[0].status == "success"

        await eventually(is_over)
    assert probe.started == ["a", "a", "b"]


async def test_what_an_executor_recovers_is_left_to_others_when_it_closes(store: CheckpointStore, probe: Probe) -> None:
    """In the middle of a block."""
    running = await hold(store, probe)
    running.cancel()
    await asyncio.wait([running])
    probe.hold("a", started=2)
    async with WorkflowExecutor(store, recover_every_seconds=0.05):
        await probe.all_started.wait()
    probe.release()
    [result] = await WorkflowExecutor(store).recover()
    assert result.is_success


async def test_a_run_of_another_program_is_left_alone(store: CheckpointStore, probe: Probe, caplog: Any) -> None:
    """It is logged, and released again."""
    assert probe is not None
    await WorkflowExecutor(store).execute_workflow(ASK, run_id="r")
    [head] = await store.list_checkpoints(run_id="r", heads_only=True)
    state = await store.load_checkpoint(head.checkpoint_id)
    assert state is not None
    other = dataclasses.replace(
        state,
        checkpoint_id="x",
        run_id="other",
        context={},
        paused_block_id=None,
        pause_prompt=None,
        status=CheckpointStatus.RUNNING,
    )
    await store.save_checkpoint(other, owner="somebody", lease_seconds=60)
    await store.release_claim("x", "somebody")
    assert await WorkflowExecutor(store).recover() == []
    assert "was not saved by this executor" in caplog.text
    assert [one.checkpoint_id for one in await store.list_abandoned()] == ["x"]


async def test_without_saves_in_between_a_pause_is_saved_all_the_same(store: CheckpointStore, probe: Probe) -> None:
    """And the end; `enabled=False` saves nothing else."""
    config = CheckpointConfig(enabled=False)
    executor = WorkflowExecutor(store, config)
    result = await executor.execute_workflow(ASK, run_id="r")
    assert len(await store.list_checkpoints(run_id="r")) == 1
    assert (await executor.resume_workflow(paused_at(result), "yes")).outputs == {"o": 1}
    assert [one.status for one in await store.list_checkpoints(run_id="r")] == ["completed", "paused"]
    assert probe.started == ["ask", "after"]


async def test_every_block_is_saved_when_that_is_wanted(store: CheckpointStore, probe: Probe) -> None:
    """A crash in the middle of a wave does not repeat what was over in it."""
    config = CheckpointConfig(checkpoint_every="block")
    probe.hold("b", started=2)
    running = asyncio.create_task(
        WorkflowExecutor(store, config).execute_workflow(text(block("a"), block("b"), block("c", "a", "b")), run_id="r")
    )
    await probe.all_started.wait()

    async def is_saved() -> bool:
        return any(one.superseded for one in await store.list_checkpoints(run_id="r"))

    await eventually(is_saved)
    running.cancel()
    await asyncio.wait([running])
    probe.release()
    assert (await WorkflowExecutor(store).recover("r")).is_success
    assert sorted(probe.started) == ["a", "b", "b", "c"]


async def test_a_cancelled_save_leaves_the_run_whole(store: CheckpointStore, probe: Probe) -> None:
    """Wherever the cancellation comes, the run can be recovered, and has one head."""
    chain = text(*(block(f"b{n}", *([f"b{n - 1}"] if n else [])) for n in range(4)))
    recovered = 0
    for step in range(16):
        run_id = f"r{step}"
        running = asyncio.create_task(WorkflowExecutor(store).execute_workflow(chain, run_id=run_id))
        await asyncio.sleep(0.0005 * 1.5**step)
        running.cancel()
        await asyncio.wait([running])
        heads = await store.list_checkpoints(run_id=run_id, heads_only=True)
        assert len(heads) <= 1
        if heads:
            recovered += 1
            assert (await WorkflowExecutor(store).recover(run_id)).is_success
            assert len(await store.list_checkpoints(run_id=run_id, heads_only=True)) == 1
    assert recovered > 0
    assert probe.started


async def test_a_store_that_is_away_for_a_while_does_not_end_a_run(
    store: CheckpointStore, probe: Probe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A renewal that fails is tried again."""
    renew, calls = store.renew_lease, 0

    async def fail_twice(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise StoreUnavailableError("the database is restarting")
        await renew(*args)

    running = await hold(store, probe, lease_seconds=0.3)
    # Only now: where the lease is over before the block begins, it is renewed first, and the run is left to others.
    monkeypatch.setattr(store, "renew_lease", fail_twice)

    async def has_renewed() -> bool:
        return calls > 2

    await eventually(has_renewed)
    assert "is restarting" in caplog.text
    probe.release()
    assert (await running).is_success
