"""The statements that list and count checkpoints by a filter."""

import typing
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    Text,
    bindparam,
    case,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
)

from workflows_mcp.engine.checkpoint import CheckpointStatus
from workflows_mcp.engine.filters import CheckpointFilter, Position
from workflows_mcp.persistence.dialects.types import place_of_text
from workflows_mcp.persistence.models import CheckpointRecord
from workflows_mcp.persistence.statements import (
    LIMIT,
    METADATA_FIELDS,
    Query,
    its_place,
    place,
    place_of_bytes,
    place_values,
)

__all__ = ["counting", "is_indexed", "listing"]

C = CheckpointRecord


def listing(
    wanted: CheckpointFilter,
    *,
    limit: int | None,
    before: Position | None,
    columns: Sequence[str] = METADATA_FIELDS,
) -> Query:
    """Some columns, by default the metadata, of the checkpoints that pass a filter, the newest first."""
    values: dict[str, Any] = {
        "workflow_name": wanted.workflow_name,
        "run_id": wanted.run_id,
        "status": None if wanted.status is None else str(wanted.status),
        "created_after": wanted.created_after,
        "created_before": wanted.created_before,
        "id_contains": wanted.id_contains,
        "limit": limit,
        **place_values("before", before),
    }
    given = {name: value for name, value in values.items() if value is not None}
    shape = _Shape(
        frozenset(given),
        wanted.is_paused,
        wanted.heads_only,
        wanted.runs_only,
        None if wanted.status is None else wanted.status == CheckpointStatus.RUNNING,
        before is not None and isinstance(before[1], bytes),
        tuple(columns),
    )
    return Query(_listing(shape), given)


def counting(wanted: CheckpointFilter) -> Query:
    """How many checkpoints pass a filter."""
    listed = listing(wanted, limit=None, before=None, columns=("checkpoint_id",))
    return Query(_counting(typing.cast("Select[Any]", listed.statement)), listed.values)


def is_indexed(wanted: CheckpointFilter) -> bool:
    """Whether all that an index offers for a filter passes it, so that a page takes no longer than it is long."""
    if wanted.run_id is not None:
        return True  # a run has few checkpoints
    if wanted.id_contains is not None or wanted.runs_only:
        return False
    if wanted.is_paused and wanted.status in {None, CheckpointStatus.PAUSED}:
        return wanted.workflow_name is None  # what waits is paused, and a head
    given = [
        wanted.workflow_name is not None,
        wanted.status is not None,
        wanted.is_paused is not None,
        wanted.heads_only,
    ]
    return sum(given) <= 1 and wanted.status != CheckpointStatus.RUNNING and wanted.is_paused is not False


class _Shape(NamedTuple):
    """What decides how a listing's statement reads; the rest is its parameters."""

    given: frozenset[str]
    is_paused: bool | None
    heads_only: bool
    runs_only: bool
    is_running: bool | None
    is_bytes: bool
    columns: tuple[str, ...]

    @property
    def is_of_the_waiting(self) -> bool:
        """Whether what waits is gone through: that is never much, whatever else is stored."""
        return bool(self.is_paused) and "run_id" not in self.given


@cache
def _listing(shape: _Shape) -> Executable:
    conditions: dict[str, ColumnElement[bool]] = {
        "workflow_name": C.workflow_name == bindparam("workflow_name"),
        "run_id": C.run_id == bindparam("run_id"),
        "status": C.status == bindparam("status"),
        "created_after": C.created_at >= bindparam("created_after"),
        "created_before": C.created_at < bindparam("created_before"),
        "id_contains": or_(_is_within(C.checkpoint_id), _is_within(C.run_id)),
        "before_time": its_place < (place_of_bytes("before") if shape.is_bytes else place("before")),
    }
    if shape.is_of_the_waiting:
        for name in ("workflow_name", "status"):
            conditions[name] = _of_each(conditions[name])
    statement = select(*(getattr(C, name) for name in shape.columns)).where(
        *(condition for name, condition in conditions.items() if name in shape.given)
    )
    if shape.is_running is False and not shape.is_of_the_waiting:
        # Says again, in the very words of the partial index, what the database cannot conclude from a parameter.
        statement = statement.where(literal_column("status <> 'running'"))
    if shape.is_paused is not None:
        statement = statement.where(C.is_paused == (true() if shape.is_paused else false()))
    if shape.heads_only:
        is_head = C.superseded == false()
        statement = statement.where(_of_each(is_head) if shape.is_of_the_waiting else is_head)
    if shape.runs_only:
        statement = statement.where(C.run_id.is_not(None))
    statement = statement.order_by(C.created_at.desc(), C.checkpoint_id.desc())
    return statement.limit(LIMIT) if "limit" in shape.given else statement


def _is_within(column: Any) -> ColumnElement[bool]:  # noqa: ANN401 - a mapped one
    return place_of_text(column, bindparam("id_contains", type_=Text)) > literal_column("0")


def _of_each(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """The same condition, asked of each row that is found otherwise: no index is chosen for its sake."""
    return case((condition, literal_column("1")), else_=literal_column("0")) == literal_column("1")


@cache
def _counting(listed: Select[Any]) -> Executable:
    return select(func.count()).select_from(listed.order_by(None).subquery())
