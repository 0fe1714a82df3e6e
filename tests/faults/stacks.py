"""Where a process is that does not get on: the stacks of its threads and tasks, which it tells when it is asked to."""

import asyncio
import contextlib
import faulthandler
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

__all__ = ["ask_for_stacks", "tell_stacks"]

_SIGNAL = signal.SIGUSR1

_SECONDS_TO_TELL = 5.0
"""How long the tasks of a process are waited for, which it tells after its threads, and not while it is blocked."""

_END = "(these are all tasks)\n"


def tell_stacks(file: Path) -> None:
    """Have this process, from now on, write its stacks into a file when it is asked to.

    Its threads are told whatever it is doing; its tasks when Python's main thread is able to.
    """
    told = file.open("w", buffering=1)

    def tell_tasks(_number: int, _frame: FrameType | None) -> None:
        _tell_tasks(told)

    signal.signal(_SIGNAL, tell_tasks)
    faulthandler.register(_SIGNAL, file=told, chain=True)


def ask_for_stacks(pid: int, file: Path) -> str:
    """Have a process write its stacks into a file, and read them; they are of the child alone, not of its children."""
    end = time.monotonic() + _SECONDS_TO_TELL
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, _SIGNAL)
        while not file.read_text().endswith(_END) and time.monotonic() < end:
            time.sleep(0.02)
    return f"where it was:\n{file.read_text()}"


def _tell_tasks(told: TextIO) -> None:
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # there is no event loop
        tasks = set()
    for task in sorted(tasks, key=lambda one: one.get_name()):
        told.write(f"\nTask {task.get_name()}{', being cancelled' if task.cancelling() else ''} (innermost last):\n")
        told.writelines(f'  File "{at}", line {line} in {name}\n' for at, line, name in _places(task.get_coro()))
    told.write(_END)


def _places(awaited: Any) -> Iterator[tuple[str, int, str]]:
    """The places in which a coroutine waits, and what it waits for, and so on. A `Task` itself tells the first only."""
    while awaited is not None:
        kind = next((one for one in ("cr", "gi", "ag") if hasattr(awaited, f"{one}_frame")), None)
        if kind is None:
            yield repr(awaited), 0, "…"
            return
        frame: FrameType | None = getattr(awaited, f"{kind}_frame")
        if frame is not None:
            yield frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
