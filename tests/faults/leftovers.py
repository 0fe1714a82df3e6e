"""What is left behind in a process, once everything is over."""

import asyncio
import threading
import time

__all__ = ["count_threads", "threads_left"]

_SECONDS_TO_SETTLE = 3.0


async def threads_left(before: int) -> int:
    """How many threads there are that there were not, and that do not end shortly.

    Args:
        before: How many there were.
    """
    end = time.monotonic() + _SECONDS_TO_SETTLE
    while (left := count_threads() - before) > 0 and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return max(left, 0)


def count_threads() -> int:
    """How many threads there are, but for those of the event loop's own pool."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())
