"""Where a command prints: styled on a terminal, plain lines everywhere else."""

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO, cast

from workflows_mcp.cli.failures import CommandError, one_line

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Page", "is_terminal", "print_json", "say", "say_through", "write_line"]

_LONGEST_CELL = 512
"""No id or name that a store takes is longer."""

# What moves a terminal's cursor or changes its state has no place in a text that comes from a workflow or a database.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_CONTROL_IN_JSON = re.compile(r"[\x7f-\x9f]")  # the others are escaped anyway


def is_terminal(stream: TextIO) -> bool:
    """Whether the stream leads to a person, on a terminal that can do more than print lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print one JSON value on stdout; without an indent, on one line, for whoever reads along.

    Raises:
        CommandError: It is nested too deeply; nothing was printed.
    """
    as_ascii = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    try:
        try:
            text = json.dumps(value, ensure_ascii=as_ascii, indent=indent, allow_nan=False)
        except (ValueError, TypeError):
            text = json.dumps(_as_json(value), ensure_ascii=as_ascii, indent=indent)
    except RecursionError:
        raise CommandError("what is to be shown is nested too deeply for JSON") from None
    if sys.stdout.isatty():
        text = _CONTROL_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    sys.stdout.write(f"{text}\n")
    if indent is None:
        sys.stdout.flush()


def _as_json(value: object) -> object:
    """The same with text in place of what a row that no store has written may hold, and JSON cannot."""
    if isinstance(value, dict):
        return {key: _as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    is_fit = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if is_fit else repr(value)


_speakers: list[Callable[[str], None]] = []


def say_through(speaker: Callable[[str], None] | None) -> None:
    """Have somebody else take what is said from now on; None: it is printed."""
    _speakers[:] = [] if speaker is None else [speaker]


def say(line: str) -> None:
    """Tell whoever reads stderr something."""
    for speak in _speakers or (write_line,):
        speak(line)


def write_line(line: str) -> None:
    """Print a line on stderr. Whether anybody reads it makes no difference to what is done."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class _Unbreakable:
    """A stream that drops what cannot be written, say because its terminal is gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class Page:
    """A stream that texts, tables and Markdown are printed on.

    Args:
        stream: Where; its terminal, or the lack of one, decides how.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_seen = stream.isatty()  # also by one whose terminal can do no more than print lines
        self.console = _console_on(stream) if is_terminal(stream) else None

    def unbreakable_console(self) -> "Console | None":
        """A console on the same terminal that does not mind when it goes away; None: it is no terminal."""
        return None if self.console is None else _console_on(cast("TextIO", _Unbreakable(self._stream)))

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print a text, in a style of rich's where there are styles."""
        if self.console is None:
            self._stream.write(f"{_printable(text) if self._is_seen else text}\n")
            self._stream.flush()  # somebody may be reading along
        else:
            self.console.print(_printable(text), style=style, markup=False, soft_wrap=True)

    def prose(self, text: str) -> None:
        """Print a paragraph, broken where a terminal's lines end."""
        if self.console is None:
            self.line(text)
        else:
            self.console.print(_printable(text), markup=False)

    def heading(self, text: str) -> None:
        """Print a heading, with room above it."""
        self.line()
        self.line(text, style="bold cyan")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table: in a frame, or as aligned columns where there is no terminal or it is too narrow.

        A cell is never broken: an id in it is there to be copied. It is cut where it is longer than any id.
        """
        cells = [[_cut(one_line(cell)) for cell in row] for row in rows]
        if self.console is not None:
            from rich.box import SIMPLE_HEAD
            from rich.table import Table
            from rich.text import Text

            table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
            for column in columns:
                table.add_column(column, no_wrap=True)
            for row in cells:
                table.add_row(*(Text(cell) for cell in row))
            if self.console.measure(table, options=self.console.options.update(width=2**20)).maximum <= (
                self.console.width
            ):
                self.console.print(table)
                return
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for row in (list(columns), *cells):
            self.line("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())

    def markdown(self, text: str) -> None:
        """Print Markdown: set out on a terminal, as it is elsewhere."""
        if self.console is None:
            self.line(text.rstrip("\n"))
            return
        from rich.markdown import Markdown

        self.console.print(Markdown(_printable(text)))


def _cut(cell: str) -> str:
    return cell if len(cell) <= _LONGEST_CELL else f"{cell[:_LONGEST_CELL]}…"


def _printable(text: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _console_on(stream: TextIO) -> "Console":
    from rich.console import Console

    return Console(file=stream, highlight=False)
