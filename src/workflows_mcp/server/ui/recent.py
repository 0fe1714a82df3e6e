"""What takes a while to find out, found out once for all that ask at about the same time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Found", "Recent"]

T = TypeVar("T")

_MOST_OF_THE_TIME = 0.05
"""For which part of the time it is looked for at the most, however often somebody asks."""


@dataclass(frozen=True)
class Found(Generic[T]):
    """Something, and when it was found.

    Attributes:
        value: The thing.
        taken_at: When, in Unix seconds.
    """

    value: T
    taken_at: float


class Recent(Generic[T]):
    """Looks for something when it is asked for, unless that was done a moment ago.

    Args:
        look: Finds it. It goes on when those who wait for it have left: others may come.
        fresh_seconds: For how long it holds, at the least; an error holds for none.
    """

    def __init__(self, look: Callable[[], Awaitable[T]], *, fresh_seconds: float) -> None:
        self._look = look
        self._least_seconds = fresh_seconds
        self._fresh_until = float("-inf")
        self._looking: asyncio.Task[Found[T]] | None = None

    async def take(self) -> Found[T]:
        """What there is, as of a moment ago.

        Raises:
            Exception: What looking for it raises.
        """
        return await asyncio.shield(self._task())

    async def take_within(self, seconds: float) -> Found[T] | None:
        """The same; None: it takes longer than this, and is still looked for."""
        looking = self._task()
        done, _ = await asyncio.wait({looking}, timeout=seconds)
        return looking.result() if done else None

    def _task(self) -> "asyncio.Task[Found[T]]":
        if self._looking is None or (self._looking.done() and time.monotonic() >= self._fresh_until):
            self._looking = asyncio.create_task(self._found(), name="look for what the pages show")
            self._looking.add_done_callback(_note_error)
        return self._looking

    async def _found(self) -> Found[T]:
        began = time.monotonic()
        value = await self._look()
        ended = time.monotonic()
        self._fresh_until = ended + max(self._least_seconds, (ended - began) / _MOST_OF_THE_TIME)
        return Found(value, time.time())


def _note_error(looking: "asyncio.Task[Found[T]]") -> None:
    """Keep Python from telling of an error that everybody has stopped waiting for."""
    if not looking.cancelled():
        looking.exception()
