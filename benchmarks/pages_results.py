"""How long the inspector's pages take, as values, and what the first of them is meant to take at most."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.figures import percentile
from benchmarks.history_results import Bound, Goal

__all__ = ["FIRST", "PageFigures", "PagesOf", "PagesResults", "Took", "goals", "read_pages", "write_pages"]

FIRST = "runs"
"""The page that people open first, by its key."""

_MOST = Bound(50, is_excluded=True)
"""Milliseconds of the server's time."""


@dataclass(frozen=True)
class Took:
    """How long something took, in milliseconds.

    Attributes:
        median: Half of the turns took at most so long.
        p95: Nineteen of twenty did.
    """

    median: float
    p95: float

    @classmethod
    def of(cls, durations: Sequence[float]) -> "Took":
        """Of some turns, at least one."""
        return cls(percentile(durations, 0.5), percentile(durations, 0.95))


@dataclass(frozen=True)
class PageFigures:
    """What was found of a page.

    Attributes:
        key: Names it.
        title: What it is.
        size: Bytes of its HTML.
        turns: How often it was asked for.
        server: From when the request was there until the answer was made, by its own `Server-Timing`.
        client: From before the request to the last byte of the answer, over a connection that was there.
        alone: What the same questions to the store take in a process that does nothing else.
    """

    key: str
    title: str
    size: int
    turns: int
    server: Took
    client: Took
    alone: Took


@dataclass(frozen=True)
class PagesOf:
    """What was found on one database.

    Attributes:
        database: `sqlite` or `postgresql`.
        server: What the server says of itself.
        checkpoints: How many there are.
        runs: How many there are of each fate.
        size: Bytes that the database takes up.
        fill_seconds: How long it took to fill it.
        starts: How many servers were asked for the first page as soon as they were ready.
        first_server: The very first request to servers that had just started, for the first page: the server's time.
        first_client: The client's.
        pages: All of them.
    """

    database: str
    server: dict[str, str]
    checkpoints: int
    runs: dict[str, int]
    size: int
    fill_seconds: float
    starts: int
    first_server: Took
    first_client: Took
    pages: list[PageFigures]


@dataclass(frozen=True)
class PagesResults:
    """All of it.

    Attributes:
        command: What made it.
        date: When it began, ISO 8601.
        is_quick: Whether it was a quick run, whose figures mean little.
        machine: What it ran on.
        versions: Of everything that matters.
        databases: What was found on each.
    """

    command: str
    date: str
    is_quick: bool
    machine: dict[str, str]
    versions: dict[str, str]
    databases: list[PagesOf]


def goals(results: PagesResults) -> Iterator[Goal]:
    """What is asked of the first page, on each database."""
    for found in results.databases:
        for page in found.pages:
            if page.key == FIRST:
                text = f"{page.title}, {found.checkpoints:,} checkpoints: ms of the server's time"
                yield Goal(found.database, f"{text}, median", page.server.median, _MOST)
                yield Goal(found.database, f"{text}, 95th percentile", page.server.p95, _MOST)


def write_pages(results: PagesResults, path: Path) -> None:
    """Write all of it as JSON."""
    path.write_bytes(TypeAdapter(PagesResults).dump_json(results, indent=1) + b"\n")


def read_pages(path: Path) -> PagesResults:
    """Read what `write_pages` wrote."""
    return TypeAdapter(PagesResults).validate_json(path.read_bytes())
