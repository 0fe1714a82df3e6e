"""Time travel and ends: runs are forked from any checkpoint, cancelled wherever they are, and listed."""

import asyncio
from typing import Any

import pytest

from tests.engine.probe import Probe, block, text
from tests.executor.test_owners import ASK, hold, paused_at
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointMetadata,
    CheckpointNotFoundError,
    CheckpointState,
    CheckpointStore,
    InMemoryCheckpointStore,
    LeaseLostError,
    WorkflowDefinitionError,
    WorkflowExecutor,
)

SUM = text(
    block("a", give="{{ inputs.n }}"),
    block("b", "a", give="{{ blocks.a.outputs.value + inputs.n }}"),
    inputs={"n": {"type": "num"}},
    outputs={"o": "{{ blocks.b.outputs.value }}"},
)


async def test_a_run_is_forked_from_any_checkpoint(store: CheckpointStore, probe: Probe) -> None:
    """What was done stays done; other inputs count from there on, and the first run is left alone."""
    executor = WorkflowExecutor(store)
    first = await executor.execute_workflow(SUM, {"n": 1}, run_id="first")
    before = await store.list_checkpoints(run_id="first")
    probe.started.clear()
    after_a = before[-2]
    fork = await executor.fork(after_a.checkpoint_id, {"n": 10})
    assert fork.outputs == {"o": 11}
    assert fork.run_id not in {"first", ""}
    assert probe.started == ["b"]
    assert await store.list_checkpoints(run_id="first") == before
    assert first.outputs == {"o": 2}
    forked = await store.list_checkpoints(run_id=fork.run_id)
    assert {one.parent_checkpoint_id for one in forked} == {after_a.checkpoint_id}
    again = await executor.fork(before[-1].checkpoint_id, {"n": 5}, run_id="again")
    assert again.outputs == {"o": 10}
    assert await executor.fork(before[-1].checkpoint_id, {"n": 5}, run_id="again") == again


async def test_a_pause_that_was_answered_can_be_answered_otherwise_in_a_fork(
    store: CheckpointStore, probe: Probe
) -> None:
    """The fork asks again, and has a history of its own."""
    executor = WorkflowExecutor(store)
    paused = paused_at(await executor.execute_workflow(ASK, run_id="r"))
    await executor.resume_workflow(paused, "yes")
    fork = await executor.fork(paused)
    assert fork.prompt == "?"
    assert (await executor.resume_workflow(paused_at(fork), "no")).outputs == {"o": 1}
    assert probe.started == ["ask", "after", "after"]


async def test_a_failed_run_is_tried_again_by_a_fork(store: CheckpointStore, probe: Probe) -> None:
    """What had failed, and what was skipped for it, is done again; the rest is not."""
    executor = WorkflowExecutor(store)
    workflow = text(
        block("a"),
        block("b", "a", fail="{{ 'no' if inputs.bad else none }}"),
        block("c", "b"),
        inputs={"bad": {"type": "bool"}},
    )
    failed = await executor.execute_workflow(workflow, {"bad": True})
    assert failed.status == "failure"
    assert failed.checkpoint_id is not None
    assert (await executor.fork(failed.checkpoint_id, {"bad": False})).is_success
    assert probe.started == ["a", "b", "b", "c"]


async def test_what_cannot_be_forked_is_refused(store: CheckpointStore, probe: Probe) -> None:
    """With the reason, and nothing is saved."""
    assert probe is not None
    executor = WorkflowExecutor(store)
    done = await executor.execute_workflow(SUM, {"n": 1}, run_id="r")
    saved = await store.list_checkpoints()
    assert done.checkpoint_id is not None
    with pytest.raises(ValueError, match=r"nothing is left to be done\. Fork an earlier"):
        await executor.fork(done.checkpoint_id)
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint 'nope'"):
        await executor.fork("nope")
    with pytest.raises(WorkflowDefinitionError, match=r"input 'n' \(num\) must be a num"):
        await executor.fork(saved[-1].checkpoint_id, {"n": "x"})
    with pytest.raises(WorkflowDefinitionError, match="unknown input 'm'"):
        await executor.fork(saved[-1].checkpoint_id, {"m": 1})
    assert await store.list_checkpoints() == saved


