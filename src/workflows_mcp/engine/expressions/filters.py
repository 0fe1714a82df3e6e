"""The filters of expressions: Jinja's and ours, each with its price."""

import functools
import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2 import Environment, Undefined, pass_environment
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.filters import make_attrgetter

from workflows_mcp.engine.expressions.metering import (
    ITEM,
    ExpressionError,
    as_text,
    plain,
    spend,
    spend_on,
    spend_times,
)

__all__ = ["CONCAT", "FILTERS", "SLICE", "check_padding", "check_replace", "joined"]

CONCAT, SLICE = "(concat)", "(slice)"
"""Filters for the sandbox's own use: no expression can spell these names."""

_MAX_PRECISION = 100
_MAX_JSON_INDENT = 16


def _concat(values: list[object]) -> str:
    pieces = [as_text(value) for value in values]
    spend(sum(map(len, pieces)))
    return "".join(pieces)


def _slice(value: Any, start: object, stop: object, step: object) -> object:  # noqa: ANN401 - any sequence
    return value[slice(start, stop, step)]


@pass_environment
def _join(environment: Environment, value: Iterable[object], d: object = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return joined(as_text(d), value)


def joined(separator: str, values: Iterable[object]) -> str:
    """The values as text with the separator between them."""
    pieces = [as_text(value) for value in values]
    spend(len(separator) * len(pieces) + sum(map(len, pieces)))
    return separator.join(pieces)


def _tojson(value: object, indent: int | None = None) -> str:
    if indent is not None and not (type(indent) is int and 0 <= indent <= _MAX_JSON_INDENT):
        raise ExpressionError(f"tojson takes an indent of 0 to {_MAX_JSON_INDENT}")
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, sort_keys=True)


def _shquote(value: object) -> str:
    if isinstance(value, str | bool | int | float):
        return shlex.quote(str(value))
    if isinstance(value, Undefined):
        return str(value)
    raise ExpressionError(
        f"shquote takes text or a number, not {type(value).__name__}; for a list: map('shquote') | join(' ')"
    )


# What a filter will make is paid for before it is made; the parameters are named as the filters' own.


def check_padding(_value: object, width: object = 80, *_: object) -> None:
    """Pay for padding to a width."""
    spend_times(width)


def check_replace(s: object, old: object, new: object, *_: object, **__: object) -> None:
    """Pay for the replacements that a text will get."""
    spend(as_text(s).count(as_text(old)) * len(as_text(new)))


def _check_batch(_value: object, linecount: object, *_: object, **__: object) -> None:
    spend_times(linecount, ITEM)


def _check_indent(s: object, width: object = 4, *_: object, **__: object) -> None:
    lines = s.count("\n") + 1 if isinstance(s, str) else 1
    spend_times(width if isinstance(width, int) else len(str(width)), lines)


def _check_round(_value: object, precision: object = 0, *_: object, **__: object) -> None:
    if isinstance(precision, int) and abs(precision) > _MAX_PRECISION:
        raise ExpressionError(f"round takes a precision of at most {_MAX_PRECISION}")


def _check_slice(_value: object, slices: object, *_: object, **__: object) -> None:
    spend_times(slices, ITEM)


def _check_sum(_value: object, attribute: object = None, start: object = 0) -> None:  # noqa: ARG001
    if not isinstance(start, int | float):
        raise ExpressionError("sum adds numbers only")


def _check_wordwrap(
    s: object,
    width: object = 79,  # noqa: ARG001
    break_long_words: object = True,  # noqa: ARG001, FBT002
    wrapstring: object = None,
    *_: object,
    **__: object,
) -> None:
    if wrapstring is not None:
        spend(len(as_text(s)) * len(as_text(wrapstring)))


_CHECKS: dict[str, Callable[..., None]] = {
    "batch": _check_batch,
    "center": check_padding,
    "indent": _check_indent,
    "replace": check_replace,
    "round": _check_round,
    "slice": _check_slice,
    "sum": _check_sum,
    "wordwrap": _check_wordwrap,
}

# Jinja's filters but those that reach out (attr), cannot be bounded (format, pprint, striptags, urlize), differ
# from one evaluation to the next (random), or are only about HTML pages (forceescape, safe, xmlattr).
_FROM_JINJA = """
    abs batch capitalize center count d default dictsort e escape filesizeformat first float groupby indent int items
    last length list lower map max min reject rejectattr replace reverse round select selectattr slice sort sum title
    trim truncate unique upper urlencode wordcount wordwrap
""".split()  # noqa: SIM905 - forty lines of one name each would be harder to read


def _priced(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0  # Jinja passes some filters a context first
    check = _CHECKS.get(name)

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        spend_on(args[skip])
        if check is not None:
            check(*args[skip:], **kwargs)
        result = function(*args, **kwargs)
        if isinstance(result, Iterator):
            return _priced_items(result)
        spend_on(result)
        return str(result) if isinstance(result, str) else result  # str() sheds Markup, which escapes what it meets

    return call


def _priced_items(items: Iterator[object]) -> Iterator[object]:
    for item in items:
        spend_on(item)
        yield item


FILTERS: dict[str, Callable[..., Any]] = {
    name: _priced(name, function)
    for name, function in {
        **{name: JINJA_FILTERS[name] for name in _FROM_JINJA},
        "join": _join,
        "shquote": _shquote,
        "string": as_text,
        "tojson": _tojson,
        CONCAT: _concat,
        SLICE: _slice,
    }.items()
}
