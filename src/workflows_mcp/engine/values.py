"""The types of inputs and outputs: what a value, or the text of one, is read as."""

import json
from typing import Any

from workflows_mcp.engine.definition import ValueType
from workflows_mcp.engine.plain_json import why_not_json

__all__ = ["coerce_value", "read_text"]

_KINDS: dict[ValueType, tuple[type, ...]] = {
    "str": (str,),
    "num": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


_UNREAD: dict[ValueType, str] = {
    "num": " (text that is no number, such as 12.5)",
    "bool": " (text that is neither true nor false)",
    "list": ' (text that is no JSON list, such as ["a", "b"])',
    "dict": ' (text that is no JSON object, such as {"a": 1})',
}


def coerce_value(wanted: ValueType, value: object) -> Any:  # noqa: ANN401 - JSON data
    """The value as the wanted type, sharing no list or dict with the argument.

    Text is taken for a `num` or a `bool` when it reads as one, and for a `list` or a `dict` when it is the JSON of
    one, so that a command line may pass what was typed; a `str` is text only.

    Raises:
        ValueError: It is of another type; the message shows no value.
    """
    flaw = why_not_json(value, "value", depth=2)
    if flaw:
        raise ValueError(f": {flaw}")
    coerced = read_text(wanted, value) if isinstance(value, str) else value
    if type(coerced) not in _KINDS[wanted]:
        given = "null" if value is None else type(value).__name__
        hint = _UNREAD.get(wanted, "") if isinstance(value, str) else " (put it in quotes)" if wanted == "str" else ""
        raise ValueError(f" must be a {wanted}, and is a {given}{hint}")
    return json.loads(json.dumps(coerced)) if isinstance(coerced, list | dict) else coerced


def _refuse_constant(name: str) -> object:
    raise ValueError(name)  # NaN and Infinity, which json takes and JSON does not


def read_text(wanted: ValueType, text: str) -> object:
    """What a text stands for where another type is wanted; the text itself when it is nothing of the kind."""
    if wanted == "str":
        return text
    if wanted == "bool":
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text
    return text if why_not_json(found, "value", depth=2) else found
