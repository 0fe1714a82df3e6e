"""The inputs of a run: what was given, checked and coerced, and defaults for the rest."""

from collections.abc import Callable, Mapping
from typing import Any

from workflows_mcp.engine.definition import InputDefinition
from workflows_mcp.engine.values import coerce_value
from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["coerce_default", "coerce_inputs"]

DefaultOf = Callable[[str, Mapping[str, Any]], Any]
"""Gives an input's default by its name and the values of the inputs before it."""


def coerce_inputs(
    declared: Mapping[str, InputDefinition],
    given: Mapping[str, Any],
    label: str,
    default_of: DefaultOf | None = None,
) -> dict[str, Any]:
    """The inputs of a run, each as its type (see `coerce_value`).

    Args:
        declared: The workflow's inputs.
        given: The caller's values by name.
        label: What the workflow is called in messages.
        default_of: Evaluates defaults; None: they stand for themselves.

    Returns:
        A value for each declared input, sharing no list or dict with the arguments.

    Raises:
        WorkflowDefinitionError: One is missing, unknown or of a wrong type; the message names it and shows no value.
    """
    unknown = sorted(str(name) for name in given.keys() - declared.keys())
    if unknown:
        known = f"has the inputs {', '.join(declared)}" if declared else "takes none"
        raise WorkflowDefinitionError(f"{label}: unknown input {', '.join(map(repr, unknown))}; it {known}")
    values: dict[str, Any] = {}
    for name, definition in declared.items():
        wanted = f"{label}: input {name!r} ({definition.type})"
        if name in given:
            values[name] = _coerce(definition, given[name], wanted)
        elif definition.is_required:
            about = f": {definition.description}" if definition.description else ""
            raise WorkflowDefinitionError(f"{wanted} is missing{about}")
        else:
            default = definition.default if default_of is None else default_of(name, values)
            values[name] = coerce_default(definition, default, wanted)
    return values


def coerce_default(definition: InputDefinition, default: object, label: str) -> Any:  # noqa: ANN401 - JSON data
    """An input's value when none is given.

    Raises:
        WorkflowDefinitionError: The default is not of the input's type.
    """
    return _coerce(definition, default, f"{label}: its default")


def _coerce(definition: InputDefinition, value: object, label: str) -> Any:  # noqa: ANN401 - JSON data
    if value is None and not definition.is_required:
        return None
    try:
        return coerce_value(definition.type, value)
    except ValueError as error:
        raise WorkflowDefinitionError(f"{label}{error}") from None
