"""Values of a state in few words: of one of any size, no more is made than a page shows."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from workflows_mcp.engine.glimpses import Glimpse, glimpse, json_size
from workflows_mcp.server.texts import one_line
from workflows_mcp.server.ui.formatting import shown_json

__all__ = ["MOST_AT_LENGTH", "Scrub", "Value", "at_length", "in_short", "many_in_short"]

Scrub = Callable[[Any], Any]

MOST_AT_LENGTH = 20_000
"""So many characters of a prompt, or of an output, are shown."""

_MOST_IN_SHORT = 120

_MOST_LETTERS = 200
"""Of a name."""


class Value(NamedTuple):
    """A value and its name, without secrets.

    Attributes:
        name: Its name; empty: it has none.
        text: It, or as much of it as is shown.
        is_whole: Whether that is all of it.
    """

    name: str
    text: str
    is_whole: bool = True


def in_short(value: object, scrub: Scrub, most: int) -> tuple[Value, ...]:
    """The first values of an object, each in a line; of what is no object, as other programs save it, itself.

    Args:
        value: JSON data.
        scrub: Masks secrets. What is not shown is not looked through.
        most: The most values to show.
    """
    return many_in_short([value], scrub, most)[0]


def many_in_short(values: Sequence[object], scrub: Scrub, most: int) -> list[tuple[Value, ...]]:
    """The same of many objects, with their secrets looked for once.

    Args:
        values: JSON data.
        scrub: See `in_short`.
        most: The most values to show of each.
    """
    found = [_first(value, most) for value in values]
    # Of what is large only the count of its values is shown, in which no secret can be.
    told = [{name: glimpse(one, _MOST_IN_SHORT) for name, one in these.items() if _is_large(one)} for these in found]
    small = [
        {name: None if name in large else one for name, one in these.items()}
        for these, large in zip(found, told, strict=True)
    ]
    return [
        tuple(
            Value(one_line(str(name), _MOST_LETTERS), seen.text, seen.is_whole)
            for (name, seen) in _glimpses(clean, these, large)
        )
        for clean, these, large in zip(scrub(small), found, told, strict=True)
    ]


def _first(value: object, most: int) -> dict[Any, Any]:
    if not value:
        return {}
    return dict(islice(value.items(), most)) if isinstance(value, dict) else {"": value}


def _is_large(value: object) -> bool:
    return isinstance(value, dict | list) and json_size(value) > _MOST_IN_SHORT


def _glimpses(
    clean: dict[Any, Any], found: dict[Any, Any], large: dict[Any, Glimpse]
) -> Iterator[tuple[object, Glimpse]]:
    """Each value at a glance, by its clean name: names that were masked are no longer those that were found."""
    for (name, one), before in zip(clean.items(), found, strict=True):
        yield name, large[before] if before in large else glimpse(one, _MOST_IN_SHORT)


def at_length(values: dict[str, Any], most: int) -> Iterator[Value]:
    """The first values of an object, each as it is read best, and the beginning of a long one.

    Args:
        values: JSON data, without secrets.
        most: The most values to show.
    """
    for name, one in islice(values.items(), most):
        if isinstance(one, dict | list) and json_size(one) > MOST_AT_LENGTH:
            yield Value(one_line(name, _MOST_LETTERS), glimpse(one).text, is_whole=False)
        else:
            text = shown_json(one)
            yield Value(one_line(name, _MOST_LETTERS), text[:MOST_AT_LENGTH], is_whole=len(text) <= MOST_AT_LENGTH)
