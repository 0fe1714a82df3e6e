"""Shared trips: loads that arrive while one is under way share the next."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, NamedTuple

from workflows_mcp.errors import CheckpointStoreError
from workflows_mcp.persistence.deltas import Linked
from workflows_mcp.persistence.dialects.watch import Watch, fail

__all__ = ["Reader"]

_TRIP_LOADS = 64
"""The most checkpoints that are loaded together."""

_TRIP_BYTES = 4 * 2**20
"""When a trip brought more payload than this, the next one takes half as many: it is all in memory at once."""


class _Load(NamedTuple):
    """An id that is looked for, and the caller who waits for its row."""

    key: str
    done: "asyncio.Future[Sequence[Any] | None]"


class Reader:
    """Loads checkpoints for any number of callers.

    A lone caller makes its trip itself, at no extra cost. Callers behind it wait for a trip that is made for all of
    them together, and share its failure.

    Args:
        fetch: The rows with some ids, in no order: the id first, the payload last. Ends by a deadline.
        spawn: Starts a task that the owner waits for when it closes.
        deadline_seconds: How long a caller waits at the most for others' trips.
        too_late: The error for one that waits longer.
    """

    def __init__(
        self,
        fetch: Callable[[Collection[str]], Awaitable[Sequence[Sequence[Any]]]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        deadline_seconds: float,
        too_late: Callable[[], CheckpointStoreError],
    ) -> None:
        self._fetch = fetch
        self._spawn = spawn
        self._deadline_seconds = deadline_seconds
        self._is_busy = False
        self._most = _TRIP_LOADS
        self._waiting: list[_Load] = []
        self._in_flight: Sequence[_Load] = ()
        self._too_late = too_late
        self._watch = Watch(too_late)

    async def load(self, key: str) -> Sequence[Any] | None:
        """The row with an id; None when it is absent."""
        if self._is_busy:
            return await self._wait(key)
        self._is_busy = True
        try:
            rows = await self._fetch((key,))
            return rows[0] if rows else None
        finally:
            if self._waiting:
                self._spawn(self._load_waiting())
            else:
                self._is_busy = False

    async def _wait(self, key: str) -> Sequence[Any] | None:
        """Have a row brought by the next trip."""
        loop = asyncio.get_running_loop()
        load = _Load(key, loop.create_future())
        self._waiting.append(load)
        self._watch.add(load.done, loop.time() + self._deadline_seconds)
        return await load.done

    def close(self) -> None:
        """Watch over nobody any more."""
        self._watch.stop()

    async def _load_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                self._in_flight = batch = [load for load in batch if not load.done.done()]
                await self._load_together(batch)
        finally:
            self._is_busy = False
            for load in (*self._in_flight, *self._waiting):  # only when this was cancelled
                fail(load.done, self._too_late())
            self._in_flight = ()

    async def _load_together(self, batch: Sequence[_Load]) -> None:
        try:
            rows = await self._fetch({load.key for load in batch}) if batch else ()
        except Exception as error:  # noqa: BLE001 - it is the callers'
            for load in batch:
                fail(load.done, error)
            return
        found = {row[0]: row for row in rows}
        for load in batch:
            if not load.done.done():
                load.done.set_result(found.get(load.key))
        size = _payload_bytes(rows)
        self._most = max(self._most // 2, 1) if size > _TRIP_BYTES else min(self._most * 2, _TRIP_LOADS)


def _payload_bytes(rows: Sequence[Sequence[Any]]) -> int:
    """How much payload rows have in memory, that of their bases included, which several may have in common."""
    links = (link for row in rows if isinstance(row, Linked) for link in row.links)
    payloads = {id(row): row[-1] for row in itertools.chain(rows, links)}
    # In a SQLite file it may be anything; whoever decodes it tells.
    return sum(len(payload) for payload in payloads.values() if isinstance(payload, bytes))
