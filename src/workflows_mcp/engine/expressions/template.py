"""Texts with `{{ … }}` in them: split, compiled once, rendered often."""

import functools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateSyntaxError, Undefined, UndefinedError, nodes
from jinja2.environment import TemplateExpression
from jinja2.exceptions import SecurityError
from jinja2.parser import Parser

from workflows_mcp.engine.expressions.metering import (
    MAX_RESULT,
    ExpressionError,
    as_text,
    bounded_work,
    plain,
    spend,
)
from workflows_mcp.engine.expressions.sandbox import Sandbox

__all__ = [
    "MAX_EXPRESSIONS",
    "MAX_TEMPLATE",
    "Compiled",
    "Reference",
    "Template",
    "bounded_compilation",
    "compile_value",
    "references_in",
    "render",
]

MAX_TEMPLATE = 256 * 1024
"""Characters that a text with expressions in it may have."""

MAX_EXPRESSION = 8 * 1024
"""Characters that one expression may have."""

MAX_EXPRESSIONS = 5000
"""Expressions that are compiled inside one `bounded_compilation`: compiling takes a millisecond for each."""

_CACHED = 4096
"""Expressions that are kept once they are compiled."""

# Well below what Python's recursion limit allows, so that an expression that was taken once is taken everywhere.
_MAX_BRACKETS = 20
_MAX_DEPTH = 100

_MAX_SHOWN = 200

Reference = tuple[str, ...]
"""What an expression reads, as far as it can be told before it runs: ("blocks", "a", "outputs", "stdout")."""

_SANDBOX = Sandbox()

