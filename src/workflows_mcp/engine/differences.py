"""What differs between two values of JSON data, by path."""

from collections.abc import Callable, Collection, Iterator, Mapping
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

_Pairs = Iterator[tuple[Step, Any, Any]]
"""Steps from one place, in order, and what is there before and after."""

_HOLDERS = (dict, list)

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
    counts: dict[ChangeKind, int] = {"added": 0, "changed": 0, "removed": 0}
    changes: list[Change] = []
    steps: list[Step] = []  # the way to what is compared; the first step of all stands for none
    waiting: list[_Pairs] = [iter([("", before, after)])]
    while waiting:
        for step, old, new in waiting[-1]:
            if old is new:
                continue
            inner = _pairs_within(old, new) if isinstance(old, _HOLDERS) else None
            if inner is not None:
                waiting.append(inner)
                steps.append(step)
                break  # and go on here behind it
            if _is_same_scalar(old, new):
                continue
            counts[_kind_of(old, new)] += 1
            if most is None or len(changes) < most:  # places come in order, so the first ones are those to be named
                changes.append(Change((*steps, step)[1:], old, new))
        else:
            waiting.pop()
            del steps[-1:]
    return Difference(tuple(changes), counts)


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


def _pairs_within(old: object, new: object) -> _Pairs | None:
    """What is to be compared within two values; None: they have no places in common."""
    if isinstance(old, dict) and isinstance(new, dict):
        return _pairs_of_objects(old, new)
    if isinstance(old, list) and isinstance(new, list):
        return _pairs_of_lists(old, new)
    return None


def _pairs_of_objects(old: Mapping[str, Any], new: Mapping[str, Any]) -> _Pairs:
    keys = []
    for key, before in old.items():
        after = new.get(key, ABSENT)
        if after is before or (type(before) in _SCALARS and type(before) is type(after) and before == after):
            continue  # nearly all of a state; what follows would find the same, in twice the time
        keys.append(key)
    keys += new.keys() - old.keys()
    keys.sort()
    for key in keys:
        yield key, old.get(key, ABSENT), new.get(key, ABSENT)


def _pairs_of_lists(old: list[Any], new: list[Any]) -> _Pairs:
    shorter = min(len(old), len(new))
    first = last = 0
    if len(old) != len(new):  # otherwise each item has its counterpart already
        first = _count_same(lambda index: is_same(old[index], new[index]), shorter)
        last = _count_same(lambda index: is_same(old[-1 - index], new[-1 - index]), shorter - first)
    middle = shorter - last
    for index in range(first, middle):
        yield index, old[index], new[index]
    for index in range(middle, len(old) - last):
        yield index, old[index], ABSENT
    for index in range(middle, len(new) - last):
        yield index, ABSENT, new[index]


def _count_same(is_same_at: Callable[[int], bool], most: int) -> int:
    return next((index for index in range(most) if not is_same_at(index)), most)