async def test_a_waiting_run_is_cancelled(store: CheckpointStore, probe: Probe) -> None:
    """Nobody can answer it any more; it can be forked."""
    executor = WorkflowExecutor(store)
    paused = paused_at(await executor.execute_workflow(ASK, run_id="r"))
    cancelled = await WorkflowExecutor(store).cancel("r")
    assert cancelled.status == "cancelled"
    assert await store.list_checkpoints(is_paused=True) == []
    with pytest.raises(CheckpointAlreadyClaimedError):
        await executor.resume_workflow(paused, "yes")
    assert await executor.cancel("r") == cancelled
    assert await executor.recover("r") == cancelled
    assert await executor.execute_workflow(ASK, run_id="r") == cancelled
    assert cancelled.checkpoint_id is not None
    assert (await executor.fork(cancelled.checkpoint_id)).prompt == "?"
    assert probe.started == ["ask"]


async def test_a_run_is_cancelled_by_its_own_executor_at_once(store: CheckpointStore, probe: Probe) -> None:
    """Its block is stopped, and who waits for it is told."""
    probe.hold("a", started=1)
    executor = WorkflowExecutor(store, lease_seconds=3600)
    running = asyncio.create_task(executor.execute_workflow(text(block("a"), block("b", "a")), run_id="r"))
    await probe.all_started.wait()
    assert (await executor.cancel("r")).status == "cancelled"
    assert (await running).status == "cancelled"
    assert probe.finished == []


async def test_a_run_is_cancelled_from_another_process(store: CheckpointStore, probe: Probe) -> None:
    """Its executor notices when it saves, or renews its lease."""
    saves = await hold(store, probe, "saves", lease_seconds=3600)
    assert (await WorkflowExecutor(store).cancel("saves")).status == "cancelled"
    probe.release()
    assert (await saves).status == "cancelled"
    renews = await hold(store, probe, "renews", lease_seconds=0.2)
    await WorkflowExecutor(store).cancel("renews")
    assert (await renews).status == "cancelled"
    assert probe.finished == ["a"]
    assert [one.status for one in await WorkflowExecutor(store).list_runs()] == ["cancelled", "cancelled"]


async def test_what_is_over_is_not_cancelled(store: CheckpointStore, probe: Probe) -> None:
    """It stays what it has come to."""
    assert probe is not None
    executor = WorkflowExecutor(store)
    done = await executor.execute_workflow(SUM, {"n": 1}, run_id="r")
    assert await executor.cancel("r") == done
    with pytest.raises(CheckpointNotFoundError, match="there is no run 'nope'"):
        await executor.cancel("nope")


async def test_runs_are_listed_by_what_they_have_come_to(store: CheckpointStore, probe: Probe) -> None:
    """One line for a run, whatever it has saved; the last saved first, in pages."""
    executor = WorkflowExecutor(store)
    await executor.execute_workflow(SUM, {"n": 1}, run_id="done")
    await executor.execute_workflow(ASK, run_id="asks")
    await executor.execute_workflow(text(block("x", fail="no"), name="other"), run_id="fails")
    running = await hold(store, probe, "runs")
    runs = await executor.list_runs()
    assert [(one.run_id, one.status, one.wave) for one in runs] == [
        ("runs", "running", 0),
        ("fails", "failure", 1),
        ("asks", "paused", 0),
        ("done", "success", 2),
    ]
    assert [one.run_id for one in await executor.list_runs(status="paused")] == ["asks"]
    assert [one.run_id for one in await executor.list_runs("other")] == ["fails"]
    assert [one.run_id for one in await executor.list_runs(limit=2)] == ["runs", "fails"]
    assert [one.run_id for one in await executor.list_runs(limit=2, before=runs[1])] == ["asks", "done"]
    assert [one.run_id for one in await executor.list_runs(limit=1, before=runs[2].cursor)] == ["done"]
    assert [one.run_id for one in await executor.list_runs(id_contains="asks", created_after=0.0)] == ["asks"]
    assert [one.run_id for one in await executor.list_runs(id_contains=runs[1].checkpoint_id)] == ["fails"]
    assert await executor.list_runs(id_contains="ASKS") == []
    middle = await executor.list_runs(created_after=runs[2].updated_at, created_before=runs[0].updated_at)
    assert [one.run_id for one in middle] == ["fails", "asks"]
    assert runs[2].prompt == "?"
    assert runs[0].lease_expires_at is not None
    assert runs[3].lease_expires_at is None
    assert 0 <= runs[3].age_seconds < 60
    with pytest.raises(ValueError, match="status 'nope' is not one of: running, paused, success"):
        await executor.list_runs(status="nope")  # type: ignore[arg-type]
    probe.release()
    await running


