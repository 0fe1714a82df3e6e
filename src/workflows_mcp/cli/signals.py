"""SIGTERM stops a run as Ctrl-C does: its blocks are processes of their own, and must not stay behind."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from workflows_mcp.cli.failures import EXIT_INTERRUPTED

__all__ = ["cancelled_by_sigterm", "interrupted_exit_code", "obey_sigterm"]

_received: list[int] = []


def obey_sigterm() -> None:
    """Make SIGTERM raise `KeyboardInterrupt`."""
    signal.signal(signal.SIGTERM, _interrupt)


@contextmanager
def cancelled_by_sigterm() -> Iterator[None]:
    """Make SIGTERM cancel the current task. Ctrl-C does so anyway, but a shell may have us ignore that."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel(number: int, _frame: FrameType | None) -> None:
        _received.append(number)
        loop.call_soon_threadsafe(task.cancel)

    signal.signal(signal.SIGTERM, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, _interrupt)


def interrupted_exit_code() -> int:
    """The exit code of a command that was interrupted: a shell's for the signal that it got."""
    return 128 + _received[0] if _received else EXIT_INTERRUPTED


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt
