"""What the database counts, without reading a payload."""

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Double, Text, bindparam, cast, false, func, literal_column, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from workflows_mcp.engine.census import (
    DAY_SECONDS,
    HOUR_SECONDS,
    CheckpointCensus,
    CheckpointPulse,
    WorkflowCensus,
)
from workflows_mcp.engine.checkpoint import CheckpointStats, CheckpointStatus
from workflows_mcp.engine.series import SavedInStep, Steps
from workflows_mcp.persistence import statements
from workflows_mcp.persistence.dialects import Dialect
from workflows_mcp.persistence.dialects.types import time_of_statement, whole_part
from workflows_mcp.persistence.rows import shown_text
from workflows_mcp.persistence.statements import TABLE, Query

__all__ = ["PulseQueries", "pulse_queries", "read_census", "read_pulse", "read_series", "read_stats"]

C = TABLE.c

# In the words of the partial indexes, with which they must be seen to agree.
_IS_WAITING = C.is_paused == true()
_IS_HELD_OR_WAS: tuple[ColumnElement[bool], ...] = (
    C.lease_expires_at.is_not(None),
    C.superseded == false(),
    literal_column("status = 'running'"),
)

_PULSE = select(
    select(func.count()).where(_IS_WAITING).scalar_subquery().label("waiting"),
    select(func.min(C.created_at)).where(_IS_WAITING).scalar_subquery().label("oldest_waiting"),
    select(func.count())
    .where(*_IS_HELD_OR_WAS, C.lease_expires_at > time_of_statement())
    .scalar_subquery()
    .label("leased"),
    select(func.count())
    .where(*_IS_HELD_OR_WAS, C.lease_expires_at <= time_of_statement())
    .scalar_subquery()
    .label("abandoned"),
)
"""By two small indexes: it takes as long as there are runs at work and waiting, whatever else is stored."""

# Not the column itself: SQLite would walk its index, and jump through the table for what is not in it.
_WORKFLOW = C.workflow_name.op("||")(literal_column("''", Text)).label("workflow_name")

_SIZES = tuple(
    # As doubles, exact up to 2**53: SQLite fails when a sum of integers is larger than one of them can be.
    func.coalesce(func.sum(cast(C[name], Double)), 0.0).label(name)
    for name in ("full_bytes", "stored_bytes")
)

_CENSUS = select(
    _WORKFLOW,
    C.status,
    C.is_paused,
    C.superseded,
    C.pinned,
    func.count().label("total"),
    *_SIZES,
    func.min(C.created_at).label("oldest"),
    func.max(C.created_at).label("newest"),
    func.count().filter(C.created_at >= bindparam("hour", type_=Double)).label("last_hour"),
    func.count().filter(C.created_at >= bindparam("day", type_=Double)).label("last_day"),
    # Not by its base: whoever may read just what a listing shows may count as well.
    func.count().filter(C.encoding.endswith("-delta")).label("deltas"),
).group_by(literal_column("1"), C.status, C.is_paused, C.superseded, C.pinned)
"""One pass over the table in the order in which it lies, for everything at once, so that the numbers agree."""

_SINCE, _SECONDS = (bindparam(name, type_=Double) for name in ("since", "seconds"))

_SERIES = (
    # As in `Steps.index`.
    select(
        whole_part((C.created_at - _SINCE + _SECONDS) / _SECONDS).label("step"), func.count().label("total"), *_SIZES
    )
    .where(C.created_at >= _SINCE, C.created_at < bindparam("until", type_=Double))
    .group_by(literal_column("1"))
)
"""By the index of all by time: it takes as long as there is something in that time."""


class PulseQueries(NamedTuple):
    """What is asked for a pulse; each is over in a moment."""

    counts: Query
    size: Query


def pulse_queries(dialect: Dialect) -> PulseQueries:
    """The queries of a pulse: made once for each store, since they are kept compiled."""
    return PulseQueries(Query(_PULSE), Query(dialect.database_bytes()))


