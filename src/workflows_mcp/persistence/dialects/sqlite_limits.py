"""Limits how long a query on a SQLite file takes, from outside of it.

In a damaged file a query may walk in circles. A progress handler is of no use there: it is asked between two steps of
SQLite's virtual machine, of which a `count(*)` or a check of a whole B-tree is one.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ended_after"]

_SECONDS_BETWEEN_INTERRUPTS = 0.05


@contextmanager
def ended_after(driver: sqlite3.Connection, seconds: float | None) -> Iterator[None]:
    """Within it, queries raise SQLite's error SQLITE_INTERRUPT when the time is over, however many follow.

    Args:
        driver: The connection that they run on. It may be another thread's.
        seconds: How long all of them may take together; None: as long as they like.
    """
    if seconds is None:
        yield
        return
    is_left = threading.Event()

    def interrupt() -> None:
        wait = seconds
        # Again and again: SQLite ends what runs at the moment, and nothing that begins after it.
        while not is_left.wait(wait):
            driver.interrupt()
            wait = _SECONDS_BETWEEN_INTERRUPTS

    thread = threading.Thread(target=interrupt, name="workflows-sqlite-limit", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_left.set()
        thread.join()  # nobody may interrupt a connection that is being closed
