"""What the work of expressions costs, and who is stopped: all that is read or made is paid for."""

import itertools
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from jinja2 import Undefined

from workflows_mcp.engine.plain_json import MAX_DEPTH

__all__ = [
    "ITEM",
    "MAX_INT_BITS",
    "MAX_RESULT",
    "MAX_WORK",
    "ExpressionError",
    "as_text",
    "bounded_work",
    "check_int",
    "plain",
    "spend",
    "spend_on",
    "spend_on_search",
    "spend_times",
]

MAX_WORK = 32 * 2**20
"""What the expressions of one block may read and make, all together: a character counts 1, anything else `ITEM`."""

MAX_RESULT = 4 * 2**20
"""Characters that one text may become."""

MAX_INT_BITS = 4096
"""Bits of the integers that are computed with: some operations take the square of that."""

_PAIRS = 16
"""Pairs of characters that are compared for the price of one character that is read."""

ITEM = 64
"""The price of an item: going through a list takes far longer than going through a text."""

_VIEWS = (KeysView, ValuesView, ItemsView)


class ExpressionError(Exception):
    """An expression is wrong, or asks for what it may not have. The message holds no values, only types and names."""

    def __init__(self, reason: str, expression: str | None = None) -> None:
        super().__init__(reason)
        self.expression = expression


class _Meter:
    def __init__(self) -> None:
        self.left = MAX_WORK


_METER: ContextVar[_Meter | None] = ContextVar("workflows_mcp_expression_meter", default=None)


class _BoundedWork:
    """A class, since every block enters one, and a generator takes twice as long to enter."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = None if _METER.get() is not None else _METER.set(_Meter())

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _METER.reset(self._token)


def bounded_work() -> AbstractContextManager[None]:
    """Let all expressions that are evaluated inside share one allowance of `MAX_WORK`."""
    return _BoundedWork()


def spend(units: int) -> None:
    """Pay for as many characters, or `ITEM` for each item.

    Raises:
        ExpressionError: Nothing is left of the allowance.
    """
    _spend(_meter(), units)


def _meter() -> _Meter:
    meter = _METER.get()
    if meter is None:
        raise RuntimeError("expressions are evaluated inside bounded_work()")
    return meter


def _spend(meter: _Meter, units: int) -> None:
    meter.left -= max(units, 0)
    if meter.left < 0:
        raise ExpressionError("it has more work to do than expressions may")


def spend_on(value: object) -> None:
    """Pay for a value and all that is in it, lazy sequences excepted: they are paid for as they are read."""
    meter = _meter()
    _spend(meter, ITEM)
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            _spend(meter, len(one))
        elif isinstance(one, range):
            _spend(meter, len(one) * ITEM)
        elif isinstance(one, dict):
            _spend(meter, 2 * len(one) * ITEM)
            waiting.extend(itertools.chain(one.keys(), one.values()))
        elif isinstance(one, (list, tuple, *_VIEWS)):
            _spend(meter, len(one) * ITEM)
            waiting.extend(one)


def spend_times(count: object, size: int = 1) -> None:
    """Pay for `count` pieces of a size; a count that is no whole number is left to the function it is meant for."""
    if isinstance(count, int):
        spend(count * size)


def spend_on_search(text: object, sought: object) -> None:
    """Pay for looking for a text, or for any of its characters, in another: at worst, all are compared with all."""
    if isinstance(text, str) and isinstance(sought, str):
        spend(len(text) + len(sought) + len(text) * len(sought) // _PAIRS)


def check_int(value: object) -> None:
    """Refuse an integer that is too large to compute with."""
    if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
        raise ExpressionError(f"a whole number has more than {MAX_INT_BITS:,} bits")


def plain(value: object) -> Any:  # noqa: ANN401 - JSON data
    """A copy of an expression's value as plain JSON data: tuples, ranges and lazy sequences become lists.

    Raises:
        ExpressionError: It is too large or too deep, or holds something that is not JSON.
        UndefinedError: It, or something in it, is undefined.
    """
    return _plain(value, 1)


def _plain(value: object, depth: int) -> Any:  # noqa: ANN401 - JSON data
    spend(ITEM)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        spend(len(value))
        if len(value) > MAX_RESULT:
            raise ExpressionError(f"its value has more than {MAX_RESULT:,} characters")
        return str(value)
    if depth > MAX_DEPTH:
        raise ExpressionError(f"its value is nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        return {_plain_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, range, Iterator, *_VIEWS)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, Undefined):
        return str(value)  # raises, as everything that is done to a strict Undefined does
    raise ExpressionError(f"its value is a {type(value).__name__}, which is not JSON")


def _plain_key(key: object) -> str:
    if isinstance(key, str):
        return str(key)
    raise ExpressionError(f"a dict with keys of type {type(key).__name__} is not JSON, only text is")


def as_text(value: object) -> str:
    """The value as text, Python style."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    spend_on(value)
    return str(plain(value))