_SCANNED = re.compile(r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|[{\[(]|[}\])]""", re.DOTALL)


@dataclass(frozen=True)
class _Expression:
    source: str
    evaluate: TemplateExpression
    references: tuple[Reference, ...]

    def value(self, names: Mapping[str, Any], *, as_part: bool) -> Any:  # noqa: ANN401 - JSON data
        """Its value as plain JSON data, or as text that is part of a longer one.

        Every error is an `ExpressionError`, which shows no value.
        """
        try:
            value = plain(self.evaluate(names))
            return as_text(value) if as_part else value
        except ExpressionError as error:
            reason = str(error)
        except SecurityError:
            reason = "it asks for something that expressions may not use"
        except UndefinedError:
            reason = self._what_is_undefined(names)
        except RecursionError:
            reason = "it is nested too deeply"
        except Exception as error:  # noqa: BLE001 - values decide what goes wrong, and their errors may quote them
            reason = f"it ends in a {type(error).__name__}"
        raise ExpressionError(reason, self.source)

    def _what_is_undefined(self, names: Mapping[str, Any]) -> str:
        # Jinja's own message may name a key that came out of a value; this one takes names from the text only.
        for reference in self.references:
            value: Any = names
            for position, name in enumerate(reference):
                value = _SANDBOX.getattr(value, name)
                if isinstance(value, Undefined):
                    return f"{'.'.join(reference[: position + 1])} is undefined"
        return "something in it is undefined, or may not be used"


@dataclass(frozen=True)
class Template:
    """A text with expressions in it.

    Attributes:
        pieces: Plain texts and expressions, in order.
    """

    pieces: tuple[str | _Expression, ...]

    @property
    def references(self) -> Iterator[Reference]:
        """What all its expressions read."""
        for piece in self.pieces:
            if isinstance(piece, _Expression):
                yield from piece.references

    def render(self, names: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON data
        """The value of the one expression that it consists of; else text, Python style (`True`, `None`).

        Raises:
            ExpressionError: An expression fails, reads an undefined name, or makes too much.
        """
        with bounded_work():
            if len(self.pieces) == 1 and isinstance(self.pieces[0], _Expression):
                return self.pieces[0].value(names, as_part=False)
            texts = [piece if isinstance(piece, str) else piece.value(names, as_part=True) for piece in self.pieces]
            size = sum(map(len, texts))
            spend(size)
            if size > MAX_RESULT:
                raise ExpressionError(f"the text becomes longer than {MAX_RESULT:,} characters")
            return "".join(texts)


Compiled = Template | dict[str, "Compiled"] | list["Compiled"] | str | int | float | bool | None
"""JSON data with a `Template` for each text that has expressions in it."""


_COUNTER: ContextVar[Iterator[int] | None] = ContextVar("workflows_mcp_expression_counter", default=None)


@contextmanager
def bounded_compilation() -> Iterator[None]:
    """Let all values that are compiled inside have `MAX_EXPRESSIONS` together; outside of it, each has as many."""
    if _COUNTER.get() is not None:
        yield
        return
    token = _COUNTER.set(iter(range(MAX_EXPRESSIONS)))
    try:
        yield
    finally:
        _COUNTER.reset(token)


def _count_expression() -> None:
    counter = _COUNTER.get()
    if counter is not None and next(counter, None) is None:
        raise ExpressionError(f"there are more than {MAX_EXPRESSIONS:,} expressions")


def compile_value(value: Any, path: str) -> Compiled:  # noqa: ANN401 - JSON data
    """Compile the expressions of all texts in a value; keys are taken as they are, and must hold none.

    Args:
        value: Plain JSON data.
        path: What the value is called, for messages.

    Raises:
        ExpressionError: An expression is broken, or there are too many; the message begins with the path to it.
    """
    with bounded_compilation():
        return _compile_value(value, path)


def _compile_value(value: Any, path: str) -> Compiled:  # noqa: ANN401 - JSON data
    if isinstance(value, dict):
        for key in value:
            if "{{" in key:
                raise ExpressionError(f"{path}: a key must not hold an expression")
        return {key: _compile_value(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_compile_value(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, str):
        try:
            return _compile_text(value)
        except ExpressionError as error:
            raise ExpressionError(f"{path}: {_with_source(error)}") from None
    scalar: int | float | bool | None = value
    return scalar


def references_in(compiled: Compiled, path: str) -> Iterator[tuple[str, Reference]]:
    """What all expressions in a compiled value read, each with the path to it."""
    if isinstance(compiled, Template):
        for reference in compiled.references:
            yield path, reference
    elif isinstance(compiled, dict):
        for key, item in compiled.items():
            yield from references_in(item, f"{path}.{key}")
    elif isinstance(compiled, list):
        for index, item in enumerate(compiled):
            yield from references_in(item, f"{path}[{index}]")


def render(compiled: Compiled, names: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - JSON data
    """The value with its expressions evaluated, sharing one allowance of work; made anew, down to the last list.

    Args:
        compiled: What `compile_value` gave.
        names: What the expressions can read.
        path: What the value is called, for messages.

    Raises:
        ExpressionError: An expression fails; the message names the path and the expression, and no value.
    """
    with bounded_work():
        return _render(compiled, names, path)


def _render(compiled: Compiled, names: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - JSON data
    if isinstance(compiled, Template):
        try:
            return compiled.render(names)
        except ExpressionError as error:
            raise ExpressionError(f"{path}: {_with_source(error)}") from None
    if isinstance(compiled, dict):
        return {key: _render(item, names, f"{path}.{key}") for key, item in compiled.items()}
    if isinstance(compiled, list):
        return [_render(item, names, f"{path}[{index}]") for index, item in enumerate(compiled)]
    return compiled


def _with_source(error: ExpressionError) -> str:
    if error.expression is None:
        return str(error)
    shown = " ".join(error.expression.split())
    if len(shown) > _MAX_SHOWN:
        shown = shown[:_MAX_SHOWN] + "…"
    return f"{error}, in {{{{ {shown} }}}}"


def _compile_text(text: str) -> Template | str:
    if "{{" not in text:
        return _without_statements(text)
    if len(text) > MAX_TEMPLATE:
        raise ExpressionError(f"a text with expressions has at most {MAX_TEMPLATE:,} characters, not {len(text):,}")
    return Template(tuple(_split(text)))


def _split(text: str) -> Iterator[str | _Expression]:
    position = 0
    while (start := text.find("{{", position)) >= 0:
        if start > position:
            yield _without_statements(text[position:start])
        end = _end_of_expression(text, start + 2)
        _count_expression()
        yield _compile_expression(text[start + 2 : end])
        position = end + 2
    if position < len(text):
        yield _without_statements(text[position:])


def _without_statements(text: str) -> str:
    if "{%" in text:
        raise ExpressionError(
            "{% is refused: there are expressions, {{ a if b else c }}, and no statements; "
            "write {{ '{%' }} where the text is meant"
        )
    return text


def _end_of_expression(text: str, start: int) -> int:
    """Where the }} stands that closes an expression: not inside a text or brackets of its own."""
    depth = 0
    position = start
    limit = start + MAX_EXPRESSION
    while found := _SCANNED.search(text, position, limit):
        bracket = found.group()
        if bracket == "}" and depth == 0 and text.startswith("}}", found.start()):
            return found.start()
        if bracket in "{[(":
            depth += 1
            if depth > _MAX_BRACKETS:
                raise ExpressionError(f"it has more than {_MAX_BRACKETS} brackets inside one another", text[start:])
        elif bracket in "}])":
            depth = max(depth - 1, 0)
        position = found.end()
    if len(text) > limit:
        raise ExpressionError(f"it does not end within {MAX_EXPRESSION:,} characters", text[start:limit])
    raise ExpressionError("the {{ is not closed by }}. Write {{ '{{' }} for the text", text[start:])


@functools.lru_cache(maxsize=_CACHED)
def _compile_expression(source: str) -> _Expression:
    if source[:1] in {"-", "+"} or source[-1:] in {"-", "+"}:
        raise ExpressionError(
            "{{- and -}} are refused: the text around an expression is kept as it is; put a space before the sign",
            source,
        )
    try:
        parser = Parser(_SANDBOX, source, state="variable")
        expression = parser.parse_expression()
        if not parser.stream.eos:
            raise ExpressionError("it goes on after its end", source)
        _check_depth(expression, source)
        _check_names(expression, source)
        references = tuple(_references(expression))
        body: list[nodes.Node] = [nodes.Assign(nodes.Name("result", "store"), _SANDBOX.rewritten(expression), lineno=1)]
        template = _SANDBOX.from_string(nodes.Template(body, lineno=1))
    except TemplateSyntaxError as error:
        raise ExpressionError(f"syntax error: {error.message}", source) from None
    except (RecursionError, MemoryError, SyntaxError):
        raise ExpressionError("it is nested too deeply", source) from None
    except (ValueError, OverflowError):
        raise ExpressionError("a number in it is too long", source) from None
    return _Expression(source, TemplateExpression(template, undefined_to_none=False), references)


def _check_depth(expression: nodes.Expr, source: str) -> None:
    level: list[nodes.Node] = [expression]
    for _ in range(_MAX_DEPTH):
        level = [child for node in level for child in node.iter_child_nodes()]
        if not level:
            return
    raise ExpressionError(f"it is nested deeper than {_MAX_DEPTH}", source)


def _check_names(expression: nodes.Expr, source: str) -> None:
    for node in nodes.Output([expression]).find_all((nodes.Filter, nodes.Test)):
        known = _SANDBOX.filters if isinstance(node, nodes.Filter) else _SANDBOX.tests
        if node.name not in known:
            kind = type(node).__name__.lower()
            names = ", ".join(sorted(name for name in known if name[0].isalpha()))
            raise ExpressionError(f"there is no {kind} {node.name!r}; there are {names}", source)


def _references(node: nodes.Node) -> Iterator[Reference]:
    if isinstance(node, nodes.Name):
        if node.name not in _SANDBOX.globals:
            yield (node.name,)
        return
    if not isinstance(node, nodes.Getattr | nodes.Getitem):
        for child in node.iter_child_nodes():
            yield from _references(child)
        return
    base, steps = _unchained(node)
    if isinstance(base, nodes.Name):
        path = [base.name]
        for step in steps:
            name = _static_name(step)
            if name is None:
                break
            path.append(name)
        yield tuple(path)
    else:
        yield from _references(base)
    for step in steps:
        if isinstance(step, nodes.Getitem):
            yield from _references(step.arg)


def _unchained(node: nodes.Node) -> tuple[nodes.Node, list[nodes.Getattr | nodes.Getitem]]:
    """`a`, and the steps `.b` and `['c']` from there on, of `a.b['c']`."""
    steps: list[nodes.Getattr | nodes.Getitem] = []
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        steps.append(node)
        node = node.node
    return node, steps[::-1]


def _static_name(step: nodes.Getattr | nodes.Getitem) -> str | None:
    if isinstance(step, nodes.Getattr):
        return step.attr
    if isinstance(step.arg, nodes.Const) and isinstance(step.arg.value, str):
        return step.arg.value
    return None
