"""SIGTERM and SIGHUP stop a run as Ctrl-C does: its blocks are processes of their own, and must not stay behind.

A second signal is ignored, for what the first one began is under way; a third breaks it off. A server that is stopped
takes its time, which the second one cuts short.
"""

import asyncio
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from workflows_mcp.cli.failures import EXIT_INTERRUPTED

__all__ = [
    "cancelled_by_signals",
    "first_signal",
    "ignore_late_signals",
    "interrupted_exit_code",
    "obey_signals",
    "stopped_by_signals",
]

_LIKE_CTRL_C = (signal.SIGTERM, signal.SIGHUP)
_IGNORED = 2

_received: list[int] = []
_cancelled: list[bool] = []


def obey_signals() -> None:
    """Make SIGTERM, and SIGHUP unless `nohup` has it ignored, raise `KeyboardInterrupt`."""
    _handle(_interrupt, _LIKE_CTRL_C)


@contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """Make the same signals and Ctrl-C cancel the current task."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel(number: int, _frame: FrameType | None) -> None:
        _received.append(number)
        if len(_received) == 1:
            loop.call_soon_threadsafe(task.cancel)
        elif len(_received) > _IGNORED:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_LIKE_CTRL_C)}
    _handle(cancel, before)
    try:
        yield
    finally:
        if _received:  # what follows is the rest of the cleanup
            _cancelled.append(True)
        else:
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)


@contextmanager
def stopped_by_signals() -> Iterator[asyncio.Event]:
    """Make the first of the same signals set an event; the second cancels the current task, a third breaks it off."""
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def end(number: int, _frame: FrameType | None) -> None:
        _received.append(number)
        if len(_received) == 1:
            loop.call_soon_threadsafe(stop.set)
        elif len(_received) == _IGNORED:
            loop.call_soon_threadsafe(task.cancel)
        else:
            raise KeyboardInterrupt

    _handle(end, (signal.SIGINT, *_LIKE_CTRL_C))
    try:
        yield stop
    finally:
        if _received:  # what follows is the rest of the cleanup
            _cancelled.append(True)


def ignore_late_signals() -> None:
    """Once the cleanup of a run that was stopped is over, ignore signals up to the end of the process.

    While the interpreter shuts down, Python gives them their default effect again: a second Ctrl-C that comes late
    would replace the exit code. Where nothing was stopped they get that effect now: an exception could only be told of
    by a traceback.
    """
    if _cancelled or not _received:
        _handle(signal.SIG_IGN if _cancelled else signal.SIG_DFL, (signal.SIGINT, *_LIKE_CTRL_C))


def interrupted_exit_code() -> int:
    """The exit code of a command that was interrupted: a shell's for the signal that it got."""
    return 128 + _received[0] if _received else EXIT_INTERRUPTED


def first_signal() -> int | None:
    """The signal that came first; None: none has come, or Ctrl-C before anybody listened."""
    return _received[0] if _received else None


def _handle(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers, numbers: Iterable[signal.Signals]
) -> None:
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    if len(_received) != _IGNORED:
        raise KeyboardInterrupt
