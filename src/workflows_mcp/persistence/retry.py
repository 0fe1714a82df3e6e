"""What may succeed shortly is tried again, until a deadline."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from workflows_mcp.errors import CheckpointStoreError
from workflows_mcp.persistence.dialects import Failure

__all__ = ["Retry"]

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.1
"""Seconds between two tries: the most after the first failure, and the most of all; drawn at random below."""

_NO_TIMEOUT = contextlib.nullcontext()


class Retry:
    """Tries calls to a database as often as it makes sense.

    Args:
        explain: Says what an error means; None: it is no error of the database's, and is raised as it is.
        too_late: The error for a call that was cut short before the database said anything.
        told: Is told of each failure after which another attempt is made.
    """

    def __init__(
        self,
        explain: Callable[[Exception], Failure | None],
        too_late: Callable[[], CheckpointStoreError],
        told: Callable[[CheckpointStoreError], None],
    ) -> None:
        self._explain = explain
        self._too_late = too_late
        self._told = told

    async def until(
        self,
        deadline: float,
        attempt: Callable[[], Awaitable[T]],
        *,
        ends_by_itself: bool = False,
        is_cut_short: bool = True,
    ) -> T:
        """Try until it succeeds, fails for good, or it is too late.

        Args:
            deadline: In the event loop's time; no attempt begins after it.
            attempt: What is tried.
            ends_by_itself: Whether the first attempt needs no timer, which would take longer than a small load.
            is_cut_short: Whether an attempt that is under way at the deadline is cancelled.

        Raises:
            CheckpointStoreError: The last failure, in the project's terms.
        """
        loop = asyncio.get_running_loop()
        failure: Failure | None = None
        if ends_by_itself:
            try:
                return await attempt()
            except Exception as error:  # noqa: BLE001 - what is none of ours is raised again
                failure = self._failure(error)
        pause = _FIRST_PAUSE
        repeats = 0  # after failures that are bounded
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline) if is_cut_short else _NO_TIMEOUT:
                while True:
                    if failure is not None:
                        if not failure.retriable:
                            break
                        if failure.most_repeats is not None:
                            if repeats >= failure.most_repeats:
                                break
                            repeats += 1
                        # Full jitter: callers that failed together do not come back together.
                        wanted = random.uniform(0, pause)  # noqa: S311 - nothing secret about a pause
                        await asyncio.sleep(min(wanted, max(deadline - loop.time(), 0)))
                        if loop.time() >= deadline:
                            break
                        pause = min(pause * 2, _LONGEST_PAUSE)
                        self._told(failure.error)
                    try:
                        return await attempt()
                    except Exception as error:  # noqa: BLE001 - what is none of ours is raised again
                        failure = self._failure(error)
        # Raised here, outside every handler, so that no chained driver error can show what was being stored.
        raise self._too_late() if failure is None else failure.error

    def _failure(self, error: Exception) -> Failure:
        """What an error means; one that is none of the database's is raised again."""
        failure = self._explain(error)
        if failure is None:
            raise error
        return failure
