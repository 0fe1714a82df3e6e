"""The runs that an executor is busy with, and who waits for them."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.engine.run import Run

__all__ = ["Running", "RunningRuns"]


@dataclass
class Running:
    """A run that an executor is busy with.

    Attributes:
        task: What comes to its result.
        workflow_name: Names the workflow; None: it is not known yet.
        callers: How many wait for it.
        run: What drives it; None while it only looks what the store has, and no block may run yet.
    """

    task: asyncio.Task[WorkflowResult]
    workflow_name: str | None = None
    callers: int = 0
    run: Run | None = None


class RunningRuns:
    """The runs that an executor is busy with, by their ids."""

    def __init__(self) -> None:
        self._runs: dict[str, Running] = {}

    def get(self, run_id: str) -> Running | None:
        """The run, if the executor is busy with it."""
        return self._runs.get(run_id)

    async def busy_with(self, run_id: str) -> Running | None:
        """The same; one that is being cancelled is waited for, and forgotten."""
        while (running := self._runs.get(run_id)) is not None and running.task.cancelling():
            await asyncio.wait([running.task])
        return running

    def start(self, run_id: str, workflow_name: str | None, work: Coroutine[Any, Any, WorkflowResult]) -> Running:
        """Work on a run in a task of its own."""
        running = Running(asyncio.create_task(work, name=f"run {run_id}"), workflow_name)
        self.note(run_id, running)
        return running

    def note(self, run_id: str, running: Running) -> None:
        """Remember a run until its task is over, in place of one that had its id before."""
        self._runs[run_id] = running

        def forget(_: object) -> None:
            # A pause may have been answered, and the run gone on, before this task was over.
            if self._runs.get(run_id) is running:
                del self._runs[run_id]

        running.task.add_done_callback(forget)

    async def wait_for(self, running: Running) -> WorkflowResult:
        """What a run comes to. When all who wait for it are cancelled, so is the run, and its end is waited for."""
        running.callers += 1
        try:
            return await asyncio.shield(running.task)
        except asyncio.CancelledError:
            if running.callers == 1 and not running.task.done():
                running.task.cancel()
                await asyncio.wait([running.task])
            raise
        finally:
            running.callers -= 1
