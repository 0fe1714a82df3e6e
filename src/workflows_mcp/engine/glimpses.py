"""A value of JSON data at a glance: as it is where it is small, else what it is and how large."""

import json
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["Glimpse", "glimpse", "json_size", "kind_of"]

_KINDS = {bool: "boolean", int: "number", float: "number", str: "text", dict: "object", list: "list"}


@dataclass(frozen=True)
class Glimpse:
    """A value at a glance.

    Attributes:
        text: One line of JSON; or of one that is too large, its beginning, or how many items it has.
        size: Bytes of its plain JSON.
        is_whole: Whether the text is all of it.
    """

    text: str
    size: int
    is_whole: bool


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
            size += 2 + sum(len(_json(key)) + 1 for key in one) + max(len(one) - 1, 0)
            waiting.extend(one.values())
        elif isinstance(one, list):
            size += 2 + max(len(one) - 1, 0)
            waiting.extend(one)
        else:
            size += len(_json(one).encode(errors="replace"))
    return size


def _json(value: Any) -> str:  # noqa: ANN401 - JSON data
    return json.dumps(value, ensure_ascii=False)
