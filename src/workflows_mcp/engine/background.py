"""What an executor does besides: tidying up, and taking on the runs that others have left behind."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sized
from typing import NamedTuple, Protocol

from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointState
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.concurrent import at_once
from workflows_mcp.engine.overdue import OverdueQuestions
from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.engine.retention import RetentionTask
from workflows_mcp.engine.running import shown
from workflows_mcp.errors import (
    CheckpointAlreadyClaimedError,
    CheckpointDecodeError,
    ExecutorStoppedError,
    LeaseLostError,
    SecretError,
    WorkflowDefinitionError,
)

__all__ = ["Background", "Recoverer"]

_RUNS_AT_ONCE = 16
"""How many abandoned runs are gone on with at the same time when somebody waits for all of them."""

_CLAIMS_AT_ONCE = 16
"""How many are claimed at the same time in the background: other servers are to have some, too."""

_MOST_AT_WORK = 500
"""An executor that is busy with so many runs takes no other's: each may have processes, and all stand in its memory."""

_MOST_FOUND = 1000
"""How many abandoned runs are looked at: more than one executor gets through before it looks again."""

_REFUSED_SECONDS = 300.0
"""After how long one that cannot be gone on with here is tried again, and not at every look."""

_LASTING = (WorkflowDefinitionError, CheckpointDecodeError, SecretError)
"""Errors that are the same at the next look: a block type is missing or switched off here, a payload is damaged, or a
secret of this server is not fit to be one."""

_log = logging.getLogger(__name__)


class _Refusal(NamedTuple):
    """Why a run could not be gone on with here, and when that is tried again, by the steady clock."""

    why: str
    again_at: float


class Recoverer(Protocol):
    """Whoever can continue a run."""

    async def take_over(self, head: CheckpointState, *, wait: bool = True) -> WorkflowResult:
        """See `WorkflowExecutor.take_over`."""


class Background:
    """Retention and recovery, in tasks of their own from `start` to `stop`.

    Args:
        store: Where the checkpoints are.
        config: How long they are kept.
        recoverer: Continues a run.
        running: The runs that it is busy with.
        recover_every_seconds: How often to look for runs to continue; None: never.

    Raises:
        ValueError: The interval is not a positive number.
    """

    def __init__(
        self,
        store: CheckpointStore,
        config: CheckpointConfig,
        recoverer: Recoverer,
        running: Sized,
        recover_every_seconds: float | None,
    ) -> None:
        if recover_every_seconds is not None and not recover_every_seconds > 0:
            raise ValueError("recover_every_seconds must be a positive number, or None")
        self._store = store
        self._recoverer = recoverer
        self._running = running
        self._every = recover_every_seconds
        self._retention = RetentionTask(store, config)
        self._overdue = OverdueQuestions(store)
        self._lookers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin; does nothing when it has begun already."""
        self._retention.start()
        if self._every is not None and not self._lookers:
            # Each in a task of its own: to read all that waits may take longer than a lease.
            for find in (self._abandoned, self._find_overdue):
                self._lookers.append(asyncio.create_task(self._keep_looking(find, self._every), name="look for runs"))

    async def stop(self) -> None:
        """End; what was taken on belongs to the recoverer."""
        try:
            await self.stop_looking()
        finally:
            await self._retention.stop()

    async def stop_looking(self) -> None:
        """Take on nothing any more."""
        lookers, self._lookers = self._lookers, []
        for task in lookers:
            task.cancel()
        if lookers:
            await asyncio.wait(lookers)

    async def recover_all(self) -> list[WorkflowResult]:
        """Continue the runs that nobody holds any more, and wait for what they come to; others are left to others.

        Raises:
            CheckpointStoreError: The store failed.
        """
        limit = asyncio.Semaphore(_RUNS_AT_ONCE)

        async def work(checkpoint_id: str) -> WorkflowResult | None:
            async with limit:
                try:
                    return await self._take_over(checkpoint_id, wait=True)
                except Exception as error:  # noqa: BLE001 - what is wrong with one must not keep the others from going on
                    _warn(checkpoint_id, shown(error))
                    return None

        found = [*await self._abandoned(_MOST_FOUND), *await self._overdue.find()]
        async with asyncio.TaskGroup() as runs:
            tasks = [runs.create_task(work(one)) for one in found]
        return [result for task in tasks if (result := task.result()) is not None]

    async def _keep_looking(self, find: Callable[[int], Awaitable[list[str]]], every: float) -> None:
        refused: dict[str, _Refusal] = {}
        while True:
            try:
                # Those that cannot be gone on with here must not hide the others.
                found = await find(_MOST_FOUND + len(refused))
            except Exception as error:  # noqa: BLE001 - a store of somebody else's may raise anything
                _log.warning("looking for runs to recover failed, and is tried again: %s", shown(error))
            else:
                still_there = refused.keys() & set(found)
                refused = {checkpoint_id: refused[checkpoint_id] for checkpoint_id in still_there}
                await self._take_on(found, refused)
            # Servers that started together must not look together for good.
            await asyncio.sleep(every * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _abandoned(self, most: int) -> list[str]:
        return [metadata.checkpoint_id for metadata in await self._store.list_abandoned(most)]

    async def _find_overdue(self, _most: int) -> list[str]:
        return await self._overdue.find()

    async def _take_on(self, found: list[str], refused: "dict[str, _Refusal]") -> None:
        """Claim what was found, several at the same time, and leave it running; notes what cannot go on here."""
        now = time.monotonic()
        left = (one for one in found if one not in refused or refused[one].again_at <= now)

        async def work() -> None:
            for checkpoint_id in left:
                if len(self._running) >= _MOST_AT_WORK:
                    return
                try:
                    await self._take_over(checkpoint_id, wait=False)
                except Exception as error:  # noqa: BLE001 - what is wrong with one must not keep the others from it
                    why, known = shown(error), refused.pop(checkpoint_id, None)
                    if isinstance(error, _LASTING):
                        refused[checkpoint_id] = _Refusal(why, time.monotonic() + _REFUSED_SECONDS)
                    if known is None or known.why != why:
                        _warn(checkpoint_id, why)

        await at_once(work() for _ in range(min(len(found), _CLAIMS_AT_ONCE)))

    async def _take_over(self, checkpoint_id: str, *, wait: bool) -> WorkflowResult | None:
        """Continue a run; None: somebody else does, or nobody may any more."""
        state = await self._store.load_checkpoint(checkpoint_id)
        try:
            return None if state is None else await self._recoverer.take_over(state, wait=wait)
        except (CheckpointAlreadyClaimedError, ExecutorStoppedError, LeaseLostError):
            return None


def _warn(checkpoint_id: str, why: str) -> None:
    _log.warning("the run of checkpoint %r could not be recovered: %s", checkpoint_id, why)
