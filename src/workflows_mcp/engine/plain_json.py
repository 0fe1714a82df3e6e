"""What plain JSON is: values that come back from their JSON as they were, down to their exact types.

This is the one place that decides what a state may hold, so that every store accepts and refuses the same.
`orjson` would quietly turn tuples, dates, enums, NaN and more into something else; the walk before it refuses
them by their exact type and knows the path to the culprit.
"""

import math
from collections.abc import Collection
from typing import Any

import orjson

from workflows_mcp.engine.pointers import Step, dotted

__all__ = [
    "MAX_DEPTH",
    "SealedDict",
    "SealedList",
    "bad_text_in",
    "copy_json",
    "dump_json",
    "is_json",
    "refusal_of",
    "sealed",
    "sealed_with",
    "why_not_json",
]

MAX_DEPTH = 100
"""How many lists and dicts may stand inside one another in a field of a state."""

_SMALLEST_INT, _LARGEST_INT = -(2**63), 2**64 - 1

# The walk refuses every value that these options are about; they stand here so that a hole in the walk
# ends in orjson's TypeError, not in a changed value. Keys and the size of integers are left to orjson alone.
_EXACT = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


class SealedDict(dict[str, Any]):
    """A dict that never changes, with its JSON; made by `sealed` and `sealed_with`."""

    __slots__ = ("json",)

    json: bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)  # a copy may be changed, and so is no sealed one


class SealedList(list[Any]):
    """A list that never changes, with its JSON; made by `sealed`."""

    __slots__ = ("json",)

    json: bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


_SCALARS = frozenset({str, int, bool, type(None)})
"""The types whose values are JSON, whatever they are; what else must be known of them, orjson knows."""

_MANY = 32
"""From how many values on it is quicker to look at the set of their types first."""


_SEALED = frozenset({SealedDict, SealedList})

_UNQUESTIONED = _SCALARS | _SEALED
"""The types whose values are JSON, or were found to be."""


