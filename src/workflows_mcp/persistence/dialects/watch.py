"""One timer for all that wait."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Watch"]


class Watch:
    """Fails futures that are not done in time.

    A timer for each would take longer than all else that a small load costs the event loop.

    Args:
        too_late: The error for a future that is not done by its deadline.
    """

    def __init__(self, too_late: Callable[[], Exception]) -> None:
        self._too_late = too_late
        self._watched: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, future: "asyncio.Future[Any]", deadline: float) -> None:
        """Watch over a future.

        Args:
            future: Any.
            deadline: In the time of its event loop; not before that of the future that was added last.
        """
        watched = self._watched
        while watched and watched[0][1].done():
            watched.popleft()
        watched.append((deadline, future))
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
        while watched and (watched[0][0] <= now or watched[0][1].done()):
            _, future = watched.popleft()
            if not future.done():
                future.set_exception(self._too_late())
                future.exception()  # a caller that was cancelled never asks; seen here, it is not reported as lost
        if watched:
            deadline, future = watched[0]
            self._timer = future.get_loop().call_at(deadline, self._expire, deadline)
