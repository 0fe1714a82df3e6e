"""What differs between two values of JSON data, by path."""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workflows_mcp.engine.pointers import Step, dotted, pointer_of

__all__ = ["ABSENT", "Change", "ChangeKind", "Difference", "difference", "is_same"]

ChangeKind = Literal["added", "changed", "removed"]


class _Absent:
    """Stands where there is no value, which null is one."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()
"""Stands where there is no value."""

_Place = tuple[Any, Step] | None
"""A place as its parent's place and one step; None: the whole value. It costs the same however deep it is."""

_Pairs = list[tuple[_Place, Any, Any]]
"""Places, and what is there before and after."""

_SCALARS: Collection[type] = frozenset({str, int, float, bool})


@dataclass(frozen=True)
class Change:
    """One value that differs.

    Attributes:
        steps: Where it stands; what was removed from a list, by its place before.
        before: What was there; `ABSENT`: nothing.
        after: What is there now; `ABSENT`: nothing.
    """

    steps: tuple[Step, ...]
    before: Any
    after: Any

    @property
    def kind(self) -> ChangeKind:
        """What happened to it."""
        return _kind_of(self.before, self.after)

    @property
    def path(self) -> str:
        """Where it stands, for people: `context.blocks.fetch.outputs.rows[3]`."""
        return dotted(self.steps)

    @property
    def pointer(self) -> str:
        """Where it stands, exactly: a JSON pointer."""
        return pointer_of(self.steps)


@dataclass(frozen=True)
class Difference:
    """All that differs.

    Attributes:
        changes: In the order of their paths: keys by code points, items by index; at most so many as were asked for.
        counts: How many there are of each kind, also of those that are left out.
    """

    changes: tuple[Change, ...]
    counts: Mapping[ChangeKind, int]

    @property
    def total(self) -> int:
        """How many changes there are."""
        return sum(self.counts.values())

    @property
    def more(self) -> int:
        """How many of them are left out."""
        return self.total - len(self.changes)


def difference(before: Any, after: Any, *, most: int | None = None) -> Difference:  # noqa: ANN401 - JSON data
    """What differs between two values.

    Types are told apart: 1, 1.0 and true are three values. Objects are compared key by key. Of lists, what is alike at
    the beginning and at the end is left out, the rest is compared item by item, and what is left of the longer one was
    added or removed; so an item that is put in anywhere is one change. An object or list that was added or removed is
    one change, whatever it holds. Neither value is changed, and both may be nested as deeply as memory allows.

    Args:
        before: JSON data.
        after: JSON data.
        most: The most changes to name; None: all.
    """
    found: _Pairs = []
    waiting: _Pairs = [(None, before, after)]
    while waiting:
        place, old, new = waiting.pop()
        if old is new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            _compare_objects(place, old, new, waiting, found)
        elif isinstance(old, list) and isinstance(new, list):
            _compare_lists(place, old, new, waiting, found)
        elif not _is_same_scalar(old, new):
            found.append((place, old, new))
    ordered = sorted(((_steps_to(place), old, new) for place, old, new in found), key=_in_order)
    changes = tuple(itertools.starmap(Change, ordered[:most]))
    counts = Counter(_kind_of(old, new) for _, old, new in found)
    return Difference(changes, {kind: counts[kind] for kind in ("added", "changed", "removed")})


def is_same(one: Any, other: Any) -> bool:  # noqa: ANN401 - JSON data
    """Whether nothing differs between two values; see `difference`."""
    waiting = [(one, other)]
    while waiting:
        one, other = waiting.pop()
        if one is other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            waiting.extend((value, other[key]) for key, value in one.items())
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            waiting.extend(zip(one, other, strict=True))
        elif not _is_same_scalar(one, other):
            return False
    return True


def _kind_of(before: object, after: object) -> ChangeKind:
    return "added" if before is ABSENT else "removed" if after is ABSENT else "changed"


def _is_same_scalar(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _compare_objects(
    place: _Place, old: Mapping[str, Any], new: Mapping[str, Any], waiting: _Pairs, found: _Pairs
) -> None:
    for key, before in old.items():
        after = new.get(key, ABSENT)
        if after is before or (type(before) in _SCALARS and type(before) is type(after) and before == after):
            continue  # nearly all of a state; what follows would find the same, in twice the time
        if after is ABSENT:
            found.append(((place, key), before, ABSENT))
        else:
            waiting.append(((place, key), before, after))
    found.extend(((place, key), ABSENT, new[key]) for key in new.keys() - old.keys())


def _compare_lists(place: _Place, old: list[Any], new: list[Any], waiting: _Pairs, found: _Pairs) -> None:
    shorter = min(len(old), len(new))
    first = last = 0
    if len(old) != len(new):  # otherwise each item has its counterpart already
        first = _count_same(lambda index: is_same(old[index], new[index]), shorter)
        last = _count_same(lambda index: is_same(old[-1 - index], new[-1 - index]), shorter - first)
    middle = shorter - last
    waiting.extend(((place, index), old[index], new[index]) for index in range(first, middle))
    found.extend(((place, index), old[index], ABSENT) for index in range(middle, len(old) - last))
    found.extend(((place, index), ABSENT, new[index]) for index in range(middle, len(new) - last))


def _count_same(is_same_at: Callable[[int], bool], most: int) -> int:
    return next((index for index in range(most) if not is_same_at(index)), most)


def _steps_to(place: _Place) -> tuple[Step, ...]:
    steps: list[Step] = []
    while place is not None:
        place, step = place
        steps.append(step)
    return tuple(reversed(steps))


def _in_order(change: tuple[tuple[Step, ...], Any, Any]) -> tuple[Step, ...]:
    return change[0]
