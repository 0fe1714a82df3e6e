"""The first page: all runs, the one that was saved last first."""

import asyncio
from collections.abc import Sequence
from typing import Any, get_args

from starlette.responses import Response

from workflows_mcp.engine.abandoned import ABANDONED, RunStatus, find_runs, shown_status
from workflows_mcp.engine.checkpoint import CheckpointStatus
from workflows_mcp.engine.result import RESULT_STATUSES, ResultStatus, RunSummary
from workflows_mcp.server.paging import page_of
from workflows_mcp.server.ui.page import Problem, Ui, Visit
from workflows_mcp.server.ui.paths import UI_PATH

__all__ = ["show_counts", "show_runs"]

_PAGE = 50

_STATUSES: dict[str, RunStatus] = {one: one for one in (*get_args(ResultStatus), ABANDONED)}


async def show_runs(ui: Ui, visit: Visit) -> Response:
    """Runs, by filters, in pages; the first page stays up to date."""
    wanted = {name: visit.asked(name) for name in ("status", "workflow", "text", "after", "until")}
    before = visit.asked("before")
    await ui.services.prepare()
    store = ui.services.store
    found, pulse = await asyncio.gather(
        find_runs(store, wanted["workflow"], status=_status_of(wanted["status"]), limit=_PAGE + 1, before=before),
        store.take_pulse(),
    )
    page, following = page_of(found, _PAGE)
    return ui.render(
        visit,
        "_runs.html" if visit.is_fragment else "runs.html",
        wanted=wanted,
        is_filtered=any(wanted.values()),
        statuses=list(_STATUSES),
        before=before,
        following=following,
        pulse=pulse,
        runs=_rows(ui, page),
    )


async def show_counts(ui: Ui, visit: Visit) -> Response:
    """How many runs have come to what: a part of the first page, which takes its time where there are many."""
    await ui.services.prepare()
    census = (await ui.counts.take()).census
    statuses = {RESULT_STATUSES[one]: census.head_statuses[one.value] for one in CheckpointStatus}
    return ui.render(visit, "_counts.html", census=census, statuses=statuses)


def _rows(ui: Ui, runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    prompts = ui.services.without_secrets([run.prompt for run in runs])
    return [
        {"run": run, "status": shown_status(run), "prompt": prompt} for run, prompt in zip(runs, prompts, strict=True)
    ]


def _status_of(status: str | None) -> RunStatus | None:
    if status is None:
        return None
    found = _STATUSES.get(status)
    if found is None:
        known = ", ".join(_STATUSES)
        raise Problem(400, "There is no such status", f"A run is one of: {known}.", {"All runs": UI_PATH})
    return found
