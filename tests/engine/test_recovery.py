"""Runs that crash, and are continued by another process."""

import asyncio
from typing import Any

import pytest

from tests.engine.probe import Probe, block, text
from workflows_mcp.engine.blocks import BLOCK_TYPES
from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointState
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.errors import CheckpointNotFoundError, StoreUnavailableError, WorkflowDefinitionError

CHAIN = text(
    block("a", give=1),
    block("b", "a", give="{{ blocks.a.outputs.value + 1 }}"),
    block("b2", "a"),
    block("c", "b", give="{{ blocks.b.outputs.value + inputs.n }}"),
    inputs={"n": {"type": "num"}},
    outputs={"o": "{{ blocks.c.outputs.value }}"},
)
WAVES = [["a"], ["b", "b2"], ["c"]]


class FailingStore(InMemoryCheckpointStore):
    """Is gone after so many saves, as if its server had been switched off."""

    def __init__(self, saves: int) -> None:
        super().__init__()
        self.saves_left = saves

    async def save_checkpoint(self, state: CheckpointState, **options: Any) -> str:
        """See `CheckpointStore.save_checkpoint`."""
        if self.saves_left == 0:
            raise StoreUnavailableError("the database is gone")
        self.saves_left -= 1
        return await super().save_checkpoint(state, **options)


@pytest.mark.parametrize("saves", range(1, 5))
async def test_a_run_continues_from_its_newest_checkpoint(probe: Probe, saves: int) -> None:
    """The store's error reaches the caller as it is; no block of a saved wave runs again."""
    store = FailingStore(saves)
    with pytest.raises(StoreUnavailableError, match="the database is gone"):
        await WorkflowExecutor(store).execute_workflow(CHAIN, {"n": 10}, run_id="r")
    crashed = WorkflowExecutor(store)
    assert (await crashed.execute_workflow(CHAIN, run_id="r")).status == "running"
    probe.started.clear()
    store.saves_left = 100
    result = await WorkflowExecutor(store).recover("r")
    assert result.outputs == {"o": 12}
    assert sorted(probe.started) == sorted(block_id for wave in WAVES[saves - 1 :] for block_id in wave)
    assert await WorkflowExecutor(store).recover("r") == result


async def test_a_run_without_checkpoints_cannot_be_recovered(probe: Probe) -> None:
    """Whether it never was, or could not save even the first."""
    store = FailingStore(0)
    with pytest.raises(StoreUnavailableError):
        await WorkflowExecutor(store).execute_workflow(CHAIN, {"n": 1}, run_id="r")
    for run_id in ("r", "nope"):
        with pytest.raises(CheckpointNotFoundError, match=f"there is no run '{run_id}'"):
            await WorkflowExecutor(store).recover(run_id)
    assert probe.started == []


async def test_a_paused_run_is_only_told_to_be_so(store: InMemoryCheckpointStore, probe: Probe) -> None:
    """It does not ask again."""
    paused = await WorkflowExecutor(store).execute_workflow(text(block("ask", ask="?")), run_id="r")
    assert await WorkflowExecutor(store).recover("r") == paused
    assert await WorkflowExecutor(store).execute_workflow(text(block("ask", ask="?")), run_id="r") == paused
    assert probe.started == ["ask"]


async def test_a_failed_run_is_not_run_again(store: InMemoryCheckpointStore, probe: Probe) -> None:
    """Its error is told as it was."""
    failed = await WorkflowExecutor(store).execute_workflow(text(block("a", fail="no")), run_id="r")
    assert await WorkflowExecutor(store).recover("r") == failed
    assert failed.error == "block 'a' failed: no"
    assert probe.started == ["a"]


async def test_an_answer_is_durable_before_anything_runs_after_it(probe: Probe) -> None:
    """A crash right after it does not ask again."""
    store = FailingStore(2)
    executor = WorkflowExecutor(store)
    paused = await executor.execute_workflow(text(block("ask", ask="?"), block("after", "ask")), run_id="r")
    assert paused.checkpoint_id is not None
    store.saves_left = 1
    with pytest.raises(StoreUnavailableError):
        await executor.resume_workflow(paused.checkpoint_id, "yes")
    store.saves_left = 100
    assert (await WorkflowExecutor(store).recover("r")).is_success
    assert probe.started == ["ask", "after", "after"]


