"""What a run is given."""

import datetime
import math
from typing import Any

import pytest

from workflows_mcp.engine.definition import InputDefinition
from workflows_mcp.engine.inputs import coerce_inputs
from workflows_mcp.errors import WorkflowDefinitionError


def coerce(kind: str, value: Any) -> Any:
    """The value that an input of this type gets."""
    declared = {"i": InputDefinition.model_validate({"type": kind})}
    return coerce_inputs(declared, {"i": value}, "workflow 'w'")["i"]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("str", "5", "5"),
        ("str", "true", "true"),
        ("num", 5, 5),
        ("num", 5.5, 5.5),
        ("num", "5", 5),
        ("num", "-5.5e1", -55.0),
        ("bool", True, True),
        ("bool", "false", False),
        ("bool", " True ", True),
        ("list", [1], [1]),
        ("list", '[1, "a"]', [1, "a"]),
        ("dict", {"a": None}, {"a": None}),
        ("dict", '{"a": {}}', {"a": {}}),
    ],
)
def test_a_value_of_the_right_type_or_its_text_is_taken(kind: str, value: Any, expected: Any) -> None:
    """So that a command line can pass what was typed."""
    found = coerce(kind, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("str", 5),
        ("str", True),
        ("str", None),
        ("str", ["a"]),
        ("num", "five"),
        ("num", True),
        ("num", "true"),
        ("num", "NaN"),
        ("num", "Infinity"),
        ("num", "1e999"),
        ("num", ""),
        ("num", None),
        ("num", "9" * 5000),
        ("bool", 1),
        ("bool", "yes"),
        ("bool", "1"),
        ("bool", None),
        ("list", "a,b"),
        ("list", {}),
        ("list", "{}"),
        ("list", '"x"'),
        ("list", "[" * 2000),
        ("list", "[" * 200 + "]" * 200),
        ("dict", []),
        ("dict", "[]"),
        ("dict", "a"),
        ("dict", '{"a": NaN}'),
    ],
)
def test_a_value_of_another_type_is_refused(kind: str, value: Any) -> None:
    """The error names the input and the type that it wants, and not the value."""
    with pytest.raises(
        WorkflowDefinitionError, match=rf"workflow 'w': input 'i' \({kind}\) must be a {kind}, and is a"
    ):
        coerce(kind, value)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        (1,),
        {1},
        b"x",
        datetime.datetime.now(datetime.UTC),
        2**70,
        {"a": {1: 2}},
        "\ud800",
        [["\ud800"]],
    ],
)
def test_a_value_that_is_not_json_is_refused(value: Any) -> None:
    """With the path to it."""
    for kind in ("str", "num", "list", "dict"):
        with pytest.raises(WorkflowDefinitionError, match=rf"input 'i' \({kind}\): value.*JSON"):
            coerce(kind, value)


def test_a_missing_input_is_refused_with_its_description() -> None:
    """Before anything runs."""
    declared = {"url": InputDefinition(type="str", description="Where to look")}
    with pytest.raises(WorkflowDefinitionError, match=r"workflow 'w': input 'url' \(str\) is missing: Where to look"):
        coerce_inputs(declared, {}, "workflow 'w'")


def test_an_unknown_input_is_refused_with_the_known_ones() -> None:
    """A misspelt one must not be lost."""
    declared = {"url": InputDefinition(), "n": InputDefinition(type="num")}
    with pytest.raises(WorkflowDefinitionError, match="unknown input 'ulr'; it has the inputs url, n"):
        coerce_inputs(declared, {"url": "x", "ulr": "x"}, "workflow 'w'")
    with pytest.raises(WorkflowDefinitionError, match="unknown input 'a'; it takes none"):
        coerce_inputs({}, {"a": 1}, "workflow 'w'")


def test_defaults_fill_what_is_not_given() -> None:
    """An optional input without a default is None."""
    declared = {
        "a": InputDefinition(type="num", default="5"),
        "b": InputDefinition(type="list", default=[1]),
        "c": InputDefinition(type="dict", required=False),
        "d": InputDefinition(type="str", default=None),
    }
    first = coerce_inputs(declared, {}, "w")
    assert first == {"a": 5, "b": [1], "c": None, "d": None}
    first["b"].append(2)
    assert coerce_inputs(declared, {"d": None}, "w")["b"] == [1]


def test_a_value_is_not_shared_with_the_caller() -> None:
    """Changing it later does not change the run."""
    given = {"i": {"a": [1]}}
    found = coerce_inputs({"i": InputDefinition(type="dict")}, given, "w")
    given["i"]["a"].append(2)
    assert found == {"i": {"a": [1]}}
