"""What callers of an executor give it, looked at before anything is done with it."""

from collections.abc import Mapping
from typing import Any

from workflows_mcp.engine.filters import check_seconds
from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["MAX_RESPONSE_CHARACTERS", "check_inputs", "check_patience", "check_response", "check_same_workflow"]

MAX_RESPONSE_CHARACTERS = 2**20
"""The longest answer that is taken."""


def check_inputs(inputs: object) -> dict[str, Any]:
    """The inputs of a run, by name.

    Raises:
        WorkflowDefinitionError: They are no mapping.
    """
    if inputs is None:
        return {}
    if not isinstance(inputs, Mapping):
        raise WorkflowDefinitionError(
            f"the inputs of a run are a mapping of names to values, not {type(inputs).__name__}"
        )
    return dict(inputs)


def check_response(response: object) -> None:
    """Make sure that something can be an answer.

    Raises:
        ValueError: It cannot.
    """
    if not isinstance(response, str):
        raise ValueError(f"an answer must be a str, not {type(response).__name__}")  # noqa: TRY004 - the contract's
    if len(response) > MAX_RESPONSE_CHARACTERS:
        raise ValueError(f"an answer has at most {MAX_RESPONSE_CHARACTERS:,} characters, not {len(response):,}")
    try:
        response.encode()
    except UnicodeEncodeError:
        raise ValueError("an answer must not hold a lone surrogate") from None


def check_same_workflow(run_id: str, workflow_name: str | None, wanted: str) -> None:
    """Make sure that a run is one of the workflow that is asked for; None: it is not known yet.

    Raises:
        ValueError: It is not.
    """
    if workflow_name not in {None, wanted}:
        raise ValueError(
            f"run {run_id!r} is a run of workflow {workflow_name!r}, not of {wanted!r}; choose another run_id"
        )


def check_patience(what: str, seconds: object) -> float:
    """How many seconds to wait.

    Raises:
        ValueError: It is not a finite number of at least 0.
    """
    patience = check_seconds(what, seconds)
    if patience < 0:
        raise ValueError(f"{what} must be at least 0")
    return patience
