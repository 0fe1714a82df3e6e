"""How far the benchmark has come: a bar on a terminal, lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

__all__ = ["Progress"]


class Progress:
    """Told of each step.

    Args:
        console: Where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._bar: Bar | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, console=console, transient=True)
            self._task = self._bar.add_task("", total=0)

    def expect(self, steps: int) -> None:
        """So many steps more are to come."""
        if self._bar is not None:
            self._bar.update(self._task, total=(self._bar.tasks[0].total or 0) + steps)

    def begin(self, text: str) -> None:
        """A part begins: a line where there is no bar."""
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        else:
            self._console.print(f"{time.monotonic() - self._began:6.0f} s  {text}", highlight=False, soft_wrap=True)

    def advance(self, text: str | None = None) -> None:
        """A step was made; None: of what began last."""
        if self._bar is not None:
            self._bar.update(self._task, advance=1, description=text)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
