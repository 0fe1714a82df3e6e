"""Whether all is well with the database, and what is in it: what `doctor` and `stats` say, and charts."""

import asyncio
from collections import Counter
from typing import Any

from starlette.responses import Response

from workflows_mcp.errors import CheckpointStoreError
from workflows_mcp.persistence.checks import Verdict
from workflows_mcp.server.texts import counted
from workflows_mcp.server.ui.counts import GROWTH_DAYS, by_status
from workflows_mcp.server.ui.drawing.charts import HEIGHT, WIDTH, make_bars, make_columns, make_growth
from workflows_mcp.server.ui.page import Ui, Visit, redirect
from workflows_mcp.server.ui.paths import path_to
from workflows_mcp.server.ui.problems import sentence

__all__ = ["show_checks", "show_figures", "show_health"]

_AT_ONCE_SECONDS = 0.3
"""How long a page waits for what it shows; what takes longer comes later, as a part of the page that is open."""

_PATIENCE_SECONDS = 8.0
"""How long such a part waits, before it says that it is still looked for; browsers wait longer."""

_MOST_BARS = 12

_WORST_FIRST = (Verdict.PROBLEM, Verdict.NOTICE, Verdict.OK)


async def show_health(ui: Ui, visit: Visit) -> Response:
    """The page: with all that is found out at once, and a place for what takes longer."""
    checks, figures = await asyncio.gather(_checks(ui, _AT_ONCE_SECONDS), _figures(ui, _AT_ONCE_SECONDS))
    return ui.render(visit, "health.html", **checks, **figures)


async def show_checks(ui: Ui, visit: Visit) -> Response:
    """The part of the page that says what was examined."""
    if not visit.is_fragment:
        return redirect(path_to("health"))
    return ui.render(visit, "_checks.html", **await _checks(ui, _PATIENCE_SECONDS))


async def show_figures(ui: Ui, visit: Visit) -> Response:
    """The part of the page that counts, and draws charts."""
    if not visit.is_fragment:
        return redirect(path_to("health"))
    return ui.render(visit, "_figures.html", **await _figures(ui, _PATIENCE_SECONDS))


async def _checks(ui: Ui, seconds: float) -> dict[str, Any]:
    found = await ui.counts.checks.take_within(seconds)
    if found is None:
        return {"checks": None}
    checks = sorted(found.value, key=lambda one: _WORST_FIRST.index(one.verdict))
    counts = Counter(one.verdict for one in checks)
    words = [counted(counts[one], one) for one in _WORST_FIRST[:-1] if counts[one]]
    texts = ui.services.without_secrets([[one.found, one.advice] for one in checks])
    return {
        "checks": [
            {"check": one, "found": text, "advice": advice} for one, (text, advice) in zip(checks, texts, strict=True)
        ],
        "worst": checks[0].verdict,
        "summary": ", ".join([*words, f"{counts[Verdict.OK]} in order"]),
        "examined_at": found.taken_at,
    }


async def _figures(ui: Ui, seconds: float) -> dict[str, Any]:
    counts = ui.counts
    nothing: dict[str, Any] = {"figures": None, "trouble": None}
    try:
        census, hour, growing = await asyncio.gather(
            counts.census.take_within(seconds), counts.hour.take_within(seconds), counts.growing.take_within(seconds)
        )
    except CheckpointStoreError as error:
        return {**nothing, "trouble": ui.services.without_secrets(sentence(error))}
    if census is None or hour is None or growing is None:
        return nothing
    known = census.value
    minutes = [one.checkpoints for one in hour.value]
    sums = growing.value
    figures = {
        "census": known,
        "counted_at": census.taken_at,
        "runs": by_status(known),
        "activity": ui.services.store.activity(),
        "ratio": known.full_bytes / known.stored_bytes if known.stored_bytes else None,
        "by_checkpoints": make_bars(((n, one.checkpoints) for n, one in known.workflows.items()), most=_MOST_BARS),
        "by_bytes": make_bars(((n, one.stored_bytes) for n, one in known.workflows.items()), most=_MOST_BARS),
        "hour": hour.value,
        "minutes": minutes,
        "columns": make_columns(minutes),
        "growing": sums,
        "days": GROWTH_DAYS,
        "growth": {
            "checkpoints": make_growth(sums.checkpoints),
            "bytes": make_growth(sums.stored_bytes, are_bytes=True),
        },
        "width": WIDTH,
        "height": HEIGHT,
    }
    return {**nothing, "figures": figures}
