"""The filters of expressions: Jinja's and ours, each with its price."""

import functools
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2 import Environment, Undefined, pass_environment
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.filters import ignore_case, make_attrgetter

from workflows_mcp.engine.expressions.comparing import COMPARISONS
from workflows_mcp.engine.expressions.metering import (
    ITEM,
    ExpressionError,
    as_text,
    check_int,
    plain,
    spend,
    spend_on,
    spend_on_search,
    spend_times,
)

__all__ = ["COMPARE", "CONCAT", "FILTERS", "SLICE", "check_padding", "check_replace", "joined"]

COMPARE, CONCAT, SLICE = "(compare)", "(concat)", "(slice)"
"""Filters for the sandbox's own use: no expression can spell these names."""

_MAX_PRECISION = 100
_MAX_JSON_INDENT = 16
_MAX_REASON = 1000

_DISTINCT_HASHES = 2**61 - 1
"""Whole numbers from here on may all have the same hash, and a set of those takes the square of its size."""

_CHARACTERS_MOVED = 256
"""Characters that are copied for the price of one that is read."""

_WORD = re.compile(r"[^\t\n\v\f\r ]+")


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
    data = plain(value)
    if indent:
        _spend_on_indent(data, indent)
    return json.dumps(data, indent=indent, ensure_ascii=False, sort_keys=True)


def _spend_on_indent(data: object, indent: int) -> None:
    level, depth = [data], 0
    while level:
        depth += 1
        level = [item for one in level if isinstance(one, dict | list) for item in _items_of(one)]
        spend(len(level) * depth * indent)


def _items_of(data: dict[str, object] | list[object]) -> Iterable[object]:
    return data.values() if isinstance(data, dict) else data


@pass_environment
def _unique(
    environment: Environment,
    value: Iterable[object],
    case_sensitive: bool = False,  # noqa: FBT001, FBT002 - as Jinja has it
    attribute: str | int | None = None,
) -> Iterator[object]:
    key_of = make_attrgetter(environment, attribute, postprocess=None if case_sensitive else ignore_case)
    seen = set()
    for item in value:
        key = key_of(item)
        if isinstance(key, int) and abs(key) >= _DISTINCT_HASHES:
            raise ExpressionError(f"unique takes whole numbers below {_DISTINCT_HASHES:,} only")
        if key not in seen:
            seen.add(key)
            yield item


def _compare(values: list[object], *names: str) -> object:
    """`a < b == c`: each value with the next one, up to the first comparison that fails."""
    result: object = True
    for name, left, right in zip(names, values, values[1:], strict=False):
        result = COMPARISONS[name](left, right)
        if not result:
            break
    return result


def _shquote(value: object) -> str:
    if isinstance(value, str | bool | int | float):
        return shlex.quote(str(value))
    if isinstance(value, Undefined):
        return str(value)
    raise ExpressionError(
        f"shquote takes text or a number, not {type(value).__name__}; for a list: map('shquote') | join(' ')"
    )


def _fail(value: object) -> str:
    """Fail, for a reason in the workflow's own words."""
    raise ExpressionError(as_text(value)[:_MAX_REASON])


# What a filter will make is paid for before it is made; the parameters are named as the filters' own.


def check_padding(_value: object, width: object = 80, *_: object) -> None:
    """Pay for padding to a width."""
    spend_times(width)


def check_replace(s: object, old: object, new: object, *_: object, **__: object) -> None:
    """Pay for the replacements that a text will get."""
    text, sought = as_text(s), as_text(old)
    spend_on_search(text, sought)
    spend(text.count(sought) * len(as_text(new)))


def _check_is_text(name: str, value: object) -> None:
    if not isinstance(value, str | Undefined):
        raise ExpressionError(f"{name} takes text, not {type(value).__name__}")


def _check_batch(_value: object, linecount: object, *_: object, **__: object) -> None:
    spend_times(linecount, ITEM)


def _check_indent(s: object, width: object = 4, *_: object, **__: object) -> None:
    _check_is_text("indent", s)
    lines = s.count("\n") + 1 if isinstance(s, str) else 1
    spend_times(width if isinstance(width, int) else len(str(width)), lines)


def _check_round(value: object, precision: object = 0, *_: object, **__: object) -> None:
    if not isinstance(value, int | float | Undefined):
        raise ExpressionError(f"round takes a number, not {type(value).__name__}")
    check_int(value)
    if isinstance(precision, int) and abs(precision) > _MAX_PRECISION:
        raise ExpressionError(f"round takes a precision of at most {_MAX_PRECISION}")


def _check_slice(_value: object, slices: object, *_: object, **__: object) -> None:
    spend_times(slices, ITEM)


def _check_sum(_value: object, attribute: object = None, start: object = 0) -> None:  # noqa: ARG001
    if not isinstance(start, int | float):
        raise ExpressionError("sum adds numbers only")


def _check_trim(value: object, chars: object = None) -> None:
    spend_on_search(value, chars)


def _check_wordwrap(
    s: object,
    width: object = 79,
    break_long_words: object = True,  # noqa: ARG001, FBT002
    wrapstring: object = None,
    *_: object,
    **__: object,
) -> None:
    _check_is_text("wordwrap", s)
    text = as_text(s) if isinstance(s, str) else ""
    # From a word that is too long for one line, what is left of it is copied for each further line.
    per_line = max(width, 1) if isinstance(width, int) else 1
    spend(len(text) // per_line * ITEM)
    spend(sum(len(word) ** 2 for word in _WORD.findall(text)) // per_line // _CHARACTERS_MOVED)
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
    "trim": _check_trim,
    "wordwrap": _check_wordwrap,
}

# Jinja's filters but those that reach out (attr), cannot be bounded (format, pprint, striptags, urlize), differ
# from one evaluation to the next (random), or are only about HTML pages (forceescape, safe, xmlattr).
_FROM_JINJA = """
    abs batch capitalize center count d default dictsort e escape filesizeformat first float groupby indent int items
    last length list lower map max min reject rejectattr replace reverse round select selectattr slice sort sum title
    trim truncate upper urlencode wordcount wordwrap
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
        check_int(result)
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
        "fail": _fail,
        "join": _join,
        "shquote": _shquote,
        "string": as_text,
        "tojson": _tojson,
        "unique": _unique,
        CONCAT: _concat,
        SLICE: _slice,
    }.items()
}
FILTERS[COMPARE] = _compare  # pays for each comparison by itself
