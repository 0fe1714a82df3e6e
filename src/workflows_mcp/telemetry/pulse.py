"""Looks at a database for those who read metrics: never more often than agreed, and never in their way."""

import asyncio
import concurrent.futures
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from workflows_mcp.engine.census import CheckpointPulse
from workflows_mcp.engine.contract import CheckpointStore
from workflows_mcp.telemetry.tallies import StoreTally

__all__ = ["Look", "PulseKeeper", "pulse_samples"]

_PATIENCE_SECONDS = 0.5
"""How long a reader in another thread waits for a fresh look: a database that is well answers in milliseconds."""

_LATE_SECONDS = 5.0
"""A look that takes longer says that the database is not well."""


@dataclass(frozen=True)
class Look:
    """What a look at a store has told.

    Attributes:
        asked_at: When it was taken, by `time.monotonic`.
        is_up: Whether the database has answered.
        database: Tells which one it was, by being equal for stores that share it; None: it has never answered.
        pulse: What it said; None: it did not answer.
    """

    asked_at: float
    is_up: bool
    database: object = None
    pulse: CheckpointPulse | None = None

    def samples(self) -> Iterator[tuple[str, float]]:
        """The metrics that it gives."""
        yield "workflows_checkpoint_up", float(self.is_up)
        if self.pulse is not None:
            yield from pulse_samples(self.pulse)


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
        self._told: Look | None = None

    def look(self) -> Look | None:
        """What is known, fresh if it can be had at once; None: nothing yet. May be called from any thread."""
        self._refresh()
        looking, asked_at, told = self._looking, self._asked_at, self._told
        if looking is not None and not looking.done() and time.monotonic() - asked_at > _LATE_SECONDS:
            return Look(asked_at, is_up=False, database=None if told is None else told.database)
        return told

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
        asked_at, told = self._asked_at, self._told
        try:
            async with asyncio.timeout(_LATE_SECONDS):
                pulse = await store.take_pulse()
                # Each time: a server that was started again is another one, and to all of its stores at once.
                database = await store.identity()
        except Exception:  # noqa: BLE001 - whatever it is, the database has not answered
            self._told = Look(asked_at, is_up=False, database=None if told is None else told.database)
        else:
            self._told = Look(asked_at, is_up=True, database=database, pulse=pulse)


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
