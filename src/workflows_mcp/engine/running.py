"""The runs that an executor is busy with, who waits for them, and how they are brought to an end."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.engine.run import Run
from workflows_mcp.errors import ExecutorStoppedError, LeaseLostError, WorkflowsError

__all__ = ["Running", "RunningRuns", "shown"]

_log = logging.getLogger(__name__)


def _new_future() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False)
class Running:
    """A run that an executor is busy with.

    Attributes:
        task: What comes to its result.
        workflow_name: Names the workflow; None: it is not known yet.
        is_kept: Whether it goes on though nobody waits for it.
        callers: How many wait for it.
        starters: How many of these wait only for its beginning.
        run: What drives it; None while it only looks what the store has, and no block may run yet.
        begun: Is done once a crash would not undo what was asked for.
        is_cut: Whether its executor has ended it.
    """

    task: asyncio.Task[WorkflowResult]
    workflow_name: str | None = None
    is_kept: bool = False
    callers: int = 0
    starters: int = 0
    run: Run | None = None
    begun: "asyncio.Future[None]" = field(default_factory=_new_future)
    is_cut: bool = False

    def note_begun(self) -> None:
        """Say that a crash would not undo what was asked for any more."""
        if not self.begun.done():
            self.begun.set_result(None)

    def cut(self) -> None:
        """End it now, for its executor."""
        self.is_cut = True
        if self.run is None:
            self.cancel()
        else:
            self.run.cut()

    def cancel(self) -> None:
        """Cancel its task once: a second time would cut off what it does then, such as giving back a claim."""
        if not self.task.cancelling():
            self.task.cancel()

    def outcome(self) -> WorkflowResult:
        """What the task, which is done, has come to."""
        if self.is_cut and self.task.cancelled():
            if self.run is not None and self.begun.done():
                return self.run.so_far  # whoever is told that nothing was done may have all of it done again
            raise _stopped()
        return self.task.result()


class RunningRuns:
    """The runs that an executor is busy with.

    Args:
        keeps_all: Whether a run goes on when all who waited for it are cancelled.
    """

    def __init__(self, *, keeps_all: bool = False) -> None:
        self._keeps_all = keeps_all
        self._by_id: dict[str, Running] = {}
        self._by_task: dict[asyncio.Task[Any], Running] = {}
        self._is_stopped = False
        self._is_left = False

    def __len__(self) -> int:
        return len(self._by_task)

    @property
    def is_closed(self) -> bool:
        """Whether no run may begin any more."""
        return self._is_stopped or self._is_left

    def check_open(self) -> None:
        """Make sure that a run may begin.

        Raises:
            ExecutorStoppedError: None may.
        """
        if self.is_closed:
            raise _stopped()

    def get(self, run_id: str) -> Running | None:
        """The run, if the executor is busy with it."""
        return self._by_id.get(run_id)

    def drives(self, run_id: str) -> bool:
        """Whether the executor works on the run's blocks."""
        running = self._by_id.get(run_id)
        return running is not None and running.run is not None

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

        Raises:
            ExecutorStoppedError: No run may begin any more.
        """
        if self.is_closed:
            work.close()
            raise _stopped()
        task = asyncio.create_task(work, name=f"run {run_id or 'to be claimed'}")
        running = Running(task, workflow_name, self._keeps_all)
        self._by_task[task] = running
        task.add_done_callback(self._forget)
        if run_id is not None:
            self._by_id[run_id] = running
        return running

    def current(self) -> Running:
        """The run that the current task, which `start` has begun, works on."""
        task = asyncio.current_task()
        assert task is not None
        return self._by_task[task]

    def note(self, run_id: str, workflow_name: str, run: Run) -> None:
        """Say what drives a run in the current task; whoever had it before has lost it.

        Raises:
            ExecutorStoppedError: No run may begin any more.
        """
        self.check_open()
        running = self.current()
        running.workflow_name, running.run = workflow_name, run
        self._by_id[run_id] = running

    def _forget(self, task: asyncio.Task[Any]) -> None:
        running = self._by_task.pop(task)
        # A pause may have been answered, and the run gone on in another task, before this one was over.
        run_ids = [one for one, other in self._by_id.items() if other is running]
        for run_id in run_ids:
            del self._by_id[run_id]
        error = None if task.cancelled() else task.exception()
        if error is not None and not running.callers:
            level = logging.INFO if isinstance(error, LeaseLostError | ExecutorStoppedError) else logging.WARNING
            names = run_ids or ([] if running.run is None else [running.run.run_id])
            name = ", ".join(map(repr, names)) or "that was to be claimed"
            _log.log(level, "run %s has stopped, and nobody waited for it: %s", name, shown(error))

    async def wait_for(self, running: Running) -> WorkflowResult:
        """What a run comes to. When all who wait for it are cancelled, so is the run, unless it is kept.

        Raises:
            ExecutorStoppedError: The executor was stopped before the run had begun.
        """
        await self._wait(running, [running.task])
        return running.outcome()

    async def wait_until_begun(self, running: Running) -> WorkflowResult:
        """The same, as soon as a crash would not undo what was asked for; from then on the run is kept."""
        running.starters += 1
        try:
            await self._wait(running, [running.task, running.begun])
        finally:
            running.starters -= 1
        if running.task.done():
            return running.outcome()
        assert running.run is not None
        running.is_kept = not self._is_left
        if self._is_left and not running.callers:
            running.cut()
        return running.run.so_far

    async def _wait(self, running: Running, any_of: "Iterable[asyncio.Future[Any]]") -> None:
        running.callers += 1
        try:
            await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if running.callers == 1 and not running.is_kept and not running.task.done():
                running.cancel()
                await asyncio.wait([running.task])
            raise
        finally:
            running.callers -= 1

    def close(self) -> None:
        """Let no run begin any more, for good."""
        self._is_stopped = True

    def enter(self) -> None:
        """Let runs begin again, after `leave`."""
        self._is_left = False

    def leave(self) -> None:
        """Let no run begin until `enter`, and keep none that nobody waits for; `stop_kept` ends them."""
        self._is_left = True

    async def stop(self, grace_seconds: float) -> None:
        """End all runs.

        Args:
            grace_seconds: For how long what is under way may go on to its end.
        """
        await self._end(list(self._by_task.values()), grace_seconds)

    async def stop_kept(self) -> None:
        """End the runs whose end nobody waits for; or all, where none belongs to who waits for it."""
        for one in self._by_task.values():
            one.is_kept = False
        left = [one for one in self._by_task.values() if self._keeps_all or one.callers == one.starters]
        await self._end(left, 0.0)

    async def _end(self, runs: list[Running], grace_seconds: float) -> None:
        left = [one for one in runs if one.task is not asyncio.current_task()]
        for one in left:
            if one.run is not None:
                one.run.brake()
        try:
            if left and grace_seconds > 0:
                await asyncio.wait([one.task for one in left], timeout=grace_seconds)
        finally:
            left = [one for one in left if not one.task.done()]
            for one in left:
                one.cut()
            if left:
                await asyncio.wait([one.task for one in left])


def shown(error: BaseException) -> str:
    """What may be told of an error: the text of somebody else's may hold anything."""
    return str(error) if isinstance(error, WorkflowsError) else type(error).__name__


def _stopped() -> ExecutorStoppedError:
    return ExecutorStoppedError(
        "this server is shutting down and begins nothing any more, so nothing was done: ask another one, or ask again "
        "when it is back"
    )
