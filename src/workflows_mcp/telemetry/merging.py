"""Puts together what several stores and executors show in one place."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from workflows_mcp.telemetry.pulse import Look
from workflows_mcp.telemetry.samples import Sample
from workflows_mcp.telemetry.tallies import Distribution

__all__ = ["Merged", "Seen", "of_databases"]

_LEAST, _MOST = (
    frozenset({"workflows_checkpoint_up", "workflows_checkpoint_disk_free_bytes"}),
    frozenset({"workflows_oldest_pause_seconds"}),
)
"""What is not added up over several databases of one kind, but is that of the worst one."""

_OF_THE_DATABASE = frozenset({"workflows_checkpoint_wal_bytes", "workflows_checkpoint_disk_free_bytes"})
"""What a store's activity tells of its database, and not of the store."""


class Merged:
    """The values of metrics, by name and labels: those of several stores or executors are added up.

    Attributes:
        samples: What `families` is given.
    """

    def __init__(self) -> None:
        self.samples: dict[str, dict[tuple[str, ...], float | Distribution]] = {}

    def add(self, name: str, labels: tuple[str, ...], value: float | Distribution) -> None:
        """Add a value to what others of the kind have."""
        found = self.samples.setdefault(name, {})
        before = found.get(labels)
        if isinstance(value, Distribution):
            both = Distribution(value.bounds)
            both.add_all(value)
            if isinstance(before, Distribution):
                both.add_all(before)
            found[labels] = both
        elif not isinstance(before, int | float):
            found[labels] = value
        elif name in _LEAST:
            found[labels] = min(before, value)
        elif name in _MOST:
            found[labels] = max(before, value)
        else:
            found[labels] = before + value


@dataclass(frozen=True)
class Seen:
    """What is seen of a store at the moment.

    Attributes:
        system: What kind of store it is.
        description: Its name for people.
        activity: What it is doing, by metric.
        look: What was found when its database was looked at last; None: it has not been.
    """

    system: str
    description: str
    activity: Mapping[str, float]
    look: Look | None


def of_databases(seen: Iterable[Seen]) -> Iterator[Sample]:
    """Values of stores, and of their databases: each of these once, however many stores share it.

    Of a database that several have looked at, the last look counts.
    """
    stores = sorted(seen, key=lambda one: float("-inf") if one.look is None else one.look.asked_at)
    databases: list[tuple[str, object, dict[str, float]]] = []
    for one in stores:
        values = _values_of(databases, one.system, _database_of(one, stores))
        if one.look is not None:
            values.clear()
            values.update(one.look.samples())
        for name, value in one.activity.items():
            if name in _OF_THE_DATABASE:
                values[name] = value
            else:
                yield name, (one.system,), value
    for system, _, values in databases:
        for name, value in values.items():
            yield name, (system,), value


def _database_of(one: Seen, stores: Sequence[Seen]) -> object:
    if one.look is not None and one.look.database is not None:
        return one.look.database
    # It has not answered yet: it is taken for that of another store with the same name, if there is one.
    for other in stores:
        is_the_same = (other.system, other.description) == (one.system, one.description)
        if is_the_same and other.look is not None and other.look.database is not None:
            return other.look.database
    return one.description


def _values_of(
    databases: list[tuple[str, object, dict[str, float]]], system: str, database: object
) -> dict[str, float]:
    # Not by a dictionary: a store of somebody else's may tell its database by something that cannot be a key.
    for known_system, known, values in databases:
        if known_system == system and known == database:
            return values
    values = {}
    databases.append((system, database, values))
    return values
