"""What a workflow gives back, and the defaults of what it is given: expressions of its own, not of a block."""

import time
from collections.abc import Mapping
from typing import Any

from workflows_mcp.engine.definition import ValueType
from workflows_mcp.engine.expressions import ExpressionError, bounded_work, render
from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.inputs import coerce_inputs
from workflows_mcp.engine.plan import Plan
from workflows_mcp.engine.values import coerce_value
from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["evaluate_inputs", "evaluate_outputs"]


def evaluate_inputs(plan: Plan, given: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """The inputs of a workflow that is about to run: what was given, and defaults for the rest.

    Raises:
        WorkflowDefinitionError: One is missing, unknown or of a wrong type, or the expression of a default fails.
    """
    label = f"workflow {plan.definition.name!r}"
    metadata = {"workflow_name": plan.definition.name, "run_id": run_id, "started_at": time.time()}

    def default_of(name: str, inputs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON data
        if name not in plan.defaults:
            return plan.definition.inputs[name].default
        names = {"inputs": dict(inputs), "blocks": {}, "metadata": metadata}
        try:
            return render(plan.defaults[name], names, f"input {name!r}: its default")
        except ExpressionError as error:
            raise WorkflowDefinitionError(f"{label}: {error}") from None

    with bounded_work():
        return coerce_inputs(plan.definition.inputs, given, label, default_of)


def evaluate_outputs(frame: Frame) -> dict[str, Any]:
    """The outputs of a workflow whose blocks are over.

    Raises:
        ExpressionError: An expression fails, or its value is not of the output's type.
    """
    if not frame.plan.outputs:
        return {}
    names = {"inputs": frame.inputs, "blocks": frame.readable_blocks(), "metadata": frame.metadata}
    outputs: dict[str, Any] = {}
    with bounded_work():
        for name, (compiled, kind) in frame.plan.outputs.items():
            where = f"outputs.{name}"
            value = render(compiled, names, where)
            outputs[name] = value if kind is None else _coerce(kind, value, where)
    return outputs


def _coerce(kind: ValueType, value: object, where: str) -> Any:  # noqa: ANN401 - JSON data
    if kind == "str" and isinstance(value, bool | int | float):
        return str(value)
    try:
        return coerce_value(kind, value)
    except ValueError as error:
        raise ExpressionError(f"{where}{error}") from None
