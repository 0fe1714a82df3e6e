"""Ends a run for good, wherever it runs or waits."""

import asyncio
import contextlib

from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.continuing import cancelled_state
from workflows_mcp.engine.result import RESULT_STATUSES, WorkflowResult, result_of
from workflows_mcp.engine.running import RunningRuns
from workflows_mcp.engine.scratch import remove_scratch_folder
from workflows_mcp.engine.stored_runs import MOST_TRIES, StoredRuns
from workflows_mcp.errors import CheckpointNotFoundError, CheckpointStoreError, LeaseLostError

__all__ = ["cancel_run"]


async def cancel_run(run_id: str, store: CheckpointStore, running: RunningRuns) -> WorkflowResult:
    """End a run; see `WorkflowExecutor.cancel`.

    Args:
        run_id: Names the run.
        store: Keeps its checkpoints.
        running: The runs that this executor is busy with.

    Raises:
        CheckpointNotFoundError: The run has no checkpoint.
        CheckpointStoreError: The store failed.
    """
    stored = StoredRuns(store)
    for _ in range(MOST_TRIES):
        head = await stored.newest(run_id)
        if head is None:
            if _stop(run_id, running):  # saves are switched off
                return WorkflowResult("cancelled", run_id)
            raise CheckpointNotFoundError(f"run {run_id!r} has no checkpoint, so there is nothing to cancel")
        if RESULT_STATUSES[head.status] not in {"running", "paused"}:
            return result_of(head)
        state = cancelled_state(head)
        with contextlib.suppress(LeaseLostError):  # it went on meanwhile: once more, from where it is now
            await store.save_checkpoint(state, follows=head.checkpoint_id)
            task = _stop(run_id, running)
            if task is not None and task is not asyncio.current_task():
                await asyncio.wait([task])
            await asyncio.to_thread(remove_scratch_folder, run_id)
            return result_of(state)
    raise CheckpointStoreError(f"run {run_id!r} goes on faster than it can be cancelled; try again")


def _stop(run_id: str, runs: RunningRuns) -> asyncio.Task[WorkflowResult] | None:
    """Stop the blocks of a run that was cancelled; its task, if this executor is busy with it."""
    running = runs.get(run_id)
    if running is None or running.run is None:
        return None
    running.run.lose(LeaseLostError(f"run {run_id!r} was cancelled"))
    return running.task
