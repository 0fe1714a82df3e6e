"""Shared trips: loads that arrive while one is under way share the next."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any

__all__ = ["Reader"]

_TRIP_LOADS = 64
"""The most checkpoints that are loaded together."""

_TRIP_BYTES = 4 * 2**20
"""When a trip brought more payload than this, the next one takes half as many: it is all in memory at once."""


class Reader:
    """Loads checkpoints for any number of callers.

    A lone caller makes its trip itself, at no extra cost. Callers behind it wait for a trip that is made for all of
    them together, and share its failure.

    Args:
        fetch: The rows with some ids, in no order: the id first, the payload last.
        spawn: Starts a task that the owner waits for when it closes.
    """

    def __init__(
        self,
        fetch: Callable[[Collection[str]], Awaitable[Sequence[Sequence[Any]]]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._fetch = fetch
        self._spawn = spawn
        self._is_busy = False
        self._most = _TRIP_LOADS
        self._waiting: list[tuple[str, asyncio.Future[Sequence[Any] | None]]] = []

    async def load(self, key: str) -> Sequence[Any] | None:
        """The row with an id; None when it is absent."""
        if self._is_busy:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((key, future))
            row: Sequence[Any] | None = await future
            return row
        self._is_busy = True
        try:
            rows = await self._fetch((key,))
            return rows[0] if rows else None
        finally:
            if self._waiting:
                self._spawn(self._load_waiting())
            else:
                self._is_busy = False

    async def _load_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._load_together([one for one in batch if not one[1].done()])
        finally:
            self._is_busy = False
            for _, future in self._waiting:  # only when this was cancelled
                future.cancel()

    async def _load_together(self, batch: Sequence[tuple[str, asyncio.Future[Sequence[Any] | None]]]) -> None:
        try:
            rows = await self._fetch({key for key, _ in batch}) if batch else ()
        except Exception as error:  # noqa: BLE001 - it is the callers'
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        found = {row[0]: row for row in rows}
        for key, future in batch:
            if not future.done():
                future.set_result(found.get(key))
        size = sum(len(row[-1]) for row in rows)
        self._most = max(self._most // 2, 1) if size > _TRIP_BYTES else min(self._most * 2, _TRIP_LOADS)
