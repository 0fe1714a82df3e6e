"""Comparisons and tests, each with its price: `a < b`, `a in b`, `a is lower`."""

import functools
import operator
from collections.abc import Callable, ItemsView, KeysView, ValuesView
from typing import Any

from jinja2 import Undefined
from jinja2.tests import TESTS as JINJA_TESTS

from workflows_mcp.engine.expressions.metering import (
    ITEM,
    ExpressionError,
    check_int,
    spend,
    spend_on,
    spend_on_search,
)

__all__ = ["COMPARISONS", "TESTS"]

_CONTAINERS = (dict, list, tuple, KeysView, ValuesView, ItemsView)


def _check_compared(left: object, right: object) -> None:
    spend(ITEM)
    if isinstance(left, str) and isinstance(right, str):
        spend(min(len(left), len(right)))
    elif isinstance(left, _CONTAINERS) and isinstance(right, _CONTAINERS):
        spend_on(right)  # what is only in the other one is not compared


def _check_contained(item: object, container: object) -> None:
    if isinstance(container, str):
        spend_on_search(container, item)
    elif isinstance(container, dict | KeysView):
        spend_on(item)  # it is hashed, not compared
    else:
        spend_on(container)


def _compared(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def call(left: object, right: object) -> object:
        _check_compared(left, right)
        return compare(left, right)

    return call


def _is_in(item: object, container: Any) -> bool:  # noqa: ANN401 - whatever can be looked into
    _check_contained(item, container)
    return item in container


def _is_not_in(item: object, container: object) -> bool:
    return not _is_in(item, container)


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": _compared(operator.eq),
    "ne": _compared(operator.ne),
    "gt": _compared(operator.gt),
    "gteq": _compared(operator.ge),
    "lt": _compared(operator.lt),
    "lteq": _compared(operator.le),
    "in": _is_in,
    "notin": _is_not_in,
}
"""The operators that compare, by the names that Jinja has for them."""


def _check_numbers(*values: object) -> None:
    for value in values:
        if not isinstance(value, int | float | Undefined):  # of a text, % would be its formatting
            raise ExpressionError(f"the test takes numbers, not {type(value).__name__}")
        check_int(value)


_COMPARING = "== eq equalto != ne > gt greaterthan ge >= < lt lessthan <= le".split()  # noqa: SIM905 - easier to read

_CHECKS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(_COMPARING, _check_compared),
    "divisibleby": _check_numbers,
    "even": _check_numbers,
    "in": _check_contained,
    "lower": spend_on,
    "odd": _check_numbers,
    "upper": spend_on,
}


def _priced(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0  # Jinja passes some tests an environment first
    check = _CHECKS.get(name)

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        spend(ITEM)
        if check is not None:
            check(*args[skip:], *kwargs.values())
        return function(*args, **kwargs)

    return call


_FROM_JINJA: dict[str, Any] = dict(JINJA_TESTS)

TESTS: dict[str, Callable[..., Any]] = {name: _priced(name, function) for name, function in _FROM_JINJA.items()}
"""Jinja's tests, each with its price."""
