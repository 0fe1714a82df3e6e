"""How far long work has come: a bar that is alive on a terminal, a line now and then elsewhere; always on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workflows_mcp.cli.page import Page, say

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Meter", "measured"]

_SECONDS_BETWEEN_LINES = 5.0


class Meter:
    """Counts what is done, and says so in a line now and then.

    Attributes:
        done: How much is done so far.

    Args:
        what: What is being done, with `{}` where the number belongs.
    """

    def __init__(self, what: str) -> None:
        self.done = 0
        self._what = what
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def advance(self, count: int = 1) -> None:
        """So much more is done."""
        self.reach(self.done + count)

    def reach(self, done: int, total: int | None = None) -> None:
        """So much is done now, of so much where that is known."""
        self.done = done
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            self._show(done, total)

    def _show(self, done: int, total: int | None) -> None:
        share = "" if not total else f" ({done / total:.0%})"
        say(f"{self._what.format(f'{done:,}')}{share}")


class _LiveMeter(Meter):
    """The same as a bar, or as a number where the total is not known."""

    def __init__(self, what: str, console: "Console") -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        super().__init__(what)
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(),
            console=console, transient=True, redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._task = self.progress.add_task(what.format(0), total=None)

    def reach(self, done: int, total: int | None = None) -> None:
        """See `Meter.reach`; drawn by a thread of rich's, ten times a second."""
        self.done = done
        self.progress.update(self._task, description=self._what.format(f"{done:,}"), completed=done, total=total)


@contextmanager
def measured(what: str) -> Iterator[Meter]:
    """Show how far some work has come, as long as it lasts.

    Args:
        what: What is being done, with `{}` where the number belongs.
    """
    console = Page(sys.stderr).unbreakable_console()
    if console is None:
        yield Meter(what)
        return
    meter = _LiveMeter(what, console)
    with meter.progress:
        yield meter
