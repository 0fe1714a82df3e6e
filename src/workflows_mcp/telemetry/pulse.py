"""Looks at a database for those who read metrics: never more often than agreed, and never in their way."""

import asyncio
import concurrent.futures
import threading
import time
import weakref
from collections.abc import Iterator

from workflows_mcp.engine.census import CheckpointPulse
from workflows_mcp.engine.contract import CheckpointStore
from workflows_mcp.telemetry.tallies import StoreTally

__all__ = ["PulseKeeper", "pulse_samples"]

_PATIENCE_SECONDS = 0.5
"""How long a reader in another thread waits for a fresh look: a database that is well answers in milliseconds."""

_LATE_SECONDS = 5.0
"""A look that takes longer says that the database is not well."""


class PulseKeeper:
    """Keeps what the last look at a store has told.

    A look is taken in the store's own event loop, when somebody reads and the last one is old enough; nothing runs
    while nobody does.

    Args:
        store: The store; not kept alive.
        tally: Knows in which event loop the store is used.
        seconds: How old a look may be.
    """

    def __init__(self, store: CheckpointStore, tally: StoreTally, seconds: float) -> None:
        self._store = weakref.ref(store)
        self._tally = tally
        self._seconds = seconds
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._looking: concurrent.futures.Future[None] | None = None
        self._pulse: CheckpointPulse | None = None
        self._is_up: bool | None = None
        self.is_stopped = False

    def stop(self) -> None:
        """Look no more."""
        self.is_stopped = True

    def look(self) -> Iterator[tuple[str, float]]:
        """What is known, fresh if it can be had at once. May be called from any thread."""
        self._refresh()
        looking = self._looking
        is_late = looking is not None and not looking.done() and time.monotonic() - self._asked_at > _LATE_SECONDS
        if self._is_up is None and not is_late:
            return
        yield "workflows_checkpoint_up", float(bool(self._is_up) and not is_late)
        if self._is_up and not is_late and self._pulse is not None:
            yield from pulse_samples(self._pulse)

    def _refresh(self) -> None:
        loop = self._tally.loop
        if loop is None or loop.is_closed():
            return
        with self._lock:
            if (self._looking is None or self._looking.done()) and time.monotonic() - self._asked_at >= self._seconds:
                self._asked_at = time.monotonic()
                self._looking = asyncio.run_coroutine_threadsafe(self._look(), loop)
            looking = self._looking
        if looking is not None and not _is_running_here(loop):
            # It is a failure that `_look` has seen, or too early to tell.
            concurrent.futures.wait([looking], timeout=_PATIENCE_SECONDS)

    async def _look(self) -> None:
        store = self._store()
        if store is None:
            return
        try:
            async with asyncio.timeout(_LATE_SECONDS):
                self._pulse = await store.take_pulse()
        except Exception:  # noqa: BLE001 - whatever it is, the database has not answered
            self._is_up = False
        else:
            self._is_up = True


def pulse_samples(pulse: CheckpointPulse) -> Iterator[tuple[str, float]]:
    """The metrics that a look at a store gives."""
    oldest = pulse.oldest_waiting
    yield "workflows_checkpoint_database_bytes", pulse.database_bytes
    yield "workflows_paused_runs", pulse.waiting
    yield "workflows_oldest_pause_seconds", 0.0 if oldest is None else max(time.time() - oldest, 0.0)
    yield "workflows_leased_runs", pulse.leased
    yield "workflows_abandoned_runs", pulse.abandoned


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
