"""A value of JSON data at a glance: as it is where it is small, else what it is and how large."""

import json
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["Glimpse", "glimpse", "glimpses_of_change", "json_size", "kind_of"]

_SAME_SHOWN = 20
"""So many of the characters that two texts begin with are shown before those that differ."""

_KINDS = {bool: "boolean", int: "number", float: "number", str: "text", dict: "object", list: "list"}


@dataclass(frozen=True)
class Glimpse:
    """A value at a glance.

    Attributes:
        text: One line of JSON; or of one that is too large, its beginning, or how many items it has.
        size: Bytes of its plain JSON.
        is_whole: Whether the text is all of it.
        first: Which of the value's characters is the first one here, from 0.
    """

    text: str
    size: int
    is_whole: bool
    first: int = 0


def glimpse(value: Any, most: int = 120) -> Glimpse:  # noqa: ANN401 - JSON data
    """A value at a glance.

    Args:
        value: JSON data.
        most: The most characters to show.
    """
    size = json_size(value)
    if isinstance(value, str):
        if len(value) <= most:
            return Glimpse(_json(value), size, is_whole=True)
        return Glimpse(f"{_json(value[:most])[:-1]}…", size, is_whole=False)
    if isinstance(value, dict | list) and size > most:
        items = "key" if isinstance(value, dict) else "item"
        count = f"{len(value):,} {items}{'' if len(value) == 1 else 's'}"
        return Glimpse(f"{{{count}}}" if isinstance(value, dict) else f"[{count}]", size, is_whole=False)
    return Glimpse(_json(value), size, is_whole=True)


def glimpses_of_change(before: Any, after: Any, most: int = 120) -> tuple[Glimpse, Glimpse]:  # noqa: ANN401 - JSON data
    """Two values at a glance; of two long texts, from where they differ on.

    Args:
        before: JSON data.
        after: JSON data.
        most: The most characters of each to show.
    """
    if not (isinstance(before, str) and isinstance(after, str) and max(len(before), len(after)) > most):
        return glimpse(before, most), glimpse(after, most)
    begin = max(_common_length(before, after) - _SAME_SHOWN, 0)
    return _from(before, begin, most), _from(after, begin, most)


def _from(text: str, begin: int, most: int) -> Glimpse:
    shown = glimpse(text[begin:], most)
    if not begin:
        return shown
    return Glimpse(f'"…{shown.text[1:]}', json_size(text), is_whole=False, first=begin)


def _common_length(one: str, other: str) -> int:
    """How many characters two texts begin with that are alike; found by halves, each compared at once."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def json_size(value: Any) -> int:  # noqa: ANN401 - JSON data
    """How many bytes a value has as plain JSON, however deep it is nested."""
    try:
        return len(orjson.dumps(value))
    except TypeError:  # too deep for it; or of another program, with numbers and texts that JSON has not
        return _counted(value)


def kind_of(value: Any) -> str:  # noqa: ANN401 - JSON data
    """What kind of value it is, for people."""
    return "null" if value is None else _KINDS.get(type(value)) or type(value).__name__


def _counted(value: Any) -> int:  # noqa: ANN401 - JSON data
    size = 0
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            size += 2 + sum(_size_of_scalar(key) + 1 for key in one) + max(len(one) - 1, 0)
            waiting.extend(one.values())
        elif isinstance(one, list):
            size += 2 + max(len(one) - 1, 0)
            waiting.extend(one)
        else:
            size += _size_of_scalar(one)
    return size


def _size_of_scalar(value: Any) -> int:  # noqa: ANN401 - JSON data
    return len(_json(value).encode(errors="replace"))


def _json(value: Any) -> str:  # noqa: ANN401 - JSON data
    return json.dumps(value, ensure_ascii=False)
