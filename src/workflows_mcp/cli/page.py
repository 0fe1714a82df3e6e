"""Where a command prints: styled on a terminal, plain lines everywhere else."""

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from workflows_mcp.cli.failures import one_line

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Page", "is_terminal", "print_json"]

# What moves a terminal's cursor or changes its state has no place in a text that comes from a workflow or a database.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def is_terminal(stream: TextIO) -> bool:
    """Whether the stream leads to a person, on a terminal that can do more than print lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def print_json(value: object) -> None:
    """Print one JSON value on stdout."""
    as_ascii = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(value, ensure_ascii=as_ascii, indent=2) + "\n")


class Page:
    """A stream that texts, tables and Markdown are printed on.

    Args:
        stream: Where; its terminal, or the lack of one, decides how.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.console = _console_on(stream) if is_terminal(stream) else None

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print a text, in a style of rich's where there are styles."""
        if self.console is None:
            self._stream.write(f"{text}\n")
            self._stream.flush()  # somebody may be reading along
        else:
            self.console.print(
                _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), style=style, markup=False, soft_wrap=True
            )

    def prose(self, text: str) -> None:
        """Print a paragraph, broken where a terminal's lines end."""
        if self.console is None:
            self.line(text)
        else:
            self.console.print(text, markup=False)

    def heading(self, text: str) -> None:
        """Print a heading, with room above it."""
        self.line()
        self.line(text, style="bold cyan")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table: in a frame, or as aligned columns."""
        cells = [[one_line(cell) for cell in row] for row in rows]
        if self.console is None:
            widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
            for row in (columns, *cells):
                self.line("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table)

    def markdown(self, text: str) -> None:
        """Print Markdown: set out on a terminal, as it is elsewhere."""
        if self.console is None:
            self.line(text.rstrip("\n"))
            return
        from rich.markdown import Markdown

        self.console.print(Markdown(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)))


def _console_on(stream: TextIO) -> "Console":
    from rich.console import Console

    return Console(file=stream, highlight=False)
