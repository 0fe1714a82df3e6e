"""SIGTERM and SIGHUP stop a run as Ctrl-C does: its blocks are processes of their own, and must not stay behind."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from workflows_mcp.cli.failures import EXIT_INTERRUPTED

__all__ = ["cancelled_by_signals", "interrupted_exit_code", "obey_signals"]

_received: list[int] = []


def obey_signals() -> None:
    """Make SIGTERM, and SIGHUP unless `nohup` has it ignored, raise `KeyboardInterrupt`."""
    _handle(_interrupt)


@contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """Make the same signals cancel the current task. Ctrl-C does so anyway, but a shell may have us ignore that."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel(number: int, _frame: FrameType | None) -> None:
        _received.append(number)
        loop.call_soon_threadsafe(task.cancel)

    _handle(cancel)
    try:
        yield
    finally:
        _handle(_interrupt)


def interrupted_exit_code() -> int:
    """The exit code of a command that was interrupted: a shell's for the signal that it got."""
    return 128 + _received[0] if _received else EXIT_INTERRUPTED


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt
