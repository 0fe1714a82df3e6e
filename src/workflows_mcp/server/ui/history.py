"""The checkpoints of a run, in stretches that a slider can hold, and the one of them that is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from workflows_mcp.engine.checkpoint import CheckpointMetadata
from workflows_mcp.engine.checkpoint_store import CheckpointStore

__all__ = ["MOST_IN_HISTORY", "History", "Slide", "find_history"]

MOST_IN_HISTORY = 1_000
"""So many checkpoints are on the slider; those before them are a page of their own."""

_AT_ONCE = 500
"""So many of them are asked for at a time, which a store has in a moment: more would wait among its slow queries."""

_NEAR = 4

_MOST_TO_COMPARE = 50


@dataclass(frozen=True)
class Slide:
    """Where somebody has moved the slider to.

    Attributes:
        number: Its value: 1 is the oldest on it.
        count: How many there were on it.
        newest: The id of the newest one; there may be others since.
    """

    number: int
    count: int
    newest: str


@dataclass(frozen=True)
class History:
    """Checkpoints of a run that stand behind one another, the newest first.

    Attributes:
        found: All of them; at least one.
        place: Which of them is looked at.
        before: The cursor behind which they begin; None: they are the newest of the run.
        older: The one before them, of which there may be more; None: there is none.
    """

    found: Sequence[CheckpointMetadata]
    place: int = 0
    before: str | None = None
    older: CheckpointMetadata | None = None

    @property
    def chosen(self) -> CheckpointMetadata:
        """The one that is looked at."""
        return self.found[self.place]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.found)

    @property
    def number(self) -> int:
        """Which is looked at; 1 is the oldest."""
        return self.count - self.place

    @property
    def previous(self) -> CheckpointMetadata | None:
        """The one before it; None: there is none."""
        return self.found[self.place + 1] if self.place + 1 < self.count else self.older

    @property
    def following(self) -> CheckpointMetadata | None:
        """The one after it; None: there is none here."""
        return self.found[self.place - 1] if self.place else None

    @property
    def earlier(self) -> str | None:
        """The cursor of what comes before all of them; None: nothing does."""
        return None if self.older is None else self.found[-1].cursor

    @cached_property
    def near(self) -> list[tuple[int, CheckpointMetadata]]:
        """Those around the one that is looked at, the newest first, each with its number."""
        first = max(min(self.place - _NEAR, self.count - 2 * _NEAR - 1), 0)
        around = self.found[first : first + 2 * _NEAR + 1]
        return [(self.count - first - index, one) for index, one in enumerate(around)]

    @cached_property
    def sample(self) -> list[tuple[int, CheckpointMetadata]]:
        """Some others to compare with, the newest first, each with its number: the nearest, and some of the rest."""
        step = max(self.count // _MOST_TO_COMPARE, 1)
        places = {*range(0, self.count, step), self.count - 1}
        places |= set(range(max(self.place - _NEAR, 0), min(self.place + _NEAR + 1, self.count)))
        return [(self.count - place, self.found[place]) for place in sorted(places - {self.place})]


async def find_history(
    store: CheckpointStore,
    run_id: str,
    *,
    at: str | None = None,
    slide: Slide | None = None,
    before: str | None = None,
) -> History | None:
    """The checkpoints of a run around the one that is looked at; reads no state.

    Args:
        store: Keeps them.
        run_id: The run.
        at: The id of the one that is looked at, wherever it stands; None: the newest, or what the slider says.
        slide: What the slider says.
        before: The cursor behind which the history begins.

    Returns:
        None: the run has none, none there, or none of this id.

    Raises:
        ValueError: The cursor makes no sense.
        CheckpointStoreError: The store failed.
    """
    while True:
        page = await _page(store, run_id, before)
        if not page:
            return None
        found = page[:MOST_IN_HISTORY]
        older = page[MOST_IN_HISTORY] if len(page) > MOST_IN_HISTORY else None
        ids = [one.checkpoint_id for one in found]
        if at is None:
            return History(found, 0 if slide is None else _place_of(slide, ids), before, older)
        if at in ids:
            return History(found, ids.index(at), before, older)
        if older is None:
            return None
        before = found[-1].cursor


async def _page(store: CheckpointStore, run_id: str, before: str | None) -> list[CheckpointMetadata]:
    """As many as the slider holds, and one more, if there are."""
    page: list[CheckpointMetadata] = []
    while len(page) <= MOST_IN_HISTORY:
        size = min(_AT_ONCE, MOST_IN_HISTORY + 1 - len(page))
        part = await store.list_checkpoints(run_id=run_id, limit=size, before=page[-1] if page else before)
        page += part
        if len(part) < size:
            break
    return page


def _place_of(slide: Slide, ids: Sequence[str]) -> int:
    """Which one a slider means that was made when there were others."""
    new = ids.index(slide.newest) if slide.newest in ids else 0
    return min(max(new + slide.count - slide.number, 0), len(ids) - 1)
