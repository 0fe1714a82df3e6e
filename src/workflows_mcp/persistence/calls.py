"""Tasks that somebody waits for in the end, whoever started them."""

import asyncio
import contextlib
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from workflows_mcp.errors import CheckpointStoreError

__all__ = ["LEAST_SECONDS_TO_CLOSE", "Calls", "wait_or_cancel"]

T = TypeVar("T")

LEAST_SECONDS_TO_CLOSE = 0.5
"""How long what was cancelled is given to take note of it."""


class Calls:
    """The tasks that are under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start one more."""
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def start_quietly(self, call: Coroutine[Any, Any, object]) -> None:
        """Start one that nobody waits for but the end, and whose failure is of no concern."""

        async def quietly() -> None:
            with contextlib.suppress(CheckpointStoreError):
                await call

        self.start(quietly())

    async def end(self, seconds: float) -> None:
        """Wait for all of them, and cancel those that are late."""
        await wait_or_cancel(self._tasks, seconds)

    def _forget(self, call: asyncio.Task[Any]) -> None:
        self._tasks.discard(call)
        if not call.cancelled():
            call.exception()  # a caller that was cancelled never asks; seen here, it is not reported as lost


async def wait_or_cancel(tasks: Collection[asyncio.Task[Any]], seconds: float) -> None:
    """Wait for tasks to end; those that are late are cancelled, and given a moment to take note."""
    if not tasks:
        return
    _, late = await asyncio.wait(set(tasks), timeout=max(seconds, 0))
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=LEAST_SECONDS_TO_CLOSE)
