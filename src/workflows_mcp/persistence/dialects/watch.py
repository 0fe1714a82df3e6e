"""One timer for all that wait."""

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from workflows_mcp.errors import CheckpointStoreError, copy_error

__all__ = ["Watch", "fail"]


class Watch:
    """Fails futures that are not done in time.

    A timer for each would take longer than all else that a small load costs the event loop.

    Args:
        too_late: The error for a future that is not done by its deadline.
    """

    def __init__(self, too_late: Callable[[], Exception]) -> None:
        self._too_late = too_late
        # Not the futures themselves: what they are of may be large, and their deadlines far away.
        self._watched: deque[tuple[float, weakref.ref[asyncio.Future[Any]]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, future: "asyncio.Future[Any]", deadline: float) -> None:
        """Watch over a future.

        Args:
            future: Any.
            deadline: In the time of its event loop; not before that of the future that was added last.
        """
        watched = self._watched
        while watched and _is_over(watched[0][1]()):
            watched.popleft()
        watched.append((deadline, weakref.ref(future)))
        if self._timer is None:
            self._timer = future.get_loop().call_at(deadline, self._expire, deadline)

    def stop(self) -> None:
        """Watch no longer."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, now: float) -> None:
        self._timer = None
        watched = self._watched
        while watched:
            deadline, reference = watched[0]
            future = reference()
            if future is not None and not future.done():
                if deadline > now:
                    self._timer = future.get_loop().call_at(deadline, self._expire, deadline)
                    return
                fail(future, self._too_late())
            watched.popleft()


def fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    """Give whoever waits for a future an error of their own; nothing, when it is done or given up."""
    if future.done():
        return
    future.set_exception(copy_error(error) if isinstance(error, CheckpointStoreError) else error)
    future.exception()  # a caller that was cancelled never asks; seen here, it is not reported as lost


def _is_over(future: "asyncio.Future[Any] | None") -> bool:
    return future is None or future.done()
