"""Runs that are running by what was saved, and whose process crashed, or was stopped."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.filters import CheckpointFilter, Position, check_count, position_before, position_of
from workflows_mcp.engine.result import ResultStatus, RunSummary
from workflows_mcp.engine.stored_runs import StoredRuns

__all__ = ["ABANDONED", "RunStatus", "find_runs", "shown_status"]

ABANDONED: Literal["abandoned"] = "abandoned"
"""What such a run is called."""

RunStatus = ResultStatus | Literal["abandoned"]

_PAGE = 500


def shown_status(run: RunSummary) -> RunStatus:
    """A run's status; one that nobody works on any more is told apart from one that is at work."""
    return ABANDONED if run.is_abandoned else run.status


async def find_runs(
    store: CheckpointStore,
    workflow_name: str | None = None,
    *,
    status: RunStatus | None = None,
    picks: Callable[[RunSummary], bool] | None = None,
    id_contains: str | None = None,
    created_after: float | None = None,
    created_before: float | None = None,
    limit: int,
    before: str | None = None,
) -> list[RunSummary]:
    """List runs by their newest checkpoints, the one that was saved last first.

    Args:
        store: Where they are.
        workflow_name: Only this workflow's.
        status: Only those that have come to this; `running` includes abandoned ones, which are `abandoned`, too.
        picks: Only those that it is true of; they are looked for among those that the filters let through.
        id_contains: Only those with this text, by its very characters, in their id or their newest checkpoint's.
        created_after: Only those whose newest checkpoint was created at this Unix time, in seconds, or later.
        created_before: Only those whose newest checkpoint was created earlier than this Unix time.
        limit: The most to return.
        before: Go on after a page: the `cursor` of its last run.

    Raises:
        ValueError: A filter, the limit or the cursor makes no sense.
        CheckpointStoreError: The store failed.
    """
    listed = partial(
        StoredRuns(store).list,
        workflow_name,
        id_contains=id_contains,
        created_after=created_after,
        created_before=created_before,
    )
    if status == ABANDONED:
        check_count("limit", limit, at_least=0)
        wanted = CheckpointFilter(
            workflow_name,
            created_after=created_after,
            created_before=created_before,
            id_contains=id_contains,
            runs_only=True,
        )
        runs = await _find_abandoned(store, wanted, position_before(before))
        return [run for run in runs if picks is None or picks(run)][:limit]
    if picks is None:
        return await listed(status=status, limit=limit, before=before)
    found: list[RunSummary] = []
    while len(found) < limit:
        page = await listed(status=status, limit=_PAGE, before=before)
        found += filter(picks, page)
        if len(page) < _PAGE:
            break
        before = page[-1].cursor
    return found[:limit]


async def _find_abandoned(
    store: CheckpointStore, wanted: CheckpointFilter, before: Position | None
) -> list[RunSummary]:
    """Those that pass a filter, in the order of all lists; the store has them at once, by their leases."""
    heads = await store.list_abandoned(_PAGE)
    if len(heads) == _PAGE:  # seldom: those who are asked for so many take their time
        heads = await store.list_abandoned()
    known = [head if _is_time(head.created_at) else replace(head, created_at=math.inf) for head in heads]
    found = [head for head in known if wanted.matches(head) and (before is None or position_of(head) < before)]
    return [RunSummary.of(head) for head in sorted(found, key=position_of, reverse=True)]


def _is_time(moment: object) -> bool:
    """Whether it can be compared; in a row that no store wrote there may be anything."""
    return type(moment) is float and not math.isnan(moment)