class _NotJSONError(Exception):
    """A value that is not plain JSON; the path to it grows, innermost first, while this is raised."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[Step] = []


def is_json(values: Collection[Any], depth: int) -> bool:
    """Whether values are plain JSON, but for what orjson refuses by itself: keys that are no `str`, huge integers.

    With that, it says what `refusal_of` says, without the path, in a third of the time: every save waits for it.
    """
    if len(values) > _MANY:
        kinds = set(map(type, values))
        if kinds <= _UNQUESTIONED or kinds == {float}:
            return float not in kinds or all(map(math.isfinite, values))
    for value in values:
        kind = type(value)
        if kind is str or kind is SealedDict:
            continue
        if kind is dict or kind is list:
            inner = value.values() if kind is dict else value
            if depth >= MAX_DEPTH or (inner and not is_json(inner, depth + 1)):
                return False
        elif not (kind in _UNQUESTIONED or (kind is float and math.isfinite(value))):
            return False
    return True


def dump_json(value: object) -> bytes:
    """The JSON of a value that `is_json` takes.

    Raises:
        TypeError: A key is no `str`, an integer is too large for JSON elsewhere, or a text is none that UTF-8 can hold.
    """
    return orjson.dumps(value, _json_of, _EXACT)


def why_not_json(value: object, name: str, *, depth: int = 1) -> str | None:
    """Why a state could not hold this value; None when it can.

    Args:
        value: Any value.
        name: What the value is called in the answer.
        depth: At which depth of a field the value will stand; 1 is the field itself.

    Returns:
        The path to the first culprit and what is wrong there (`outputs.when: datetime is not JSON`), never its value.
    """
    if _plain_json(value, depth) is not None:
        return None
    return refusal_of(value, name, depth=depth) or bad_text_in(value, [name])


def refusal_of(value: object, name: str, *, depth: int = 1) -> str | None:
    """What `why_not_json` says, but for texts: these are checked by orjson alone, which is fast and knows no path."""
    try:
        _check_value(value, depth)
    except _NotJSONError as refusal:
        return f"{dotted([name, *reversed(refusal.path)])}: {refusal}"
    return None


def bad_text_in(value: object, path: list[Step]) -> str | None:
    """What `why_not_json` says of texts in a value at a path: which is the first that UTF-8 cannot hold."""
    found = _find_bad_text(value, path)
    return None if found is None else f"{dotted(found)}: text with a lone surrogate is not JSON"


def copy_json(value: Any) -> Any:  # noqa: ANN401 - JSON data
    """A copy of plain JSON data, down to the last list."""
    if type(value) is dict:
        return {key: copy_json(item) for key, item in value.items()}
    return [copy_json(item) for item in value] if type(value) is list else value


def sealed(value: Any, *, depth: int) -> Any:  # noqa: ANN401 - JSON data
    """A dict or list that will not change any more, with its JSON: saving it costs no more than copying that.

    A run saves all it knows again and again, and little of that is new.

    Args:
        value: Never changed after this.
        depth: The greatest depth of a field at which it will stand in a state.

    Returns:
        An equal value; the same one, when it is not plain JSON: saving it is the time to say so.
    """
    json = _plain_json(value, depth) if type(value) in {dict, list} else None
    if json is None:
        return value
    made = SealedDict(value) if type(value) is dict else SealedList(value)
    made.json = json
    return made


def sealed_with(base: dict[str, Any], key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON data
    """A sealed dict, or an empty one, with an item more; the JSON of what was there before is not made anew."""
    if not isinstance(value, SealedDict | SealedList) or not (isinstance(base, SealedDict) or not base):
        return {**base, key: value}
    made = SealedDict(base)
    made[key] = value
    before = base.json[:-1] + b"," if isinstance(base, SealedDict) and base else b"{"
    made.json = b"%b%b:%b}" % (before, orjson.dumps(key), value.json)
    return made


def _plain_json(value: object, depth: int) -> bytes | None:
    """The JSON of a value at a depth of a field; None when it is not plain JSON, for which there is no reason given."""
    if not is_json((value,), depth - 1):
        return None
    try:
        return dump_json(value)
    except TypeError:
        return None


def _check_value(value: Any, depth: int) -> None:  # noqa: ANN401, C901, PLR0912 - any value, a branch for each kind
    kind = type(value)
    if kind is str or kind is bool or value is None or kind in _SEALED:
        return
    if kind is int:
        if not _SMALLEST_INT <= value <= _LARGEST_INT:
            raise _NotJSONError("int outside -2**63..2**64-1 is not portable JSON")
    elif kind is float:
        if not math.isfinite(value):
            raise _NotJSONError(f"{value} is not JSON")
    elif kind is dict:
        if depth > MAX_DEPTH:
            raise _NotJSONError(f"nesting deeper than {MAX_DEPTH}")
        for key, item in value.items():
            if type(key) is not str:
                raise _NotJSONError(f"a key of type {type(key).__name__} is not JSON, only str is")
            if type(item) is not str:
                try:
                    _check_value(item, depth + 1)
                except _NotJSONError as refusal:
                    refusal.path.append(key)
                    raise
    elif kind is list:
        if depth > MAX_DEPTH:
            raise _NotJSONError(f"nesting deeper than {MAX_DEPTH}")
        for index, item in enumerate(value):
            if type(item) is not str:
                try:
                    _check_value(item, depth + 1)
                except _NotJSONError as refusal:
                    refusal.path.append(index)
                    raise
    else:
        raise _NotJSONError(f"{kind.__name__} is not JSON")


def _find_bad_text(value: object, path: list[Step]) -> list[Step] | None:
    """The path to the first text, key or value, that UTF-8 cannot hold."""
    if isinstance(value, str):
        return None if _is_utf8(value) else path
    items: Any = ()
    if type(value) in _SEALED:
        return None
    if isinstance(value, dict):
        for key in value:
            if not _is_utf8(key):
                return [*path, key]
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        found = _find_bad_text(item, [*path, key])
        if found is not None:
            return found
    return None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_of(value: object) -> orjson.Fragment:
    if isinstance(value, SealedDict | SealedList):
        return orjson.Fragment(value.json)
    raise TypeError
