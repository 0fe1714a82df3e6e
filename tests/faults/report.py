"""What was found, as a table on the screen and in a document."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine, describe_versions
from tests.faults.row import Row, Verdict

__all__ = ["WIDTH", "Found", "check_document", "print_report", "save_report", "with_table"]

WIDTH = 140
"""Columns of a table that nobody looks at on a terminal."""

_BEGIN, _END = "<!-- faults -->", "<!-- /faults -->"

_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "all": "all three"}


@dataclass(frozen=True)
class Found:
    """A row's verdict on a database."""

    row: Row
    database: str
    verdict: Verdict

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """What the table shows."""
        verdict = self.verdict
        says = "broken" if verdict.broken else "holds"
        return self.row.fault, _NAMES[self.database], str(verdict), says, f"{verdict.seconds:.0f}"


_HEADINGS = ("fault", "database", "found", "verdict", "s")


def print_report(found: Sequence[Found], console: Console) -> None:
    """Print the table, and below it what was broken."""
    table = Table(*_HEADINGS)
    for one in found:
        table.add_row(*one.cells)
    console.print(table)
    seconds = sum(one.verdict.seconds for one in found)
    broken = [one for one in found if one.verdict.broken]
    console.print(f"{len(found)} in {seconds / 60:.1f} min, {len(broken)} broken")
    for one in broken:
        for line in one.verdict.broken:
            console.print(f"{one.row.fault} ({one.database}): {line}")


def save_report(document: Path, found: Sequence[Found], command: str, date: str) -> None:
    """Put the table into a document, with what made it."""
    document.write_text(with_table(document.read_text(), found, command, date))


def check_document(text: str) -> None:
    """See that a document has a place for the table.

    Raises:
        ValueError: It has none.
    """
    if _END not in text.partition(_BEGIN)[2]:
        raise ValueError(f"the document lacks {_BEGIN} and {_END}")


def with_table(text: str, found: Sequence[Found], command: str, date: str) -> str:
    """A document with its table replaced.

    Raises:
        ValueError: It has no place for one.
    """
    check_document(text)
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    about = {**describe_machine(Path(tempfile.gettempdir())), **describe_versions()}
    about = {name: value for name, value in about.items() if value != "-"}
    promises = {one.row.fault: one.row.promise for one in found}
    lines = [
        *_markdown(("fault", "what holds"), promises.items()),
        f"`{command}`, {date}: " + ", ".join(f"{name} {value}" for name, value in about.items()) + ".",
        "",
        *_markdown(_HEADINGS, (one.cells for one in found)),
    ]
    return f"{before}{begin}\n{chr(10).join(lines)}{end}{after}"


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
