"""The statements that find and delete what retention, or the deletion of a run, takes."""

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Executable,
    ScalarSelect,
    Text,
    and_,
    bindparam,
    delete,
    false,
    or_,
    select,
    true,
    update,
)

from workflows_mcp.engine.checkpoint import CheckpointStatus
from workflows_mcp.engine.filters import Position
from workflows_mcp.persistence.dialects import Dialect
from workflows_mcp.persistence.dialects.fencing import to_history
from workflows_mcp.persistence.dialects.types import stored, stored_value, time_now
from workflows_mcp.persistence.models import CheckpointRecord
from workflows_mcp.persistence.statements import LIMIT, TABLE, Query, its_place, place, place_values

__all__ = [
    "Doomed",
    "OfRun",
    "end_newest_of_run",
    "expired",
    "newest",
    "newest_of_run",
    "next_workflow",
    "remove_newest_of_run",
    "removing",
    "slot",
    "superfluous",
]

C = CheckpointRecord

OfRun = Literal["heads", "all", "leaves"]
"""Which checkpoints of a run: those that none follows, all, or those that none is a delta of."""


class Doomed(NamedTuple):
    """Which checkpoints retention deletes: a kind of condition, and the values of its parameters, its bound's apart."""

    kind: str
    keep_paused: bool
    bound: Mapping[str, Any] = MappingProxyType({})
    values: Mapping[str, Any] = MappingProxyType({})

    @property
    def condition(self) -> ColumnElement[bool]:
        """The condition itself."""
        is_old = C.created_at < bindparam("cutoff")
        bounds = {"expired": is_old, "expired_of": is_old, "superfluous": its_place < place("kept")}
        return and_(bounds[self.kind], self.condition_within)

    @property
    def condition_within(self) -> ColumnElement[bool]:
        """The same for those whose places are known to be within its bound."""
        kinds = {
            "expired": _IS_LONG_OVER,
            "expired_of": and_(_IS_OF_WORKFLOW, _IS_LONG_OVER),
            "superfluous": and_(_IS_OF_WORKFLOW, _IS_OVER),
        }
        return and_(kinds[self.kind], _is_no_exception(keep_paused=self.keep_paused))


def expired(cutoff: float, max_age_seconds: float, *, keep_paused: bool, workflow_name: str | None = None) -> Doomed:
    """Checkpoints, or those of one workflow, that are too old and not to be kept.

    Args:
        cutoff: Unix time in seconds before which they were created.
        max_age_seconds: How much longer ago their leases ended.
        keep_paused: Whether those that wait are kept.
        workflow_name: None: all.
    """
    bound, values = {"cutoff": cutoff}, {"max_age_seconds": max_age_seconds}
    if workflow_name is None:
        return Doomed("expired", keep_paused, bound, values)
    return Doomed("expired_of", keep_paused, bound, {**values, **_workflow(workflow_name)})


def superfluous(workflow_name: str, last_kept: Position, *, keep_paused: bool) -> Doomed:
    """Checkpoints of a workflow that are older than the last one to keep."""
    return Doomed("superfluous", keep_paused, place_values("kept", last_kept), _workflow(workflow_name))


_IS_OF_WORKFLOW = C.workflow_name == stored(bindparam("workflow_name", type_=Text))


def _workflow(name: str) -> Mapping[str, Any]:
    return {"workflow_name": stored_value(name)}


