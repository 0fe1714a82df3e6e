"""The first page: all runs, the one that was saved last first."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any, get_args

from starlette.responses import Response

from workflows_mcp.engine.abandoned import ABANDONED, find_runs, shown_status
from workflows_mcp.engine.durations import parse_moment
from workflows_mcp.engine.names import check_name
from workflows_mcp.engine.result import ResultStatus, RunSummary
from workflows_mcp.server.paging import page_of
from workflows_mcp.server.texts import one_line
from workflows_mcp.server.ui.counts import by_status
from workflows_mcp.server.ui.formatting import iso
from workflows_mcp.server.ui.page import Ui, Visit
from workflows_mcp.server.ui.paths import UI_PATH
from workflows_mcp.server.ui.problems import Problem, sentence

__all__ = ["show_counts", "show_runs"]

_PAGE = 50

_LETTERS = 120
"""So much is shown of each prompt."""

_SECONDS_BETWEEN_LOOKS, _MOST_SECONDS_BETWEEN_LOOKS = 3, 60
_MOST_OF_THE_TIME = 0.05
"""How often a page that is open looks for what is new, and for which part of the time at the most."""

_TIMES = {"after": "created_after", "until": "created_before"}

_LABELS = {"text": "the text in the id", "after": "saved from", "until": "until"}
"""What filters are called on the page."""

_STATUSES: dict[str, dict[str, Any]] = {
    **{one: {"status": one} for one in get_args(ResultStatus)},
    "running": {"status": "running", "picks": lambda run: not run.is_abandoned},
    ABANDONED: {"status": ABANDONED},
    "at work": {"status": "running", "picks": lambda run: run.is_held},
}
"""What runs are found by: each says the same as the badge of a run, or as what is counted above them."""


async def show_runs(ui: Ui, visit: Visit) -> Response:
    """Runs, by filters, in pages; the first page stays up to date."""
    wanted = {name: visit.asked(name) for name in ("status", "workflow", "text", "after", "until")}
    before = visit.asked("before")
    filters = _filters(wanted)
    await ui.services.prepare()
    store = ui.services.store
    began = time.perf_counter()
    found, pulse = await asyncio.gather(
        find_runs(store, wanted["workflow"], **filters, limit=_PAGE + 1, before=before), store.take_pulse()
    )
    seconds = time.perf_counter() - began
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
        runs=await asyncio.to_thread(_rows, ui, page),
        times={name: _typed(filters[key]) for name, key in _TIMES.items()},
        # What takes long to find is not looked for all the time.
        every=math.ceil(min(max(_SECONDS_BETWEEN_LOOKS, seconds / _MOST_OF_THE_TIME), _MOST_SECONDS_BETWEEN_LOOKS)),
    )


async def show_counts(ui: Ui, visit: Visit) -> Response:
    """How many runs have come to what: a part of the first page, which takes its time where there are many."""
    await ui.services.prepare()
    census = (await ui.counts.census.take()).value
    return ui.render(visit, "_counts.html", census=census, statuses=by_status(census))


def _rows(ui: Ui, runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """What is shown of each run; for a thread, since prompts may be large."""
    prompts = ui.services.without_secrets([run.prompt for run in runs])
    return [
        {"run": run, "status": shown_status(run), "prompt": prompt and one_line(prompt, _LETTERS)}
        for run, prompt in zip(runs, prompts, strict=True)
    ]


def _filters(wanted: Mapping[str, str | None]) -> dict[str, Any]:
    """What is to be passed on to whoever looks for runs.

    Raises:
        Problem: A filter makes no sense.
    """
    text = (wanted["text"] or "").strip() or None  # what is pasted often brings a blank along
    try:
        moments = {
            key: None if wanted[name] is None else parse_moment(_LABELS[name], wanted[name] or "", zone=UTC)
            for name, key in _TIMES.items()
        }
        if text is not None:
            check_name(_LABELS["text"], text)
    except ValueError as error:
        raise Problem(400, "There is no such filter", sentence(error), {"All runs": UI_PATH}) from None
    return {**_status_of(wanted["status"]), "id_contains": text, **moments}


def _typed(moment: float | None) -> str:
    """A moment as a field of a form has it, in UTC; empty: none, or one that no calendar has."""
    return "" if moment is None else iso(moment)[:19]


def _status_of(status: str | None) -> dict[str, Any]:
    if status is None:
        return {}
    found = _STATUSES.get(status)
    if found is None:
        known = ", ".join(_STATUSES)
        raise Problem(400, "There is no such status", f"A run is one of: {known}.", {"All runs": UI_PATH})
    return found
