"""What is left behind in a process, once everything is over."""

import asyncio
import threading
import time

__all__ = ["threads_left"]

_SECONDS_TO_SETTLE = 3.0


async def threads_left(before: int) -> int:
    """How many threads there are that there were not, and that do not end shortly.

    Args:
        before: How many there were. The event loop's own pool does not count.
    """
    end = time.monotonic() + _SECONDS_TO_SETTLE
    while (left := _count() - before) > 0 and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return max(left, 0)


def _count() -> int:
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())
