"""What a round of retention would delete, told without deleting anything."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

from workflows_mcp.engine.checkpoint import CheckpointMetadata
from workflows_mcp.engine.contract import CheckpointStore
from workflows_mcp.engine.filters import position_of
from workflows_mcp.engine.policies import Limits, RetentionRules
from workflows_mcp.engine.retention_rules import Exemption, exemption, is_expired

__all__ = ["Fate", "WorkflowPlan", "plan_retention", "summarize"]

_PAGE = 500

Reason = Literal["age", "count"]


@dataclass(frozen=True)
class Fate:
    """What becomes of a checkpoint.

    Attributes:
        metadata: The checkpoint.
        goes: Why it is deleted: by its `age`, or since there are newer ones enough (`count`); None: it stays.
        stays: Why it stays although it is that old, or so many are newer; None: it goes, or stays anyway.
    """

    metadata: CheckpointMetadata
    goes: Reason | None = None
    stays: Exemption | None = None


async def plan_retention(
    store: CheckpointStore, rules: RetentionRules, *, now: float | None = None
) -> AsyncIterator[Fate]:
    """Stream what a round of retention would do with each checkpoint, the newest first, in constant memory.

    Nothing is changed. A round that is done at the same moment deletes what is told here to go, as long as nobody
    saves, claims or deletes in between, and by this machine's clock.

    Args:
        store: Any store.
        rules: What the round goes by. Workflows that they say nothing about are not listed.
        now: Unix time in seconds; None: that of the first step.
    """
    now = time.time() if now is None else now
    newer: Counter[str] = Counter()
    for name in rules.own if rules.general is None else (None,):
        async for metadata in _listed(store, name):
            limits = rules.of(metadata.workflow_name)
            if limits is not None:
                yield _fate(metadata, limits, now, newer)


async def _listed(store: CheckpointStore, workflow_name: str | None) -> AsyncIterator[CheckpointMetadata]:
    last: CheckpointMetadata | None = None
    while True:
        page = await store.list_checkpoints(workflow_name, limit=_PAGE, before=last)
        for metadata in page:
            yield metadata
        if len(page) < _PAGE or (last is not None and position_of(page[-1]) == position_of(last)):
            return  # the latter for an id that is no text, which no store has written and which is not behind itself
        last = page[-1]


def _fate(metadata: CheckpointMetadata, limits: Limits, now: float, newer: Counter[str]) -> Fate:
    """What becomes of a checkpoint, when all newer ones of its workflow were counted that use up a slot."""
    name = metadata.workflow_name
    is_one_too_many = limits.max_per_workflow is not None and newer[name] >= limits.max_per_workflow
    # What a row that no store has written has for a time comes first in every listing, and never is too old.
    cutoff = None if limits.ttl_seconds is None or type(metadata.created_at) is not float else now - limits.ttl_seconds
    is_old = cutoff is not None and metadata.created_at < cutoff
    reason = exemption(metadata, now, keep_paused=limits.keep_paused)
    if reason is not None:
        return Fate(metadata, stays=reason if is_old or is_one_too_many else None)
    if cutoff is not None and is_expired(metadata, cutoff):
        return Fate(metadata, goes="age")
    if is_one_too_many:
        return Fate(metadata, goes="count")
    newer[name] += 1
    return Fate(metadata, stays=Exemption.LEASED_LATELY if is_old else None)


@dataclass
class WorkflowPlan:
    """What a round of retention would do with the checkpoints of one workflow.

    Attributes:
        total: How many there are.
        by_age: How many go by their age.
        by_count: How many go since there are newer ones enough.
        full_bytes: Plain JSON bytes of those that go.
        stored_bytes: Payload bytes, as stored, of those that go.
        kept: How many stay although they are old, or many are newer, by why.
    """

    total: int = 0
    by_age: int = 0
    by_count: int = 0
    full_bytes: int = 0
    stored_bytes: int = 0
    kept: Counter[Exemption] = field(default_factory=Counter)

    @property
    def goes(self) -> int:
        """How many go."""
        return self.by_age + self.by_count


def summarize(plans: dict[str, WorkflowPlan], fate: Fate) -> None:
    """Count what becomes of a checkpoint among what is known of its workflow."""
    metadata = fate.metadata
    plan = plans.setdefault(metadata.workflow_name, WorkflowPlan())
    plan.total += 1
    if fate.goes is not None:
        plan.by_age += fate.goes == "age"
        plan.by_count += fate.goes == "count"
        plan.full_bytes += max(metadata.full_bytes, 0)
        plan.stored_bytes += max(metadata.stored_bytes, 0)
    elif fate.stays is not None:
        plan.kept[fate.stays] += 1