async def read_stats(connection: AsyncConnection, dialect: Dialect) -> CheckpointStats:
    """See `CheckpointStore.get_stats`."""
    rows = (await connection.execute(statements.stats().statement)).all()
    size = (await connection.execute(dialect.database_bytes())).scalar_one()
    [everything] = (row for row in rows if row.workflow_name is None)
    workflows = {shown_text(row.workflow_name): row.total for row in rows if row.workflow_name is not None}
    return CheckpointStats(
        total_checkpoints=everything.total,
        paused_checkpoints=everything.paused,
        automatic_checkpoints=everything.total - everything.paused,
        workflows=dict(sorted(workflows.items())),
        oldest_checkpoint=everything.oldest,
        newest_checkpoint=everything.newest,
        full_bytes=_bytes([everything.full_bytes]),
        stored_bytes=_bytes([everything.stored_bytes]),
        database_bytes=size,
    )


async def read_pulse(
    fetch: Callable[[Query], Awaitable[Sequence[Sequence[Any]]]], queries: PulseQueries
) -> CheckpointPulse:
    """See `CheckpointStore.take_pulse`."""
    [[waiting, oldest_waiting, leased, abandoned]] = await fetch(queries.counts)
    [[size]] = await fetch(queries.size)
    return CheckpointPulse(waiting, oldest_waiting, leased, abandoned, size)


async def read_census(connection: AsyncConnection, queries: PulseQueries) -> CheckpointCensus:
    """See `CheckpointStore.take_census`."""

    async def fetch(query: Query) -> Sequence[Sequence[Any]]:
        return (await connection.execute(query.statement, query.values)).all()

    pulse = await read_pulse(fetch, queries)
    now = time.time()
    groups = (await connection.execute(_CENSUS, {"hour": now - HOUR_SECONDS, "day": now - DAY_SECONDS})).all()
    statuses: Counter[str] = Counter()
    of_heads: Counter[str] = Counter()
    by_workflow: dict[str, list[Any]] = {}
    for group in groups:
        statuses[shown_text(group.status)] += group.total
        of_heads[shown_text(group.status)] += 0 if group.superseded else group.total
        by_workflow.setdefault(shown_text(group.workflow_name), []).append(group)
    return CheckpointCensus(
        pulse=pulse,
        checkpoints=sum(one.total for one in groups),
        heads=sum(one.total for one in groups if not one.superseded),
        pinned=sum(one.total for one in groups if one.pinned),
        statuses={**{one.value: 0 for one in CheckpointStatus}, **statuses},
        head_statuses={**{one.value: 0 for one in CheckpointStatus}, **of_heads},
        workflows={
            name: WorkflowCensus(
                checkpoints=sum(one.total for one in those),
                waiting=sum(one.total for one in those if one.is_paused),
                full_bytes=_bytes(one.full_bytes for one in those),
                stored_bytes=_bytes(one.stored_bytes for one in those),
                newest=max(_times(one.newest for one in those), default=math.nan),
            )
            for name, those in sorted(by_workflow.items())
        },
        oldest=min(_times(one.oldest for one in groups), default=None),
        newest=max(_times(one.newest for one in groups), default=None),
        last_hour=sum(one.last_hour for one in groups),
        last_day=sum(one.last_day for one in groups),
        full_bytes=_bytes(one.full_bytes for one in groups),
        stored_bytes=_bytes(one.stored_bytes for one in groups),
        deltas=sum(one.deltas for one in groups),
    )


async def read_series(connection: AsyncConnection, steps: Steps) -> list[SavedInStep]:
    """See `CheckpointStore.take_series`."""
    values = {"since": steps.since, "seconds": steps.seconds, "until": steps.until}
    rows = (await connection.execute(_SERIES, values)).all()
    return steps.filled((row.step - 1, row.total, _bytes([row.full_bytes]), _bytes([row.stored_bytes])) for row in rows)


def _times(found: Iterable[Any]) -> Iterator[float]:
    """Those that are numbers: a row that no store has written may hold anything."""
    return (one for one in found if isinstance(one, float) and math.isfinite(one))


def _bytes(sizes: Iterable[float]) -> int:
    """A sum of sizes, whatever they are."""
    total = math.fsum(sizes)
    return int(total) if math.isfinite(total) else 0
