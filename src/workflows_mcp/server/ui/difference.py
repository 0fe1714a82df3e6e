"""What differs between two checkpoints, side by side."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from workflows_mcp.engine.checkpoint import CheckpointMetadata
from workflows_mcp.engine.comparing import Comparison, compare_checkpoints
from workflows_mcp.engine.differences import ABSENT, Change, ChangeKind
from workflows_mcp.engine.glimpses import Glimpse, glimpse, glimpses_of_change
from workflows_mcp.server.ui.page import Ui, Visit

__all__ = ["show_difference"]

_MOST_CHANGES = 300
"""So many changes are named: a person reads no more of them."""

_MOST_CHARACTERS = 300

_MOST_OTHERS = 100
"""So many checkpoints of a run are offered to be compared with."""

_TITLES: dict[ChangeKind, str] = {"added": "Added", "changed": "Changed", "removed": "Removed"}


@dataclass(frozen=True)
class Row:
    """A change as it is shown.

    Attributes:
        path: Where it is.
        pointer: The same, exactly.
        before: What was there; None: nothing.
        after: What is there now; None: nothing.
    """

    path: str
    pointer: str
    before: Glimpse | None
    after: Glimpse | None


@dataclass(frozen=True)
class Group:
    """The changes of one kind.

    Attributes:
        kind: What happened to them.
        title: The same for people.
        count: How many there are.
        rows: Those that are shown.
    """

    kind: ChangeKind
    title: str
    count: int
    rows: tuple[Row, ...]


async def show_difference(ui: Ui, visit: Visit) -> Response:
    """What differs from checkpoint `a` to `b`; without `b`, from the one before `a` in its run to `a`."""
    first, second = visit.needed("a"), visit.asked("b")
    await ui.services.prepare()
    store = ui.services.store
    async with ui.comparing:
        found = await compare_checkpoints(store, first, second, ui.services.without_secrets, most=_MOST_CHANGES)
        groups = await asyncio.to_thread(_groups, found)
    return ui.render(
        visit,
        "diff.html",
        found=found,
        sides=[("Before", found.before, found.named_before), ("After", found.after, found.named_after)],
        groups=groups,
        others=await _others(ui, found),
        ids=[first] if second is None else [first, second],
    )


def _groups(found: Comparison) -> list[Group]:
    """The changes by kind, those kinds left out of which there are none."""
    return [
        Group(kind, title, count, tuple(_row(one) for one in found.difference.changes if one.kind == kind))
        for kind, title in _TITLES.items()
        if (count := found.difference.counts[kind])
    ]


def _row(change: Change) -> Row:
    if change.kind == "changed":
        before, after = glimpses_of_change(change.before, change.after, _MOST_CHARACTERS)
        return Row(change.path, change.pointer, before, after)
    sides = (None if one is ABSENT else glimpse(one, _MOST_CHARACTERS) for one in (change.before, change.after))
    return Row(change.path, change.pointer, *sides)


async def _others(ui: Ui, found: Comparison) -> Sequence[CheckpointMetadata]:
    """The newest checkpoints of the run, to be chosen among; any other one can be typed."""
    run_id = found.named_after.run_id
    return [] if run_id is None else await ui.services.store.list_checkpoints(run_id=run_id, limit=_MOST_OTHERS)
