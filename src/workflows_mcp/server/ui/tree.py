"""JSON data as a tree to be looked through: all of it where it is small, else a part, and ways to the others."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from workflows_mcp.engine.glimpses import glimpse, json_size, kind_of
from workflows_mcp.engine.pointers import Step, dotted, pointer_of
from workflows_mcp.server.texts import counted

__all__ = ["MOST_CHARACTERS", "MOST_CHILDREN", "MOST_NODES", "Node", "tree_of"]

MOST_CHILDREN = 100
"""So many keys or items of one value are shown at a time."""

MOST_CHARACTERS = 20_000
"""So many characters of one text are shown at a time."""

MOST_NODES = 400
"""So many values are shown at once: a browser draws them in a moment, and a person reads no more."""

_MOST_LEVELS = 4
"""So deep is what is shown at once: what is deeper is opened by itself, or has a page of its own."""

_LONG = 160
"""A text of more characters is folded, and so is one of several lines."""

_BEGINNING = 80
"""So many characters of a folded text are shown."""

_MOST_FOLDED = 2_000
"""A text of so many characters is sent with the page; a longer one is fetched when it is opened."""

_SMALL = 80
"""An object or list of so many bytes is shown as it is, and not folded."""

_MOST_OPEN = 12
"""What has no more children than this stands open, if it is one of few."""

_FEW = 24


@dataclass(frozen=True)
class Node:
    """A value, and what is shown of it.

    Attributes:
        steps: Where it stands.
        kind: What it is: `object`, `list`, `text`, `number`, `boolean` or `null`.
        text: It, on one line; of what is folded, its beginning or how much is in it.
        size: Bytes of its plain JSON.
        count: How many keys or items it has, or characters.
        is_folded: Whether it is more than its text shows.
        is_open: Whether it stands open.
        is_there: Whether what it has more than its text is here; else it must be fetched.
        children: Those of its values that are here.
        part: Those of its characters that are here.
        first: Which of its keys, items or characters the first one here is, from 0.
    """

    steps: tuple[Step, ...]
    kind: str
    text: str
    size: int
    count: int = 0
    is_folded: bool = False
    is_open: bool = False
    is_there: bool = True
    children: tuple["Node", ...] = ()
    part: str = ""
    first: int = 0

    @property
    def name(self) -> str:
        """Its key, or its index."""
        return dotted(self.steps[-1:]) or '""' if self.steps else ""

    @property
    def pointer(self) -> str:
        """Where it stands, exactly."""
        return pointer_of(self.steps)

    @property
    def path(self) -> str:
        """Where it stands, for people."""
        return dotted(self.steps)

    @property
    def shown(self) -> int:
        """How many of its keys, items or characters are here."""
        return len(self.children) or len(self.part)

    @property
    def following(self) -> int | None:
        """From where what comes after these is shown; None: there is nothing."""
        end = self.first + self.shown
        return end if self.is_there and end < self.count else None

    @property
    def preceding(self) -> int | None:
        """From where what comes before these is shown; None: there is nothing."""
        a_page = MOST_CHARACTERS if self.kind == "text" else MOST_CHILDREN
        return max(self.first - a_page, 0) if self.first else None


def tree_of(
    value: Any,  # noqa: ANN401 - JSON data
    steps: tuple[Step, ...] = (),
    *,
    first: int = 0,
    most: int = MOST_NODES,
) -> Node:
    """A value as a tree whose size has an end, whatever the value is.

    Args:
        value: JSON data, without secrets.
        steps: Where it stands.
        first: Which of its keys, items or characters to begin with.
        most: The most values to show at once; those of the outermost one are shown in any case.
    """
    if isinstance(value, dict | list):
        return _built(value, steps, _fitting(value, steps, first, most), first)
    node = _node(value, steps)
    if isinstance(value, str):
        part = value[first : first + MOST_CHARACTERS]
        return replace(node, is_there=True, first=min(first, len(value)), part=part)
    return node


def _fitting(
    value: Any,  # noqa: ANN401 - JSON data
    steps: tuple[Step, ...],
    first: int,
    room: int,
) -> frozenset[tuple[Step, ...]]:
    """The places whose children are shown, level by level, for as long as there is room."""
    fitting = set()
    waiting = deque([(value, steps, first)])
    while waiting:
        one, place, begin = waiting.popleft()
        count = min(max(len(one) - begin, 0), MOST_CHILDREN)
        level = len(place) - len(steps)
        if level and (count > room or level >= _MOST_LEVELS or json_size(one) <= _SMALL):
            continue
        room -= count
        fitting.add(place)
        inner = _children(one, begin)
        waiting.extend((child, (*place, step), 0) for step, child in inner if isinstance(child, dict | list))
    return frozenset(fitting)


def _built(
    value: Any,  # noqa: ANN401 - JSON data
    steps: tuple[Step, ...],
    fitting: frozenset[tuple[Step, ...]],
    first: int = 0,
    level: int = 0,
    *,
    may_open: bool = True,
) -> Node:
    """A value with its children, and theirs, where they fit."""
    node = _node(value, steps)
    if not isinstance(value, dict | list) or steps not in fitting:
        return node
    shown = list(_children(value, first))
    are_few = level == 0 and len(shown) <= _FEW
    children = tuple(_built(one, (*steps, step), fitting, 0, level + 1, may_open=are_few) for step, one in shown)
    is_open = may_open and len(value) <= _MOST_OPEN
    return replace(node, is_there=True, is_open=is_open, children=children, first=min(first, len(value)))


def _node(value: Any, steps: tuple[Step, ...]) -> Node:  # noqa: ANN401 - JSON data
    """A value without its children."""
    kind = kind_of(value)
    if isinstance(value, str):
        is_folded = len(value) > _LONG or "\n" in value
        shown = glimpse(value, _BEGINNING if is_folded else _LONG)
        is_there = len(value) <= _MOST_FOLDED
        part = value if is_folded and is_there else ""
        return Node(steps, kind, shown.text, shown.size, len(value), is_folded, is_there=is_there, part=part)
    if isinstance(value, dict | list):
        size, count = json_size(value), len(value)
        if size <= _SMALL:
            return Node(steps, kind, glimpse(value, _SMALL).text, size, count)
        text = f"{{{counted(count, 'key')}}}" if isinstance(value, dict) else f"[{counted(count, 'item')}]"
        return Node(steps, kind, text, size, count, is_folded=True, is_there=False)
    return Node(steps, kind, glimpse(value).text, json_size(value))


def _children(value: Mapping[str, Any] | list[Any], first: int) -> Iterable[tuple[Step, Any]]:
    if isinstance(value, list):
        return enumerate(value[first : first + MOST_CHILDREN], first)
    return islice(value.items(), first, first + MOST_CHILDREN)
