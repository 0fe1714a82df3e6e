"""What a long run's history costs, as values, and what it is meant to cost at most."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

__all__ = [
    "Bound",
    "Compared",
    "Goal",
    "HistoryOf",
    "HistoryResults",
    "Retained",
    "Way",
    "goals",
    "read_history",
    "write_history",
]


@dataclass(frozen=True)
class Way:
    """A way to keep the whole run.

    Attributes:
        name: Names it among those of its database.
        title: What it is.
        stored_bytes: What the database takes up at the end.
        save_ms: The median duration of a save.
        seconds: What all saves took together.
        rewritten_bytes: What a copy takes up whose table was made anew, without room that is free or dead; None: nobody
            looked.
    """

    name: str
    title: str
    stored_bytes: int
    save_ms: float
    seconds: float
    rewritten_bytes: int | None = None


@dataclass(frozen=True)
class Bound:
    """How large a figure may be.

    Attributes:
        most: The bound.
        is_excluded: Whether the figure must be less than that.
    """

    most: float
    is_excluded: bool = False

    def __str__(self) -> str:
        return f"{'<' if self.is_excluded else '≤'} {self.most:g}"

    def holds(self, figure: float) -> bool:
        """Whether a figure keeps within it."""
        return figure < self.most if self.is_excluded else figure <= self.most


@dataclass(frozen=True)
class Compared:
    """The same call on a store that writes deltas and on one that does not, in turns.

    Attributes:
        what: The call.
        deltas_ms: How long it takes with deltas, at the median.
        alone_ms: How long it takes where every state is self-contained, at the median.
        ratio: How many times as long it takes with deltas: the median of the ratios within each turn, so that what else
            the machine does disturbs both sides alike.
        bound: The goal for that; None: there is none.
        worst: That of the state whose ratio is the largest, where few states are loaded again and again.
    """

    what: str
    deltas_ms: float
    alone_ms: float
    ratio: float
    bound: Bound | None = None
    worst: float | None = None


@dataclass(frozen=True)
class Retained:
    """What is left when retention has deleted most of the run.

    Attributes:
        name: Which way it was kept.
        deleted: How many checkpoints went.
        kept: How many stayed, and load as what was saved.
        seconds: How long deleting took.
        before: Bytes of the database before that.
        after: Bytes after it.
        vacuumed: Bytes after a vacuum.
    """

    name: str
    deleted: int
    kept: int
    seconds: float
    before: int
    after: int
    vacuumed: int


@dataclass(frozen=True)
class HistoryOf:
    """What was found on one database.

    Attributes:
        database: `sqlite` or `postgresql`.
        server: What the server says of itself.
        ways: Ours first.
        equal: How many checkpoints were loaded and were what had been saved, by the saving process and by a store
            that was opened anew.
        compared: Loads and saves.
        retained: Of our two ways.
    """

    database: str
    server: dict[str, str]
    ways: list[Way]
    equal: tuple[int, int]
    compared: list[Compared]
    retained: list[Retained]


@dataclass(frozen=True)
class HistoryResults:
    """All of it.

    Attributes:
        command: What made it.
        date: When it began, ISO 8601.
        is_quick: Whether it was a quick run, whose figures mean little.
        machine: What it ran on.
        versions: Of everything that matters.
        waves: How many waves the run had.
        plain_bytes: Plain JSON of its last state.
        all_plain_bytes: Plain JSON of all its states.
        databases: What was found on each.
    """

    command: str
    date: str
    is_quick: bool
    machine: dict[str, str]
    versions: dict[str, str]
    waves: int
    plain_bytes: int
    all_plain_bytes: int
    databases: list[HistoryOf]


@dataclass(frozen=True)
class Goal:
    """A figure, and what it may be."""

    database: str
    text: str
    measured: float
    bound: Bound

    @property
    def is_met(self) -> bool:
        """Whether that is good enough."""
        return self.bound.holds(self.measured)


_MOST_STORED = Bound(1.5)
"""Times the plain JSON of the last state, for the whole database."""

_MOST_LEFT = Bound(0.8)
"""Of the file with all of the run, when the last hundredth of its states is left: one of them is whole by then."""


def goals(results: HistoryResults) -> Iterator[Goal]:
    """All goals.

    That every checkpoint loads equal, and that retention deletes what it should, is no figure: whatever measures this
    fails otherwise.
    """
    for found in results.databases:
        ours = found.ways[0]
        share = ours.stored_bytes / results.plain_bytes
        yield Goal(found.database, f"all {results.waves:,} checkpoints, × the last state", share, _MOST_STORED)
        for one in found.compared:
            if one.bound is not None:
                yield Goal(found.database, f"{one.what}, × self-contained", one.ratio, one.bound)
        # PostgreSQL's vacuum makes space usable again, and gives little of it back.
        if found.database == "sqlite":
            kept = found.retained[0]
            share = kept.vacuumed / kept.before
            yield Goal(found.database, "the file after retention and a vacuum, × before", share, _MOST_LEFT)


def write_history(results: HistoryResults, path: Path) -> None:
    """Write all of it as JSON."""
    path.write_bytes(TypeAdapter(HistoryResults).dump_json(results, indent=1) + b"\n")


def read_history(path: Path) -> HistoryResults:
    """Read what `write_history` wrote."""
    return TypeAdapter(HistoryResults).validate_json(path.read_bytes())
