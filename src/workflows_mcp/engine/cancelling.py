"""Ends a run for good, wherever it runs or waits."""

import asyncio
import contextlib
from typing import Any

from workflows_mcp.engine.continuing import cancelled_state
from workflows_mcp.engine.result import RESULT_STATUSES, WorkflowResult, result_of
from workflows_mcp.engine.running import Running, RunningRuns
from workflows_mcp.engine.scratch import remove_scratch_folder
from workflows_mcp.engine.stored_runs import MOST_TRIES, StoredRuns, no_such_run
from workflows_mcp.errors import CheckpointStoreError, LeaseLostError

__all__ = ["cancel_run"]


async def cancel_run(run_id: str, stored: StoredRuns, running: RunningRuns) -> WorkflowResult:
    """End a run; see `WorkflowExecutor.cancel`.

    Args:
        run_id: Names the run.
        stored: What the store knows of it.
        running: The runs that this executor is busy with.

    Raises:
        CheckpointNotFoundError: The run has no checkpoint.
        CheckpointStoreError: The store failed.
    """
    was_stopped = False
    for _ in range(MOST_TRIES):
        # Before the store is asked: what is saved meanwhile would be taken for a run that saves nothing.
        at_work = running.get(run_id)
        has_begun = at_work is not None and at_work.begun.done()
        head = await stored.newest(run_id)
        if head is None:
            if was_stopped:
                return WorkflowResult("cancelled", run_id)
            if at_work is None:
                raise no_such_run(run_id)
            if at_work.task is asyncio.current_task():  # somebody who is told of the run ends it
                _stop(run_id, at_work)
                return WorkflowResult("cancelled", run_id)
            if has_begun:  # saves are switched off
                _stop(run_id, at_work)
                was_stopped = True
                await asyncio.wait([at_work.task])
            else:  # its first checkpoint, which is on its way, would be recovered by others
                either: list[asyncio.Future[Any]] = [at_work.task, at_work.begun]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            continue
        if RESULT_STATUSES[head.status] not in {"running", "paused"}:
            return result_of(head)
        state = cancelled_state(head)
        with contextlib.suppress(LeaseLostError):  # it went on meanwhile: once more, from where it is now
            await stored.store.save_checkpoint(state, follows=head.checkpoint_id)
            at_work = running.get(run_id)
            if at_work is not None and at_work.run is not None:
                _stop(run_id, at_work)
                if at_work.task is not asyncio.current_task():
                    await asyncio.wait([at_work.task])
            await asyncio.to_thread(remove_scratch_folder, run_id)
            return result_of(state)
    raise CheckpointStoreError(f"run {run_id!r} goes on faster than it can be cancelled; try again")


def _stop(run_id: str, at_work: Running) -> None:
    """Stop the blocks of a run that was cancelled."""
    if at_work.run is not None:
        at_work.run.lose(LeaseLostError(f"run {run_id!r} was cancelled"))
