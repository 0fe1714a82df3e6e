"""The pages that are asked for, what must stand on each, and what each asks the store."""

import asyncio
import calendar
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.pages_fill import WORKFLOWS, Filled
from benchmarks.pages_results import FIRST
from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.engine.abandoned import find_runs
from workflows_mcp.server.ui.paths import path_to

__all__ = ["KEYS", "Asked", "asked_of"]

_STATUSES = ("failure", "paused", "running", "abandoned")

KEYS = (
    *(FIRST, "later", *_STATUSES, "workflow", "rare", "time", "text"),
    *("waiting", "run", "at", "difference", "state"),
    *("counts", "figures"),
)
"""The pages, by the names that figures bear."""

_LISTED, _QUESTIONS = 51, 11
"""What lists of runs and of questions ask for: as many as they show, and one more."""

_PAGES_BEFORE = 200
"""How many pages of runs lie before the later one, if there are as many."""

_DAY = 86400.0
_MINUTE = "%Y-%m-%dT%H:%M"
"""As the form has it."""

_ARGUMENTS = {
    "status": "status",
    "workflow": "workflow_name",
    "text": "id_contains",
    "after": "created_after",
    "until": "created_before",
    "before": "before",
}
"""What the page's filters are called in a call."""

Call = Callable[[SQLAlchemyCheckpointStore], Awaitable[object]]


@dataclass(frozen=True)
class Asked:
    """One of the pages.

    Attributes:
        key: Names it.
        title: What it is.
        path: Where it is.
        holds: What stands on it.
        alone: What it asks the store.
        is_counted: Whether the store counts everything for it: a part of a page, which comes when it is there, and is
            kept for a while.
    """

    key: str
    title: str
    path: str
    holds: str
    alone: Call
    is_counted: bool = False


async def asked_of(url: str, filled: Filled) -> list[Asked]:
    """All of them, the first one first.

    Args:
        url: The database.
        filled: What is in it.
    """
    async with SQLAlchemyCheckpointStore(url) as store:
        asked = [*await _lists(store, filled), *_looks(filled), *_counts()]
    assert tuple(one.key for one in asked) == KEYS
    return asked


async def _lists(store: SQLAlchemyCheckpointStore, filled: Filled) -> list[Asked]:
    """The page with runs, by all that it can filter by."""
    newest = await find_runs(store, limit=min(_PAGES_BEFORE * 50, filled.checkpoints // 20))
    far = newest[-1]
    after, until = (time.strftime(_MINUTE, time.gmtime(time.time() - days * _DAY)) for days in (11, 10))
    common, rare = WORKFLOWS[0], WORKFLOWS[-1]
    text = far.run_id[4:16]
    return [
        _list(FIRST, "Runs, first page", newest[0].run_id),
        _list("later", f"Runs, after {len(newest):,} others", "Newest", before=far.cursor),
        *(_list(status, f"Runs, status {status}", "is-" + status, status=status) for status in _STATUSES),
        _list("workflow", "Runs of a workflow that has many", common, workflow=common),
        _list("rare", "Runs of one that has few, failed", rare, workflow=rare, status="failure"),
        _list("time", "Runs of a day", "is-success", after=after, until=until),
        _list("text", "Runs with a text in the id that one has", far.run_id, text=text),
    ]


def _list(key: str, title: str, holds: str, **query: str) -> Asked:
    called: dict[str, Any] = {_ARGUMENTS[name]: value for name, value in query.items()}
    for name in {"created_after", "created_before"} & set(called):
        called[name] = calendar.timegm(time.strptime(called[name], _MINUTE))

    if called.get("status") == "running":
        called["picks"] = lambda run: not run.is_abandoned  # as the page has it

    async def call(store: SQLAlchemyCheckpointStore) -> None:
        await asyncio.gather(find_runs(store, limit=_LISTED, **called), store.take_pulse())

    return Asked(key, title, path_to("", **query), holds, call)


def _looks(filled: Filled) -> list[Asked]:
    """The other pages."""
    run_id, ids = filled.run_id, filled.checkpoint_ids
    before, last = ids[-2], ids[-1]

    async def waiting(store: SQLAlchemyCheckpointStore) -> None:
        found, _ = await asyncio.gather(store.list_checkpoints(is_paused=True, limit=_QUESTIONS), store.take_pulse())
        await asyncio.gather(*(store.load_checkpoint(one.checkpoint_id) for one in found[:-1]))

    async def run(store: SQLAlchemyCheckpointStore) -> None:
        await asyncio.gather(store.list_checkpoints(run_id=run_id, limit=1000), store.load_checkpoint(last))

    async def difference(store: SQLAlchemyCheckpointStore) -> None:
        await asyncio.gather(store.load_checkpoint(before), store.load_checkpoint(last))

    return [
        Asked("waiting", "Waiting", path_to("waiting"), "Publish them?", waiting),
        Asked("run", f"Run of {len(ids)} checkpoints", path_to("run", id=run_id), last, run),
        Asked("at", "The same, at its 50th", path_to("run", id=run_id, at=ids[49]), ids[49], run),
        Asked("difference", "Difference", path_to("diff", a=before, b=last), last, difference),
        Asked("state", "State", path_to("state", checkpoint=last), last, lambda store: store.load_checkpoint(last)),
    ]


def _counts() -> list[Asked]:
    """What is counted by a pass over the table, and comes later than the pages that it is on."""

    async def census(store: SQLAlchemyCheckpointStore) -> None:
        await store.take_census()

    async def figures(store: SQLAlchemyCheckpointStore) -> None:
        now = time.time()
        await asyncio.gather(
            store.take_census(),
            store.take_series(now - 3600.0, now, 60),
            store.take_series(now - 30 * _DAY, now, 30),
        )

    return [
        Asked("counts", "Counts on the first page", path_to("counts"), "checkpoints", census, is_counted=True),
        Asked(
            "figures",
            "Figures on Health",
            path_to("health/figures"),
            "Checkpoints by workflow",
            figures,
            is_counted=True,
        ),
    ]
