"""Waits for what a run comes to, whoever works on it."""

import asyncio

from workflows_mcp.engine.checkpoint import CheckpointStatus
from workflows_mcp.engine.result import WorkflowResult, result_of
from workflows_mcp.engine.running import RunningRuns
from workflows_mcp.engine.stored_runs import StoredRuns, no_such_run

__all__ = ["follow_run"]

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


async def follow_run(run_id: str, seconds: float, runs: RunningRuns, stored: StoredRuns) -> WorkflowResult:
    """What a run has come to after at most so many seconds; see `WorkflowExecutor.wait_for_run`.

    Args:
        run_id: Names the run.
        seconds: How long to wait for more than `running`.
        runs: The runs that this executor is busy with; once they are closed, nothing is waited for any more.
        stored: Those in the store, where others leave word of theirs.

    Raises:
        CheckpointNotFoundError: There is no such run.
        CheckpointStoreError: The store failed.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        result = await _once_it_ends(run_id, deadline - loop.time(), runs)
        # A server that goes down has no time left, and whoever asks can ask another one.
        left = 0.0 if runs.is_closed else deadline - loop.time()
        if result is not None and (result.status != "running" or left <= 0):
            return result
        if left <= 0 or not await stored.is_running(run_id):
            head = await stored.newest(run_id)
            if head is None:
                raise no_such_run(run_id)
            if left <= 0 or head.status is not CheckpointStatus.RUNNING:
                return result_of(head)
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


async def _once_it_ends(run_id: str, seconds: float, runs: RunningRuns) -> WorkflowResult | None:
    """What a run of this executor has come to within so many seconds; None: it is none, or only the store knows."""
    running = runs.get(run_id)
    if running is None or running.task is asyncio.current_task():
        return None
    if seconds > 0:
        await asyncio.wait([running.task], timeout=seconds)
    if not running.task.done():
        return None if running.run is None else running.run.so_far
    if running.task.cancelled() or running.task.exception() is not None:
        return None
    return running.task.result()
