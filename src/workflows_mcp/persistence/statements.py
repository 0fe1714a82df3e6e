"""Every statement that the store runs, built with SQLAlchemy.

A statement is built once for each of its shapes and takes its values as parameters, so that it is compiled once,
too: building and compiling one takes longer than running it.
"""

import typing
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Executable,
    Table,
    Text,
    and_,
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
from sqlalchemy.sql.expression import literal_column, tuple_

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointStatus
from workflows_mcp.engine.filters import CheckpointFilter, Position
from workflows_mcp.persistence.dialects import Dialect
from workflows_mcp.persistence.models import CheckpointRecord

__all__ = [
    "METADATA_FIELDS",
    "SAVED",
    "TABLE",
    "Doomed",
    "Query",
    "expired",
    "is_indexed",
    "listing",
    "next_workflow",
    "oldest",
    "payload",
    "payloads",
    "remove",
    "remove_range",
    "slot",
    "stats",
    "superfluous",
    "upsert",
    "upsert_many",
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
"""What belongs to a checkpoint's place in its run. A state that is saved again leaves it as it is."""

SAVED = tuple(name for name in TABLE.c.keys() if name not in _PLACE_OF_A_NEW_ONE)  # noqa: SIM118 - the columns' names
"""The columns that a save sets, in the order in which the values of a row stand."""

_STATS = union_all(
    select(
        C.workflow_name,
        func.count().label("total"),
        literal(0).label("paused"),
        cast(None, Double).label("oldest"),
        cast(None, Double).label("newest"),
        literal(0).label("full_bytes"),
        literal(0).label("stored_bytes"),
    ).group_by(C.workflow_name),
    select(
        cast(None, Text),
        func.count(),
        func.count().filter(C.is_paused == true()),
        func.min(C.created_at),
        func.max(C.created_at),
        func.coalesce(func.sum(C.full_bytes), 0),
        func.coalesce(func.sum(C.stored_bytes), 0),
    ),
)
"""Counts by workflow, and a row without a name for all together: one statement, so that they agree.

Two scans in place of one: the first is of an index alone, the second in the order of the file, where one grouped by
workflow would jump through the table along that index (`benchmarks/probe.py` measures both). Neither reads what of a
payload lies outside its row's page.
"""

_its_place = tuple_(C.created_at, C.checkpoint_id)


def upsert(dialect: Dialect) -> Executable:
    """Insert a checkpoint, or replace all that the state decides of the one with its id."""
    return dialect.upsert(TABLE, _PLACE_OF_A_NEW_ONE)


def upsert_many(dialect: Dialect) -> Executable:
    """The same for any number of checkpoints; see `Dialect.upsert_parameters`."""
    return dialect.upsert_many(TABLE, _PLACE_OF_A_NEW_ONE)


def payload(checkpoint_id: str) -> Query:
    """The payload of one checkpoint, and the columns that decoding may need."""
    return Query(_PAYLOAD, {"checkpoint_id": checkpoint_id})


def payloads(dialect: Dialect) -> Executable:
    """The same columns of some checkpoints, in no order.

    Its one parameter, `checkpoint_ids`, is what `Dialect.any_value` makes of the ids.
    """
    return _PAYLOADS.where(dialect.matches_any(TABLE.c.checkpoint_id, "checkpoint_ids"))


_PAYLOADS = select(C.checkpoint_id, C.workflow_name, C.created_at, C.encoding, C.payload)
_PAYLOAD = _PAYLOADS.where(C.checkpoint_id == bindparam("checkpoint_id"))


def stats() -> Query:
    """A row for each workflow with its name and `total`, and one without a name about all of them together."""
    return Query(_STATS)


def remove(checkpoint_id: str) -> Query:
    """Delete one checkpoint."""
    return Query(_REMOVE, {"checkpoint_id": checkpoint_id})


_REMOVE = delete(C).where(C.checkpoint_id == bindparam("checkpoint_id"))


def listing(wanted: CheckpointFilter, *, limit: int | None, before: Position | None) -> Query:
    """The metadata of the checkpoints that pass a filter, the newest first."""
    values: dict[str, Any] = {
        "workflow_name": wanted.workflow_name,
        "run_id": wanted.run_id,
        "status": None if wanted.status is None else str(wanted.status),
        "created_after": wanted.created_after,
        "created_before": wanted.created_before,
        "limit": limit,
        **_place_values("before", before),
    }
    given = {name: value for name, value in values.items() if value is not None}
    is_running = None if wanted.status is None else wanted.status == CheckpointStatus.RUNNING
    return Query(_listing(frozenset(given), wanted.is_paused, wanted.heads_only, is_running), given)


def is_indexed(wanted: CheckpointFilter) -> bool:
    """Whether all that an index offers for a filter passes it, so that a page takes no longer than it is long."""
    if wanted.run_id is not None:
        return True  # a run has few checkpoints
    given = [
        wanted.workflow_name is not None,
        wanted.status is not None,
        wanted.is_paused is not None,
        wanted.heads_only,
    ]
    return sum(given) <= 1 and wanted.status != CheckpointStatus.RUNNING and wanted.is_paused is not False


@cache
def _listing(
    given: frozenset[str],
    is_paused: bool | None,  # noqa: FBT001 - each is a part of the statement's shape
    heads_only: bool,  # noqa: FBT001
    is_running: bool | None,  # noqa: FBT001
) -> Executable:
    conditions: dict[str, ColumnElement[bool]] = {
        "workflow_name": C.workflow_name == bindparam("workflow_name"),
        "run_id": C.run_id == bindparam("run_id"),
        "status": C.status == bindparam("status"),
        "created_after": C.created_at >= bindparam("created_after"),
        "created_before": C.created_at < bindparam("created_before"),
        "before_time": _its_place < _place("before"),
    }
    statement = select(*(getattr(C, name) for name in METADATA_FIELDS)).where(
        *(condition for name, condition in conditions.items() if name in given)
    )
    if is_running is False:
        # Says again, in the very words of the partial index, what the database cannot conclude from a parameter.
        statement = statement.where(literal_column("status <> 'running'"))
    if is_paused is not None:
        statement = statement.where(C.is_paused == (true() if is_paused else false()))
    if heads_only:
        statement = statement.where(C.superseded == false())
    statement = statement.order_by(C.created_at.desc(), C.checkpoint_id.desc())
    return statement.limit(_LIMIT) if "limit" in given else statement


_LIMIT = bindparam("limit", type_=BigInteger)


def _place(name: str) -> ColumnElement[Any]:
    """A place in the order as two parameters."""
    return tuple_(bindparam(f"{name}_time", type_=Double), bindparam(f"{name}_id", type_=Text))


def _place_values(name: str, place: Position | None) -> dict[str, Any]:
    return {} if place is None else {f"{name}_time": place[0], f"{name}_id": place[1]}


class Doomed(NamedTuple):
    """Which checkpoints retention deletes: a kind of condition, and the values of its parameters."""

    kind: str
    keep_paused: bool
    values: Mapping[str, Any]

    @property
    def condition(self) -> ColumnElement[bool]:
        """The condition itself."""
        kinds = {
            "expired": C.created_at < bindparam("cutoff"),
            "superfluous": and_(C.workflow_name == bindparam("workflow_name"), _its_place < _place("kept")),
        }
        return and_(kinds[self.kind], _removable(keep_paused=self.keep_paused))


def expired(cutoff: float, *, keep_paused: bool) -> Doomed:
    """Checkpoints that are older than a Unix time, and not to be kept."""
    return Doomed("expired", keep_paused, {"cutoff": cutoff})


def superfluous(workflow_name: str, last_kept: Position, *, keep_paused: bool) -> Doomed:
    """Checkpoints of a workflow that are older than the last one to keep."""
    return Doomed("superfluous", keep_paused, {"workflow_name": workflow_name, **_place_values("kept", last_kept)})


def _removable(*, keep_paused: bool) -> ColumnElement[bool]:
    """What retention may delete."""
    return C.is_paused == false() if keep_paused else true()


def next_workflow(after: str | None) -> Query:
    """The first workflow's name behind another one's, by an index: a step, however many checkpoints there are."""
    return Query(_FIRST_WORKFLOW) if after is None else Query(_NEXT_WORKFLOW, {"after": after})


_FIRST_WORKFLOW = select(C.workflow_name).order_by(C.workflow_name).limit(1)
_NEXT_WORKFLOW = _FIRST_WORKFLOW.where(C.workflow_name > bindparam("after"))


def slot(workflow_name: str, number: int, *, keep_paused: bool) -> Query:
    """The place of a workflow's n-th newest removable checkpoint, counted from 1."""
    return Query(_slot(keep_paused), {"workflow_name": workflow_name, "offset": number - 1})


@cache
def _slot(keep_paused: bool) -> Executable:  # noqa: FBT001 - a part of the statement's shape
    return (
        select(C.created_at, C.checkpoint_id)
        .where(C.workflow_name == bindparam("workflow_name"), _removable(keep_paused=keep_paused))
        .order_by(C.created_at.desc(), C.checkpoint_id.desc())
        .offset(bindparam("offset", type_=BigInteger))
        .limit(1)
    )


def oldest(doomed: Doomed, *, after: Position | None, limit: int) -> Query:
    """The places and sizes of doomed checkpoints, the oldest first, going on after a place."""
    statement = _oldest(doomed.kind, doomed.keep_paused, after is not None)
    return Query(statement, {**doomed.values, **_place_values("after", after), "limit": limit})


@cache
def _oldest(kind: str, keep_paused: bool, goes_on: bool) -> Executable:  # noqa: FBT001 - the statement's shape
    condition = Doomed(kind, keep_paused, {}).condition
    statement = select(C.created_at, C.checkpoint_id, C.stored_bytes).where(condition)
    if goes_on:
        statement = statement.where(_its_place > _place("after"))
    return statement.order_by(C.created_at, C.checkpoint_id).limit(_LIMIT)


def remove_range(doomed: Doomed, first: Position, last: Position) -> Query:
    """Delete what is doomed between two places: one that was saved again since it was found may not be any more.

    A range of an index, not a list of ids or `IN (SELECT …)`: for these, either database may walk all that meets
    the condition, or the whole table, at every batch.
    """
    statement = _remove_range(doomed.kind, doomed.keep_paused)
    return Query(statement, {**doomed.values, **_place_values("first", first), **_place_values("last", last)})


@cache
def _remove_range(kind: str, keep_paused: bool) -> Executable:  # noqa: FBT001 - the statement's shape
    condition = Doomed(kind, keep_paused, {}).condition
    return delete(C).where(condition, _its_place >= _place("first"), _its_place <= _place("last"))