async def test_an_answer_that_could_not_be_saved_can_be_given_again(probe: Probe) -> None:
    """The run still waits."""
    store = FailingStore(2)
    paused = await WorkflowExecutor(store).execute_workflow(text(block("ask", ask="?")), run_id="r")
    assert paused.checkpoint_id is not None
    with pytest.raises(StoreUnavailableError):
        await WorkflowExecutor(store).resume_workflow(paused.checkpoint_id, "yes")
    store.saves_left = 100
    assert await WorkflowExecutor(store).recover("r") == paused
    assert (await WorkflowExecutor(store).resume_workflow(paused.checkpoint_id, "yes")).is_success
    assert probe.started == ["ask"]


async def test_a_workflow_whose_block_type_is_gone_is_refused_clearly(
    store: InMemoryCheckpointStore, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is saved, so that it can be continued where the block type is."""
    paused = await WorkflowExecutor(store).execute_workflow(text(block("ask", ask="?")))
    assert paused.checkpoint_id is not None
    monkeypatch.delitem(BLOCK_TYPES, "Probe")
    with pytest.raises(WorkflowDefinitionError, match=r"checkpoint .*: there is no block type 'Probe'"):
        await WorkflowExecutor(store).resume_workflow(paused.checkpoint_id, "yes")
    monkeypatch.setitem(BLOCK_TYPES, "Probe", probe)
    assert (await WorkflowExecutor(store).resume_workflow(paused.checkpoint_id, "yes")).is_success


async def test_a_run_continues_with_the_definition_that_it_began_with(
    store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """Whatever is registered under its name by now."""
    paused = await WorkflowExecutor(store).execute_workflow(text(block("ask", ask="?"), outputs={"o": "old"}))
    assert paused.checkpoint_id is not None
    executor = WorkflowExecutor(store)
    executor.load_workflow(text(block("other"), outputs={"o": "new"}))
    assert (await executor.resume_workflow(paused.checkpoint_id, "yes")).outputs == {"o": "old"}
    assert probe.started == ["ask"]


async def test_a_recovered_run_may_pause_and_go_on(probe: Probe) -> None:
    """With checkpoints that are younger than those from before the crash."""
    store = FailingStore(1)
    with pytest.raises(StoreUnavailableError):
        await WorkflowExecutor(store).execute_workflow(text(block("a"), block("ask", "a", ask="?")), run_id="r")
    store.saves_left = 100
    paused = await WorkflowExecutor(store).recover("r")
    assert paused.prompt == "?"
    assert paused.checkpoint_id is not None
    assert (await WorkflowExecutor(store).resume_workflow(paused.checkpoint_id, "yes")).is_success
    times = [one.created_at for one in await store.list_checkpoints(run_id="r")]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == len(times)
    assert probe.started == ["a", "a", "ask"]


async def test_without_checkpoints_a_crashed_run_is_gone(probe: Probe) -> None:
    """As `CheckpointConfig.enabled` says."""
    store = FailingStore(0)
    executor = WorkflowExecutor(store, CheckpointConfig(enabled=False))
    with pytest.raises(StoreUnavailableError):
        await executor.execute_workflow(CHAIN, {"n": 1}, run_id="r")
    assert probe.finished[-1] == "c"
    with pytest.raises(CheckpointNotFoundError):
        await executor.recover("r")


async def test_recovering_at_once_from_one_executor_is_one_run(probe: Probe) -> None:
    """All callers get its result."""
    store = FailingStore(1)
    executor = WorkflowExecutor(store)
    with pytest.raises(StoreUnavailableError):
        await executor.execute_workflow(CHAIN, {"n": 1}, run_id="r")
    store.saves_left = 100
    probe.started.clear()
    found = await asyncio.gather(*(executor.recover("r") for _ in range(4)))
    assert len({result.checkpoint_id for result in found}) == 1
    assert sorted(probe.started) == ["a", "b", "b2", "c"]


class PrunedStore(InMemoryCheckpointStore):
    """Somebody deletes the newest checkpoint between a listing and the loading of what it has listed."""

    pruned = False

    async def load_checkpoint(self, checkpoint_id: str) -> CheckpointState | None:
        """See `CheckpointStore.load_checkpoint`."""
        if not self.pruned:
            self.pruned = True
            await self.delete_checkpoint(checkpoint_id)
        return await super().load_checkpoint(checkpoint_id)


async def test_a_checkpoint_deleted_while_it_is_looked_for_does_not_make_the_run_begin_again(probe: Probe) -> None:
    """The one before it is taken."""
    store = PrunedStore()
    executor = WorkflowExecutor(store)
    workflow = text(block("a"))
    await executor.execute_workflow(workflow, run_id="r")
    again = await executor.execute_workflow(workflow, run_id="r")
    assert again.status == "running"
    assert store.pruned
    assert probe.started == ["a"]
