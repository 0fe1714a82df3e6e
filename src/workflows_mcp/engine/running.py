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
    """The runs that an executor is busy with."""

    def __init__(self) -> None:
        self._by_id: dict[str, Running] = {}
        self._by_task: dict[asyncio.Task[Any], Running] = {}

    def get(self, run_id: str) -> Running | None:
        """The run, if the executor is busy with it."""
        return self._by_id.get(run_id)

    async def busy_with(self, run_id: str) -> Running | None:
        """The same; one that is being cancelled is waited for, and forgotten."""
        while (running := self._by_id.get(run_id)) is not None and running.task.cancelling():
            await asyncio.wait([running.task])
        return running

    def start(
        self, work: Coroutine[Any, Any, WorkflowResult], run_id: str | None = None, workflow_name: str | None = None
    ) -> Running:
        """Work on a run in a task of its own.

        Args:
            work: What comes to its result.
            run_id: Names it; None: it has no claim to the run yet, and calls `note` when it has.
            workflow_name: Names its workflow; None: it is not known yet.
        """
        running = Running(asyncio.create_task(work, name=f"run {run_id or 'to be claimed'}"), workflow_name)
        self._by_task[running.task] = running
        running.task.add_done_callback(self._forget)
        if run_id is not None:
            self._by_id[run_id] = running
        return running

    def note(self, run_id: str, workflow_name: str, run: Run) -> None:
        """Say what drives a run in the current task, which `start` has begun; whoever had it before has lost it."""
        task = asyncio.current_task()
        assert task is not None
        running = self._by_task[task]
        running.workflow_name, running.run = workflow_name, run
        self._by_id[run_id] = running

    def _forget(self, task: asyncio.Task[Any]) -> None:
        running = self._by_task.pop(task)
        # A pause may have been answered, and the run gone on in another task, before this one was over.
        for run_id in [one for one, other in self._by_id.items() if other is running]:
            del self._by_id[run_id]

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
