"""Saves one run under the lease that makes it ours, and lets go of it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from workflows_mcp.engine.checkpoint import CheckpointState, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.lease import Moment
from workflows_mcp.engine.progress import Progress
from workflows_mcp.errors import CheckpointStoreError

__all__ = ["Saver", "seen_through"]

_RELEASING: set[asyncio.Task[None]] = set()
"""Releases that are under way: the event loop alone would not keep them."""

_RELEASE_SECONDS = 2.0
"""How long a run that is stopped waits for its lease to be released; it runs out by itself, too."""


async def seen_through(release: Coroutine[Any, Any, None]) -> None:
    """Release something, and wait for that a while, however often the caller is cancelled meanwhile."""
    releasing = asyncio.create_task(release, name="release a run")
    _RELEASING.add(releasing)
    releasing.add_done_callback(_RELEASING.discard)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _RELEASE_SECONDS
    cancellation: asyncio.CancelledError | None = None
    while not releasing.done() and (left := deadline - loop.time()) > 0:
        try:
            await asyncio.wait([releasing], timeout=left)
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation


class Saver:
    """Saves one run. Every save but the first follows the one before; saves, renewals and the release take turns.

    Args:
        progress: How far the run has come; is told which checkpoint is the newest.
        store: Keeps the checkpoints.
        owner: What the leases are taken for.
        lease_seconds: For how long.
        max_bytes: What a state may have; None: what the store takes.
        on_saved: Called with what was saved, and when that was asked for, before anything else is saved.
        tell: Awaited with the same state afterwards.
    """

    def __init__(
        self,
        progress: Progress,
        store: CheckpointStore,
        *,
        owner: str,
        lease_seconds: float,
        max_bytes: int | None,
        on_saved: Callable[[CheckpointState, Moment], None],
        tell: Callable[[CheckpointState], Awaitable[None]],
    ) -> None:
        self._progress = progress
        self._store = store
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._max_bytes = max_bytes
        self._on_saved = on_saved
        self._tell = tell
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    async def save_shared(self) -> None:
        """Save how far the run has come; those who ask while a save is under way share the next one.

        Raises:
            CheckpointStoreError: See `save`.
        """
        if not self._turn.locked() and self._next is None:
            await self.save(None)
            return
        if self._next is None:
            self._next = asyncio.create_task(self._save_next(), name="save the run")
            # Nobody may be left to hear of its error.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._next)

    async def _save_next(self) -> None:
        await self.save(None)

    async def save(self, state: CheckpointState | None) -> CheckpointState:
        """Save a state; None: how far the run has come when it is this save's turn.

        Raises:
            LeaseLostError: The run is somebody else's now.
            CheckpointStoreError: It could not be saved.
        """
        async with self._turn:
            if state is None:
                self._next = None
                state = self._progress.to_state(CheckpointStatus.RUNNING)
            asked_at = Moment.now()
            try:
                await self._write(state)
            except asyncio.CancelledError:
                # It may be saved by now, and what comes next must follow it. Saving it again is safe.
                with contextlib.suppress(CheckpointStoreError):
                    await self._write(state)
                    self._note(state, asked_at)
                raise
            self._note(state, asked_at)
        await self._tell(state)
        return state

    async def _write(self, state: CheckpointState) -> None:
        """Save under the lease; the run keeps it while it goes on."""
        follows, goes_on = self._progress.checkpoint_id, state.status is CheckpointStatus.RUNNING
        await self._store.save_checkpoint(
            state,
            follows=follows,
            owner=self._owner if goes_on or follows is not None else None,
            lease_seconds=self._lease_seconds if goes_on else None,
            max_bytes=self._max_bytes,
        )

    def _note(self, state: CheckpointState, asked_at: Moment) -> None:
        self._progress.saved_at = state.created_at
        self._progress.checkpoint_id = state.checkpoint_id
        self._on_saved(state, asked_at)

    async def renew(self) -> None:
        """Renew the lease, if there is one.

        Raises:
            LeaseLostError: It is lost.
            CheckpointStoreError: It could not be renewed.
        """
        async with self._turn:
            checkpoint_id = self._progress.checkpoint_id
            if checkpoint_id is not None:
                await self._store.renew_lease(checkpoint_id, self._owner, self._lease_seconds)

    async def release(self, *, saves: bool = False) -> None:
        """Let others take the run over at once, or as soon as a save that is under way is over.

        Args:
            saves: Whether to save before how far it has come, if that can be done.
        """
        await seen_through(self._release_in_turn(saves=saves))

    async def _release_in_turn(self, *, saves: bool) -> None:
        # A store of somebody else's may raise anything, and nobody is left to hear of it.
        if saves:
            with contextlib.suppress(Exception):
                await self.save(None)
        async with self._turn:
            if self._progress.checkpoint_id is not None:
                with contextlib.suppress(Exception):
                    await self._store.release_claim(self._progress.checkpoint_id, self._owner)