def _is_over(lease_ended: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether nobody works on a checkpoint, nor did until a lease ended, so that somebody may take it up.

    The lease of what is history has ended with that, whatever its columns say. That of a run which was under way says
    no more than that the run can be recovered: by a clock that jumped ahead, it ended years ago.
    """
    is_end = and_(C.status != CheckpointStatus.RUNNING.value, lease_ended)
    return or_(C.superseded == true(), C.lease_expires_at.is_(None), is_end)


_IS_OVER = _is_over(C.lease_expires_at <= time_now())
_IS_LONG_OVER = _is_over(C.lease_expires_at < time_now() - bindparam("max_age_seconds", type_=Double))


def _is_no_exception(*, keep_paused: bool) -> ColumnElement[bool]:
    """Whether retention may delete a checkpoint, if all else is so."""
    is_not_pinned = C.pinned == false()
    return and_(is_not_pinned, C.is_paused == false()) if keep_paused else is_not_pinned


def next_workflow(after: str | None) -> Query:
    """The first workflow's name behind another one's, by an index: a step, however many checkpoints there are."""
    return Query(_FIRST_WORKFLOW) if after is None else Query(_NEXT_WORKFLOW, {"after": stored_value(after)})


_FIRST_WORKFLOW = select(C.workflow_name).order_by(C.workflow_name).limit(1)
_NEXT_WORKFLOW = _FIRST_WORKFLOW.where(C.workflow_name > stored(bindparam("after", type_=Text)))


def slot(workflow_name: str, number: int, *, keep_paused: bool) -> Query:
    """The place of a workflow's n-th newest checkpoint that uses up a slot, counted from 1."""
    return Query(_slot(keep_paused), {**_workflow(workflow_name), "offset": number - 1})


@cache
def _slot(keep_paused: bool) -> Executable:  # noqa: FBT001 - a part of the statement's shape
    return (
        select(C.created_at, C.checkpoint_id)
        .where(_IS_OF_WORKFLOW, _IS_OVER, _is_no_exception(keep_paused=keep_paused))
        .order_by(C.created_at.desc(), C.checkpoint_id.desc())
        .offset(bindparam("offset", type_=BigInteger))
        .limit(1)
    )


def newest(doomed: Doomed, *, before: Position | None, limit: int) -> Query:
    """The places and sizes of doomed checkpoints, the newest first, going on before a place."""
    statement = _newest(doomed.kind, doomed.keep_paused, before is not None)
    bound = doomed.bound if before is None else place_values("before", before)
    values = {**bound, **doomed.values, "limit": limit}
    return Query(statement, values)


@cache
def _newest(kind: str, keep_paused: bool, goes_on: bool) -> Executable:  # noqa: FBT001 - the statement's shape
    doomed = Doomed(kind, keep_paused)
    # Never with both bounds: SQLite might begin at the farther one, and walk over all that was left there.
    is_doomed = and_(doomed.condition_within, its_place < place("before")) if goes_on else doomed.condition
    statement = select(C.created_at, C.checkpoint_id, C.stored_bytes).where(is_doomed)
    return statement.order_by(C.created_at.desc(), C.checkpoint_id.desc()).limit(LIMIT)


def removing(dialect: Dialect) -> Callable[[Doomed, Position, Position], Query]:
    """Makes statements that delete what is doomed between two places, but for rows that somebody else has locked.

    What was saved again since it was found may not be doomed any more.

    A range of an index, not a list of ids or `IN (SELECT …)`: for these, either database may walk all that meets
    the condition, or the whole table, at every batch. Nor with the condition's own bound beside the range: SQLite
    walks up to that one (320 ms a batch instead of 1, of a million rows).
    """

    @cache
    def statement(kind: str, keep_paused: bool) -> Executable:  # noqa: FBT001 - the statement's shape
        condition = Doomed(kind, keep_paused).condition_within
        within = and_(condition, its_place >= place("first"), its_place <= place("last"))
        return delete(TABLE).where(within, dialect.is_unlocked(TABLE.c.checkpoint_id, within))

    def remove_range(doomed: Doomed, first: Position, last: Position) -> Query:
        values = {**doomed.values, **place_values("first", first), **place_values("last", last)}
        return Query(statement(doomed.kind, doomed.keep_paused), values)

    return remove_range


def newest_of_run(run_id: str, which: OfRun, *, limit: int) -> Query:
    """The places and sizes of the newest checkpoints of a run."""
    return Query(_newest_of_run(which), {"run_id": run_id, "limit": limit})


@cache
def _newest_of_run(which: OfRun) -> Executable:
    statement = select(C.created_at, C.checkpoint_id, C.stored_bytes).where(_of_run(which))
    return statement.order_by(C.created_at.desc(), C.checkpoint_id.desc()).limit(LIMIT)


def remove_newest_of_run(run_id: str, which: OfRun, last: Position) -> Query:
    """Delete a run's checkpoints from the newest, whatever that is by now, down to a place."""
    return Query(_remove_newest_of_run(which), {"run_id": run_id, **place_values("last", last)})


@cache
def _remove_newest_of_run(which: OfRun) -> Executable:
    return delete(C).where(_of_run(which), its_place >= place("last"))


def end_newest_of_run(run_id: str, last: Position) -> Query:
    """Make history of a run's heads from the newest, whatever that is by now, down to a place."""
    return Query(_END_NEWEST_OF_RUN, {"run_id": run_id, **place_values("last", last)})


def _of_run(which: OfRun) -> ColumnElement[bool]:
    is_of_run = C.run_id == bindparam("run_id")
    if which == "all":
        return is_of_run
    return and_(is_of_run, C.superseded == false() if which == "heads" else _is_needed().is_(None))


def _is_needed() -> ScalarSelect[Any]:
    """What is a delta of a checkpoint, if anything is.

    No `NOT EXISTS`: PostgreSQL may join all that are deltas for one.
    """
    delta = TABLE.alias("delta")
    return select(delta.c.checkpoint_id).where(delta.c.base_checkpoint_id == C.checkpoint_id).limit(1).scalar_subquery()


_END_NEWEST_OF_RUN = update(TABLE).where(_of_run("heads"), its_place >= place("last")).values(to_history())
