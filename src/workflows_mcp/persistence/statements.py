"""Every statement that the store runs, built with SQLAlchemy.

A statement is built once for each of its shapes and takes its values as parameters, so that it is compiled once,
too: building and compiling one takes longer than running it.
"""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Executable,
    LargeBinary,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    false,
    func,
    literal,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy.sql.expression import tuple_

from workflows_mcp.engine.checkpoint import CheckpointMetadata
from workflows_mcp.engine.filters import Position
from workflows_mcp.persistence.dialects import Dialect
from workflows_mcp.persistence.dialects.types import stored, stored_value
from workflows_mcp.persistence.models import CheckpointRecord

__all__ = [
    "LIMIT",
    "METADATA_FIELDS",
    "PLACED",
    "PLAIN",
    "SAVED",
    "TABLE",
    "VERIFIED",
    "Loading",
    "Query",
    "its_place",
    "place",
    "place_of_bytes",
    "place_values",
    "remove",
    "rows_by_id",
    "saving",
    "stats",
]


class Query(NamedTuple):
    """A statement and the values of its parameters. Queries of one shape share one statement."""

    statement: Executable
    values: Mapping[str, Any] = MappingProxyType({})


C = CheckpointRecord

TABLE = typing.cast(Table, CheckpointRecord.__table__)

METADATA_FIELDS = tuple(field.name for field in fields(CheckpointMetadata))
"""The columns of a listing."""

_PLACE_OF_A_NEW_ONE: Mapping[str, ColumnElement[Any]] = {
    "pinned": false(),
    "superseded": false(),
    "lease_owner": null(),
    "lease_expires_at": null(),
}
"""What belongs to a checkpoint's place in its run. A save that asks for no lease leaves it as it is."""

SAVED = tuple(name for name in TABLE.c.keys() if name not in _PLACE_OF_A_NEW_ONE)  # noqa: SIM118 - the columns' names
"""The columns that a save sets, in the order in which the values of a row stand."""

_STATS = union_all(
    select(
        C.workflow_name,
        func.count().label("total"),
        literal(0).label("paused"),
        cast(None, Double).label("oldest"),
        cast(None, Double).label("newest"),
        literal(0.0).label("full_bytes"),
        literal(0.0).label("stored_bytes"),
    ).group_by(C.workflow_name),
    select(
        cast(None, Text),
        func.count(),
        func.count().filter(C.is_paused == true()),
        func.min(C.created_at),
        func.max(C.created_at),
        # As doubles, exact up to 2**53: SQLite fails when a sum of integers is larger than one of them can be.
        func.coalesce(func.sum(cast(C.full_bytes, Double)), 0.0),
        func.coalesce(func.sum(cast(C.stored_bytes, Double)), 0.0),
    ),
)
"""Counts by workflow, and a row without a name for all together: one statement, so that they agree.

Two scans in place of one: the first is of an index alone, the second in the order of the file, where one grouped by
workflow would jump through the table along that index (`benchmarks/probe.py` measures both). Neither reads what of a
payload lies outside its row's page.
"""

its_place = tuple_(C.created_at, C.checkpoint_id)
"""A checkpoint's place in the order."""


def saving(dialect: Dialect) -> Mapping[str, Executable]:
    """What inserts checkpoints, or replaces all that the state decides of those with their ids."""
    return dialect.saving(TABLE, _PLACE_OF_A_NEW_ONE)


class Loading:
    """The statements that load checkpoints.

    Args:
        names: Columns that decoding needs besides the first three and the last five.

    Attributes:
        columns: All of them, in the order in which a row has them: the id first, and last the state's digest, its
            base's id and digest, the encoding and the payload.
    """

    def __init__(self, *names: str) -> None:
        base = ("state_digest", "base_checkpoint_id", "base_digest")
        chosen = ("checkpoint_id", "workflow_name", "created_at", *names, *base, "encoding", "payload")
        self.columns = tuple(TABLE.c[name] for name in chosen)
        self._all = select(*self.columns)
        self._one = self._all.where(C.checkpoint_id == bindparam("checkpoint_id"))
        self._odd = self._all.where(C.checkpoint_id == stored(bindparam("checkpoint_id", type_=Text)))

    def one(self, checkpoint_id: str) -> Query:
        """One checkpoint."""
        return Query(self._one, {"checkpoint_id": checkpoint_id})

    def odd(self, checkpoint_id: str) -> Query:
        """The same of one whose id no store would have taken."""
        return Query(self._odd, {"checkpoint_id": stored_value(checkpoint_id)})

    def many(self, dialect: Dialect) -> Executable:
        """The same of some checkpoints, in no order; see `rows_by_id`."""
        return rows_by_id(dialect, [column.name for column in self.columns])


def rows_by_id(dialect: Dialect, columns: Sequence[str]) -> Executable:
    """Columns of some checkpoints, in no order.

    Its one parameter, `checkpoint_ids`, is what `Dialect.any_value` makes of the ids.
    """
    found = select(*(TABLE.c[name] for name in columns))
    return found.where(dialect.matches_any(TABLE.c.checkpoint_id, "checkpoint_ids"))


PLAIN = Loading()
"""What loading needs when nothing is sealed."""

_COMPARED = ("run_id", "status", "parent_checkpoint_id", "current_wave_index", "schema_version", "pause_prompt")

VERIFIED = Loading(*_COMPARED)
"""The same, and what is compared with a sealed payload."""

PLACED = Loading(*_COMPARED, "is_paused", "pinned", "superseded", "lease_expires_at")
"""The same, and a checkpoint's place in its run."""


def stats() -> Query:
    """A row for each workflow with its name and `total`, and one without a name about all of them together."""
    return Query(_STATS)


def remove(checkpoint_id: str) -> Query:
    """Delete one checkpoint."""
    return Query(_REMOVE, {"checkpoint_id": checkpoint_id})


_REMOVE = delete(C).where(C.checkpoint_id == bindparam("checkpoint_id"))


LIMIT = bindparam("limit", type_=BigInteger)
"""How many rows there are at the most."""


def place(name: str) -> ColumnElement[Any]:
    """A place in the order as two parameters."""
    return tuple_(bindparam(f"{name}_time", type_=Double), stored(bindparam(f"{name}_id", type_=Text)))


def place_of_bytes(name: str) -> ColumnElement[Any]:
    """The same when the id is bytes, which SQLite tells from text."""
    return tuple_(bindparam(f"{name}_time", type_=Double), bindparam(f"{name}_id", type_=LargeBinary))


def place_values(name: str, position: Position | None) -> dict[str, Any]:
    """The values of those parameters."""
    return {} if position is None else {f"{name}_time": position[0], f"{name}_id": stored_value(position[1])}
