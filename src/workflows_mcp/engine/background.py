"""What an executor does besides: tidying up, and taking on the runs that others have left behind."""

import asyncio
import logging
import random
from typing import Protocol

from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointState
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.overdue import OverdueQuestions
from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.engine.retention import RetentionTask
from workflows_mcp.errors import CheckpointAlreadyClaimedError, LeaseLostError, WorkflowsError

__all__ = ["Background", "Recoverer"]

_RUNS_AT_ONCE = 16
"""How many abandoned runs one executor goes on with at the same time: other servers are to have some, too."""

_MOST_FOUND = 1000
"""How many abandoned runs are looked at: more than one executor gets through before it looks again."""

_log = logging.getLogger(__name__)


class Recoverer(Protocol):
    """Whoever can continue a run."""

    async def take_over(self, head: CheckpointState) -> WorkflowResult:
        """See `WorkflowExecutor.take_over`."""


class Background:
    """Retention and recovery, in tasks of their own from `start` to `stop`.

    Args:
        store: Where the checkpoints are.
        config: How long they are kept.
        recoverer: Continues a run.
        recover_every_seconds: How often to look for runs to continue; None: never.

    Raises:
        ValueError: The interval is not a positive number.
    """

    def __init__(
        self,
        store: CheckpointStore,
        config: CheckpointConfig,
        recoverer: Recoverer,
        recover_every_seconds: float | None,
    ) -> None:
        if recover_every_seconds is not None and not recover_every_seconds > 0:
            raise ValueError("recover_every_seconds must be a positive number, or None")
        self._store = store
        self._recoverer = recoverer
        self._every = recover_every_seconds
        self._retention = RetentionTask(store, config)
        self._overdue = OverdueQuestions(store)
        self._looking: asyncio.Task[None] | None = None
        self._at_work: dict[str, asyncio.Task[WorkflowResult | None]] = {}

    async def start(self) -> None:
        """Begin; does nothing when it has begun already."""
        self._retention.start()
        if self._every is not None and self._looking is None:
            self._looking = asyncio.create_task(self._keep_looking(self._every), name="look for abandoned runs")

    async def stop(self) -> None:
        """End; runs that were taken on are stopped, and left for others to recover."""
        tasks: list[asyncio.Task[object]] = [*self._at_work.values()]
        if self._looking is not None:
            tasks.append(self._looking)
            self._looking = None
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            await self._retention.stop()

    async def recover_all(self) -> list[WorkflowResult]:
        """Continue the runs that nobody holds any more, and wait for what they come to; others are left to others.

        Raises:
            CheckpointStoreError: The store failed.
        """
        limit = asyncio.Semaphore(_RUNS_AT_ONCE)

        async def work(checkpoint_id: str) -> WorkflowResult | None:
            async with limit:
                return await self._take_over(checkpoint_id)

        async with asyncio.TaskGroup() as runs:
            tasks = [runs.create_task(work(one)) for one in await self._find()]
        return [result for task in tasks if (result := task.result()) is not None]

    async def _keep_looking(self, every: float) -> None:
        while True:
            # Servers that started together must not look together for good.
            await asyncio.sleep(every * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            try:
                found = await self._find()
            except Exception as error:  # noqa: BLE001 - a store of somebody else's may raise anything
                _log.warning("looking for runs to recover failed, and is tried again: %s", _shown(error))
                continue
            for checkpoint_id in found:
                if len(self._at_work) < _RUNS_AT_ONCE and checkpoint_id not in self._at_work:
                    task = asyncio.create_task(self._take_over(checkpoint_id), name=f"recover {checkpoint_id}")
                    self._at_work[checkpoint_id] = task
                    task.add_done_callback(lambda _, done=checkpoint_id: self._at_work.pop(done))  # type: ignore[misc]

    async def _find(self) -> list[str]:
        """The checkpoints that can be gone on from now."""
        abandoned = await self._store.list_abandoned(_MOST_FOUND)
        return [*(metadata.checkpoint_id for metadata in abandoned), *await self._overdue.find()]

    async def _take_over(self, checkpoint_id: str) -> WorkflowResult | None:
        """Continue a run; None: somebody else does, or it cannot be done."""
        try:
            state = await self._store.load_checkpoint(checkpoint_id)
            return None if state is None else await self._recoverer.take_over(state)
        except (CheckpointAlreadyClaimedError, LeaseLostError):
            return None
        except Exception as error:  # noqa: BLE001 - what is wrong with one must not keep the others from going on
            _log.warning("the run of checkpoint %r could not be recovered: %s", checkpoint_id, _shown(error))
            return None


def _shown(error: Exception) -> str:
    """What may be told of an error: the text of somebody else's may hold anything."""
    return str(error) if isinstance(error, WorkflowsError) else type(error).__name__
