"""Where in JSON data a value stands: as people read it, and as a JSON pointer (RFC 6901), which is exact."""

from collections.abc import Iterable
from typing import Any

__all__ = ["Step", "dotted", "follow", "pointer_of"]

Step = str | int
"""One step into JSON data: the key of an object, or the index of a list."""

_LONGEST_KEY_SHOWN = 80

_LONGEST_INDEX = 18  # digits; no list is longer, and a text of digits could be very long


def dotted(steps: Iterable[Step]) -> str:
    """`context.blocks.a[3]`; printable whatever the keys hold, which are cut where they are long."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            key = step if len(step) <= _LONGEST_KEY_SHOWN else step[:_LONGEST_KEY_SHOWN] + "…"
            text += ("." if text else "") + (key if key.isprintable() else repr(key)[1:-1])
    return text


def pointer_of(steps: Iterable[Step]) -> str:
    """The JSON pointer, such as `/context/blocks/a/3`; the empty text is the whole value."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)


def follow(value: Any, pointer: str) -> tuple[tuple[Step, ...], Any]:  # noqa: ANN401 - JSON data
    """What a JSON pointer points at.

    Args:
        value: JSON data.
        pointer: As `pointer_of` makes it.

    Returns:
        The steps that lead there, and the value.

    Raises:
        ValueError: It is no JSON pointer.
        LookupError: There is nothing at this place.
    """
    if pointer and not pointer.startswith("/"):
        raise ValueError("a JSON pointer is empty, or begins with a slash")
    steps: list[Step] = []
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
            steps.append(key)
        elif isinstance(value, list) and _is_index(key) and int(key) < len(value):
            value = value[int(key)]
            steps.append(int(key))
        else:
            raise LookupError(f"there is no {dotted([*steps, key])}")
    return tuple(steps), value


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) <= _LONGEST_INDEX and (key == "0" or key[0] != "0")