async def test_a_run_goes_on_with_the_current_definition_when_that_is_wanted(
    store: CheckpointStore, probe: Probe
) -> None:
    """What is over keeps its results; what comes after is what it is now."""
    executor = WorkflowExecutor(store)
    paused = paused_at(await executor.execute_workflow(ASK))
    executor.load_workflow(
        text(
            block("ask", ask="?"),
            block("before"),
            block("after", "ask", "before", give=2),
            inputs={"new": {"default": "x"}},
            outputs={"o": "{{ blocks.after.outputs.value }}{{ inputs.new }}"},
        )
    )
    result = await executor.resume_workflow(paused, "yes", definition="current")
    assert result.outputs == {"o": "2x"}
    assert probe.started == ["ask", "before", "after"]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([block("other")], "block 'a', which is over, is gone"),
        ([block("a", give=2), block("ask", "a", ask="?")], "block 'a', which is over, has changed"),
        ([block("a"), block("ask", "a", ask="other?")], "block 'ask', which is under way, has changed"),
    ],
)
@pytest.mark.parametrize("database", ["memory"])
async def test_a_definition_that_does_not_fit_is_refused(
    store: CheckpointStore, probe: Probe, blocks: list[dict[str, object]], message: str
) -> None:
    """And the run still waits, to go on as it was saved."""
    executor = WorkflowExecutor(store)
    paused = paused_at(await executor.execute_workflow(text(block("a"), block("ask", "a", ask="?"))))
    executor.load_workflow(text(*blocks))
    with pytest.raises(WorkflowDefinitionError, match=message):
        await executor.resume_workflow(paused, "yes", definition="current")
    with pytest.raises(ValueError, match="definition must be 'saved' or 'current'"):
        await executor.resume_workflow(paused, "yes", definition="newest")  # type: ignore[arg-type]
    assert (await executor.resume_workflow(paused, "yes")).is_success
    assert probe.started == ["a", "ask"]


async def test_a_deleted_run_ends(store: CheckpointStore, probe: Probe) -> None:
    """Its executor can save nothing more of it."""
    running = await hold(store, probe)
    assert await store.delete_run("r") == 1
    probe.release()
    with pytest.raises(LeaseLostError):
        await running
    assert await store.list_checkpoints(run_id="r") == []


@pytest.mark.parametrize("moment", ["before it is saved", "before it is looked for"])
async def test_a_run_is_cancelled_that_is_about_to_begin(probe: Probe, moment: str) -> None:
    """It is not said to be cancelled, or not to be there, and then done: by whoever finds its first checkpoint."""
    coming, go_on = asyncio.Event(), asyncio.Event()

    class Slow(InMemoryCheckpointStore):
        async def save_checkpoint(self, state: CheckpointState, **options: Any) -> str:
            if moment == "before it is saved" and not coming.is_set():
                coming.set()
                await go_on.wait()
            return await super().save_checkpoint(state, **options)

        async def list_checkpoints(self, *args: Any, **options: Any) -> list[CheckpointMetadata]:
            if moment != "before it is saved" and not coming.is_set():
                coming.set()
                await go_on.wait()
            return await super().list_checkpoints(*args, **options)

    store = Slow()
    executor = WorkflowExecutor(store)
    probe.hold("a", started=1)
    run = asyncio.create_task(executor.execute_workflow(text(block("a"), block("b", "a")), run_id="r"))
    await coming.wait()
    cancelling = asyncio.create_task(executor.cancel("r"))
    for _ in range(5):
        await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(10):
        assert (await cancelling).status == "cancelled"
        assert (await run).status == "cancelled"
    assert (await WorkflowExecutor(store).recover("r")).status == "cancelled"
    assert await WorkflowExecutor(store).recover() == []
    assert probe.finished == []
