"""What a store holds, counted: for whoever runs it, by aggregates alone."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointStatus

__all__ = ["CheckpointCensus", "CheckpointPulse", "WorkflowCensus", "count_census", "count_pulse"]

HOUR_SECONDS, DAY_SECONDS = 3600.0, 86400.0


@dataclass(frozen=True)
class CheckpointPulse:
    """The numbers that must be had often, and so at no more cost than a few entries of an index.

    Attributes:
        waiting: Checkpoints that wait for an answer.
        oldest_waiting: When the one was saved that has waited for the longest; None: none waits.
        leased: Runs that a process holds.
        abandoned: Runs whose process is gone; `recover` goes on with them.
        database_bytes: What the table and its indexes, or the database file, take up.
    """

    waiting: int
    oldest_waiting: float | None
    leased: int
    abandoned: int
    database_bytes: int


@dataclass(frozen=True)
class WorkflowCensus:
    """The checkpoints of one workflow.

    Attributes:
        checkpoints: How many there are.
        waiting: How many of them wait for an answer.
        full_bytes: Their plain JSON.
        stored_bytes: Their payloads as stored.
        newest: The largest `created_at`; NaN where a database holds none that is a number.
    """

    checkpoints: int
    waiting: int
    full_bytes: int
    stored_bytes: int
    newest: float


@dataclass(frozen=True)
class CheckpointCensus:
    """Everything that is counted, at one moment.

    Attributes:
        pulse: See `CheckpointPulse`.
        checkpoints: All of them.
        heads: Those that no other one follows: about one for each run.
        pinned: Those that retention leaves alone because somebody said so.
        statuses: How many were saved with each status; all of them are named.
        head_statuses: The same for the heads alone: how runs stand now, and not how they once stood.
        workflows: What there is of each workflow, by its name.
        oldest: The smallest `created_at`; None: there is no checkpoint.
        newest: The largest one.
        last_hour: How many of them were created in the last hour.
        last_day: In the last 24 hours.
        full_bytes: Plain JSON bytes of all states.
        stored_bytes: Payload bytes as stored.
        deltas: How many are stored as what differs from another one.
    """

    pulse: CheckpointPulse
    checkpoints: int
    heads: int
    pinned: int
    statuses: dict[str, int]
    head_statuses: dict[str, int]
    workflows: dict[str, WorkflowCensus]
    oldest: float | None
    newest: float | None
    last_hour: int
    last_day: int
    full_bytes: int
    stored_bytes: int
    deltas: int = 0


def count_pulse(listed: Iterable[CheckpointMetadata], database_bytes: int) -> CheckpointPulse:
    """Count what is listed, for stores that have no database to do it."""
    now = time.time()
    waiting: list[float] = []
    leased = abandoned = 0
    for one in listed:
        if one.is_paused:
            waiting.append(one.created_at)
        if one.status is CheckpointStatus.RUNNING and not one.superseded and one.lease_expires_at is not None:
            leased += one.lease_expires_at > now
            abandoned += one.lease_expires_at <= now
    return CheckpointPulse(len(waiting), min(waiting, default=None), leased, abandoned, database_bytes)


def count_census(listed: Iterable[CheckpointMetadata], database_bytes: int) -> CheckpointCensus:
    """Count all of what is listed, likewise."""
    listed = list(listed)
    now = time.time()
    by_workflow: dict[str, list[CheckpointMetadata]] = {}
    for one in listed:
        by_workflow.setdefault(one.workflow_name, []).append(one)
    statuses = Counter(one.status.value for one in listed)
    of_heads = Counter(one.status.value for one in listed if not one.superseded)
    times = [one.created_at for one in listed]
    return CheckpointCensus(
        pulse=count_pulse(listed, database_bytes),
        checkpoints=len(listed),
        heads=sum(not one.superseded for one in listed),
        pinned=sum(one.pinned for one in listed),
        statuses={status.value: statuses[status.value] for status in CheckpointStatus},
        head_statuses={status.value: of_heads[status.value] for status in CheckpointStatus},
        workflows={
            name: WorkflowCensus(
                checkpoints=len(those),
                waiting=sum(one.is_paused for one in those),
                full_bytes=sum(one.full_bytes for one in those),
                stored_bytes=sum(one.stored_bytes for one in those),
                newest=max(one.created_at for one in those),
            )
            for name, those in sorted(by_workflow.items())
        },
        oldest=min(times, default=None),
        newest=max(times, default=None),
        last_hour=sum(one >= now - HOUR_SECONDS for one in times),
        last_day=sum(one >= now - DAY_SECONDS for one in times),
        full_bytes=sum(one.full_bytes for one in listed),
        stored_bytes=sum(one.stored_bytes for one in listed),
        deltas=sum(one.is_delta for one in listed),
    )
