"""Threads of a store's own, for what takes the processor long enough to hold others up.

Not those of asyncio's default pool: the application's own work may fill that for as long as it likes, a caller that
waits for a save within it even until the save is done.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Threads"]

T = TypeVar("T")

_MOST_THREADS = 4
"""The most that work at a time; two rows of a megabyte each take no longer to pack than their commit."""


class Threads:
    """As many as there are processors, up to a few; the first is started when there is something to do.

    Args:
        name: What their names begin with.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._is_closed = False

    def begin(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Have a thread do something, after all that was begun before."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS), self._name)
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def run(self, work: Callable[[], T]) -> T:
        """Have a thread do something, and wait for it. When they were closed, it is done here and now."""
        return work() if self._is_closed else await self.begin(work)

    def close(self, *, drops_the_rest: bool = False) -> None:
        """Let the threads end after what was begun, and wait for nothing.

        Args:
            drops_the_rest: Whether what no thread has come to is given up: nobody waits for it any more.
        """
        self._is_closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=drops_the_rest)
