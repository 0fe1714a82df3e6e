"""What is known of a run, in few words: of a state of any size, no more is made than a page shows."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from workflows_mcp.engine.glimpses import glimpse, json_size
from workflows_mcp.server.texts import one_line
from workflows_mcp.server.ui.shown import shown_json

__all__ = ["MOST_AT_LENGTH", "Scrub", "Value", "at_length", "in_short"]

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
    if not value:
        return ()
    found = dict(islice(value.items(), most)) if isinstance(value, dict) else {"": value}
    large = [isinstance(one, dict | list) and json_size(one) > _MOST_IN_SHORT for one in found.values()]
    # Of what is large only the count of its values is shown, in which no secret can be.
    small = {name: None if is_large else one for (name, one), is_large in zip(found.items(), large, strict=True)}
    shown = []
    for (name, clean), one, is_large in zip(scrub(small).items(), found.values(), large, strict=True):
        told = glimpse(one if is_large else clean, _MOST_IN_SHORT)
        shown.append(Value(one_line(str(name), _MOST_LETTERS), told.text, told.is_whole))
    return tuple(shown)


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
