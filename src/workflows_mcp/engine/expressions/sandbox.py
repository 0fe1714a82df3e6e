"""The sandbox that expressions are evaluated in: nothing to reach out with, and no way to blow up.

What an expression may use is listed here, not what it may not: operators, the methods of text, lists and dicts,
tests and filters, each with a price. The price is the size of what goes in and of what comes out, or their product
where all of one may be compared with all of another, and is paid before the work is done; whoever runs out of
`MAX_WORK` is stopped. There are no statements, hence no loops, no assignments and no macros, so the work that an
expression can ask for is bounded by its length and the size of its values.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import StrictUndefined, Undefined, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from workflows_mcp.engine.expressions.comparing import TESTS
from workflows_mcp.engine.expressions.filters import (
    COMPARE,
    CONCAT,
    FILTERS,
    SLICE,
    check_padding,
    check_replace,
    joined,
)
from workflows_mcp.engine.expressions.metering import (
    ITEM,
    MAX_INT_BITS,
    ExpressionError,
    check_int,
    spend,
    spend_on,
    spend_on_search,
)

__all__ = ["DICT_METHODS", "Sandbox"]

DICT_METHODS = frozenset({"get", "items", "keys", "values"})

_TEXT_METHODS = """
    capitalize casefold center count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower
    isnumeric isprintable isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix replace
    rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill
""".split()  # noqa: SIM905 - forty lines of one name each would be harder to read
_METHODS: dict[type, frozenset[str]] = {
    dict: DICT_METHODS,
    list: frozenset({"count", "index"}),
    str: frozenset(_TEXT_METHODS),
}
_PADDING = frozenset({"center", "ljust", "rjust", "zfill"})
_SEARCHES = frozenset(
    """
    count find index lstrip partition rfind rindex rpartition rsplit rstrip split strip
""".split()  # noqa: SIM905 - as above
)
_STEP = 16
"""The price of an item by its name: one text may name many steps, `map(attribute='a.b.c')`."""


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    spend(len(numbers) * ITEM)
    return numbers


def _bits(value: float) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _check_power(base: float, exponent: float) -> None:
    if isinstance(base, int) and isinstance(exponent, int) and _bits(base) * max(exponent, 0) > MAX_INT_BITS:
        raise ExpressionError(f"the result of ** has more than {MAX_INT_BITS} bits")


def _check_product(left: object, right: object) -> bool:
    if isinstance(left, int | float) and isinstance(right, int | float):
        if _bits(left) + _bits(right) > MAX_INT_BITS:
            raise ExpressionError(f"the result of * has more than {MAX_INT_BITS} bits")
        return True
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(count, int):
            spend(len(sequence) * max(count, 0) * (1 if isinstance(sequence, str) else ITEM))
            return True
    return False


def _check_sides(symbol: str, left: object, right: object) -> bool:
    """Whether the operator is meant for these two; what it would cost is paid."""
    check_int(left)
    check_int(right)
    if symbol == "*":
        return _check_product(left, right)
    if isinstance(left, int | float) and isinstance(right, int | float):
        if symbol == "**":
            _check_power(left, right)
        return True
    for kind in (str, list, tuple):
        if symbol == "+" and isinstance(left, kind) and isinstance(right, kind):
            spend((len(left) + len(right)) * (1 if kind is str else ITEM))
            return True
    return False


class _Rewriter(NodeTransformer):
    """Turns what Jinja compiles past the sandbox, `a ~ b`, `a[b:c]` and `a < b`, into filters of ours.

    Unlike in Python, all values of `a < b < c` are evaluated before the first two are compared.
    """

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        values = nodes.List([node.expr, *(operand.expr for operand in node.ops)])
        names: list[nodes.Expr] = [nodes.Const(operand.op) for operand in node.ops]
        return nodes.Filter(values, COMPARE, names, [], None, None, lineno=node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), CONCAT, [], [], None, None, lineno=node.lineno)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds: Sequence[nodes.Expr | None] = (node.arg.start, node.arg.stop, node.arg.step)
        args = [nodes.Const(None) if bound is None else bound for bound in bounds]
        return nodes.Filter(node.node, SLICE, args, [], None, None, lineno=node.lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox, cut down to what expressions need and what can be bounded."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        # Not optimized: the optimizer evaluates constant filters while it compiles, where nobody pays.
        super().__init__(undefined=StrictUndefined, optimized=False, cache_size=0)
        self.globals = {"range": _range}
        self.filters = dict(FILTERS)
        self.tests = dict(TESTS)

    def rewritten(self, expression: nodes.Expr) -> nodes.Expr:
        """The expression with everything in it inside the sandbox's reach."""
        rewritten: nodes.Expr = _Rewriter().visit(expression)
        rewritten.set_environment(self)
        return rewritten

    def getitem(self, obj: Any, argument: Any) -> Any:  # noqa: ANN401 - Jinja's signature
        """`obj[argument]`, once it is paid for."""
        spend(_STEP)
        if isinstance(argument, tuple):
            spend_on(argument)  # it is hashed
        return super().getitem(obj, argument)

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401 - Jinja's signature
        """`obj.attribute`: of a dict its item first, so that an output may be called `items`."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401, ARG002 - Jinja's signature
        """Whether it is one of the methods that are listed, or a field of what `groupby` gives."""
        if isinstance(obj, tuple):
            return attr in {"grouper", "list"}
        return attr in _METHODS.get(type(obj), ())

    def wrap_str_format(self, value: Any) -> None:  # noqa: ANN401 - Jinja's signature
        """Let `is_safe_attribute` decide, and refuse, `str.format`: its widths cannot be bounded."""

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Jinja's signature
        """Call a method of a value, once it is paid for."""
        text = getattr(obj, "__self__", None)
        if isinstance(text, dict | list):
            spend_on([*args, *kwargs.values()])
            if isinstance(text, list):
                spend_on(text)
        elif isinstance(text, str):
            name = obj.__name__
            spend(len(text))
            if name in _SEARCHES:
                for sought in (*args, *kwargs.values()):
                    spend_on_search(text, sought)
            if name == "join" and len(args) == 1:
                return joined(text, args[0])
            if name == "replace":
                check_replace(text, *args, **kwargs)
            elif name in _PADDING:
                check_padding(text, *args)
            elif name in {"startswith", "endswith"}:
                spend_on(args)
            result = super().call(context, obj, *args, **kwargs)
            spend_on(result)
            return result
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401, ARG002 - Jinja's signature
        """Compute, once it is paid for."""
        is_defined = not isinstance(left, Undefined) and not isinstance(right, Undefined)
        if is_defined and not _check_sides(operator, left, right):
            raise ExpressionError(f"{operator} does not take {type(left).__name__} and {type(right).__name__}")
        return self.binop_table[operator](left, right)
