"""The inputs of a run in the form that forks it: filled in, to be changed where they are to differ, and read again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflows_mcp.engine.glimpses import kind_of
from workflows_mcp.server.texts import one_line
from workflows_mcp.server.ui.values import Scrub
from workflows_mcp.server.visible import visible

__all__ = ["Refilled", "changed_inputs", "inputs_in", "refilled"]

_MOST_INPUTS = 100
_MOST_CHARACTERS, _MOST_IN_ALL = 2_000, 20_000
"""Of one input, and of all: a longer one is easier given by a command."""

_MOST_NAMED = 20

_WANTED = 'the inputs are a JSON object of values by name, such as {"version": "1.4.3"}'


@dataclass(frozen=True)
class Refilled:
    """The inputs of a run, to be changed.

    Attributes:
        text: Those that are there, as a JSON object; empty: there are none.
        secret: The names of some that are left out, since they hold a secret.
        long: The names of some that are left out, since they are long.
        more: How many others are left out.
    """

    text: str = ""
    secret: tuple[str, ...] = ()
    long: tuple[str, ...] = ()
    more: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all inputs are there."""
        return not (self.secret or self.long or self.more)


def refilled(inputs: object, scrub: Scrub) -> Refilled:
    """The inputs of a run as a form begins with them.

    What is masked is left out, and not shown with its mask: that would be taken for the new value.

    Args:
        inputs: As they were saved, which another program may have done.
        scrub: Masks secrets; what holds none it gives back as it is.
    """
    if not isinstance(inputs, dict):
        return Refilled()
    shown: dict[str, Any] = {}
    secret: list[str] = []
    long: list[str] = []
    room = _MOST_IN_ALL
    for name, value in list(inputs.items())[:_MOST_INPUTS]:
        one = {name: value}
        clean = scrub(one)
        if clean is not one:
            secret.append(_named(next(iter(clean))))
            continue
        length = _length(one)
        if length > min(_MOST_CHARACTERS, room):
            long.append(_named(name))
        else:
            room -= length
            shown[name] = value
    left_out = len(inputs) - len(shown)
    named = (tuple(secret[:_MOST_NAMED]), tuple(long[:_MOST_NAMED]))
    return Refilled(_text(shown) if shown else "", *named, more=left_out - len(named[0]) - len(named[1]))


def inputs_in(text: str) -> dict[str, Any]:
    """The inputs that were typed, as a JSON object.

    Raises:
        ValueError: It is none; the message shows nothing of it.
    """
    if not text.strip():
        return {}
    try:
        found = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise ValueError(f"{_WANTED}; what was typed is no JSON: {where}") from None
    except RecursionError:
        raise ValueError("the inputs are nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"{_WANTED}; what was typed is of another kind: {kind_of(found)}")  # noqa: TRY004 - what a form is told
    return found


def changed_inputs(typed: Mapping[str, Any], inputs: object, scrub: Scrub) -> dict[str, Any]:
    """Those of the inputs that were typed that are not as the run had them.

    One that holds a secret counts as changed: nobody was shown it, and whoever types one is told to keep it away.

    Args:
        typed: What the form brings.
        inputs: Those of the run, as they were saved.
        scrub: Masks secrets; what holds none it gives back as it is.
    """
    before = inputs if isinstance(inputs, dict) else {}
    # As text: 1, 1.0 and true are equal in Python.
    return {
        name: value
        for name, value in typed.items()
        if name not in before or json.dumps(value) != json.dumps(before[name]) or scrub(value) is not value
    }


def _refuse(name: str) -> object:
    raise ValueError(f"the inputs hold {name}, which is no JSON")


def _named(name: object) -> str:
    return one_line(str(name), 80)


def _length(value: object) -> int:
    try:
        return len(_text(value))
    except (RecursionError, TypeError, ValueError):  # of another program
        return _MOST_IN_ALL + 1


def _text(value: object) -> str:
    """The value as JSON whose characters a page shows as they are: what it changed would be another value."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    return text if visible(text) == text else json.dumps(value, indent=2, allow_nan=False)
