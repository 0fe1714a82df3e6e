"""How far long work is: a bar on a terminal, now and then a line elsewhere; always on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workflows_mcp.cli.page import Page, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

__all__ = ["busy", "progress", "span"]

_SECONDS_BETWEEN_LINES = 5.0

_MINUTE, _HOUR = 60, 3600

Told = Callable[[str, int, int | None], None]


@contextmanager
def progress(what: str, first: str | None = None) -> Iterator[Told]:
    """Show on stderr how far something is, with its rate and the time that is left.

    Args:
        what: What there are many of, in the plural.
        first: The verb that it begins with; None: nothing is shown before something is told.

    Yields:
        Takes a verb (`copied`), how many are done, and of how many; None: nobody knows. May be called in any thread.
    """
    console = Page(sys.stderr).unbreakable_console()
    if console is None:
        yield _Lines(what, first)
        return
    bars = _Bars(console, what)
    with bars.shown:
        if first is not None:
            bars(first, 0, None)
        yield bars


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show on a terminal that something is under way of which nobody knows how far it is."""
    console = Page(sys.stderr).unbreakable_console()
    if console is None:
        yield
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    with _transient(console, TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as bar:
        bar.add_task(what, total=None)
        yield


class _Lines:
    """A line every few seconds."""

    def __init__(self, what: str, first: str | None) -> None:
        self._what = what
        self._verb = first
        self._told_at = self._began_at = time.monotonic()

    def __call__(self, verb: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if verb != self._verb:
            self._verb, self._began_at, self._told_at = verb, now, now
        if now - self._told_at < _SECONDS_BETWEEN_LINES:
            return
        self._told_at = now
        rate = done / max(now - self._began_at, 0.001)
        of_all = "" if total is None else f" of {total:,}"
        left = "" if total is None or not rate else f", {span(max(total - done, 0) / rate)} left"
        say(f"{verb} {done:,}{of_all} {self._what}, {rate:,.0f} a second{left}")


class _Bars:
    """A bar for each verb."""

    def __init__(self, console: "Console", what: str) -> None:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

        self._what = what
        self._bars: dict[str, TaskID] = {}
        self.shown = _transient(
            console,
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
        )
        self._began_at = time.monotonic()

    def __call__(self, verb: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if verb not in self._bars:
            for bar in self._bars.values():
                self.shown.update(bar, visible=False)
            self._began_at = now
            self._bars[verb] = self.shown.add_task(f"{verb} {self._what}", total=total, done="", rate="")
            return
        of_all = "" if total is None else f" of {total:,}"
        rate = f"{done / max(now - self._began_at, 0.001):,.0f} a second"
        self.shown.update(self._bars[verb], completed=done, total=total, done=f"{done:,}{of_all}", rate=rate)


def _transient(console: "Console", *columns: "ProgressColumn") -> "Progress":
    """What is drawn while it lasts; stdout may be read by a program, and is not rich's to take."""
    from rich.progress import Progress

    return Progress(*columns, console=console, transient=True, redirect_stdout=False)


def span(seconds: float) -> str:
    """A time in words, as exact as makes sense."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"
