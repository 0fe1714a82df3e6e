"""What a model is told when something goes wrong: what happened, and what to do next, in words of the tools."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from pydantic import ValidationError

from workflows_mcp.errors import (
    CheckpointAlreadyClaimedError,
    CheckpointDecodeError,
    CheckpointNotFoundError,
    LeaseLostError,
    SchemaOutOfDateError,
    SchemaTooNewError,
    SecretError,
    StoreConfigurationError,
    StoreFullError,
    StoreUnavailableError,
    WorkflowsError,
    place_of,
)

__all__ = ["explain", "explain_call"]

_NO_ANSWER_TO_A_FORM = "Resolver '"
"""What the SDK's messages begin with about a form that was accepted with anything but what it asks for."""

_log = logging.getLogger(__name__)

Arguments = Mapping[str, Any]


def explain_call(error: ToolError, what: str, arguments: Arguments, parameters: list[str]) -> str:
    """What a model is told of a call that failed; an error that nobody has foreseen is logged.

    Args:
        error: What the SDK makes of whatever was raised.
        what: Names the tool.
        arguments: What it was called with.
        parameters: What it can be called with.
    """
    cause = error.__cause__
    if isinstance(cause, ToolError) and str(cause).startswith(_NO_ANSWER_TO_A_FORM):
        return (
            "your user's client did not send what its form asks for, one text as response: nothing was done, and the "
            "run still waits. Call again to have them asked again, or ask them yourself, and pass their answer on as "
            "response"
        )
    if cause is None:
        return str(error)
    if isinstance(error, UnexpectedToolError):
        return explain(cause, what, arguments)
    return _wrong_arguments(what, cause, parameters) if isinstance(cause, ValidationError) else str(cause)


def explain(error: BaseException, what: str, arguments: Arguments) -> str:
    """What a model is told of an error; one that nobody has foreseen is logged, by its type and its place alone.

    Args:
        error: What was raised.
        what: Names what was called.
        arguments: What it was called with; the names of a run or of a checkpoint are taken from them.
    """
    for kind, text in _TEXTS.items():
        if isinstance(error, kind):
            return text(error, arguments)
    # Those two are ValueErrors as well, and quote what they could not read.
    if isinstance(error, WorkflowsError | ValueError) and not isinstance(error, ValidationError | UnicodeError):
        return str(error)
    _log.error("%s failed: unexpected %s%s: a bug; please report it", what, type(error).__name__, place_of(error))
    return (
        f"{what} failed unexpectedly ({type(error).__name__}), which is a fault of the server: its log says where. "
        "Whether anything was done is not known: list_runs and get_run show what there is"
    )


def _not_found(error: Exception, arguments: Arguments) -> str:
    if checkpoint_id := arguments.get("checkpoint_id"):
        return (
            f"there is no checkpoint {checkpoint_id!r}: it was deleted, or the id is another one. list_checkpoints "
            'shows those that there are, with status="paused" those that wait for an answer'
        )
    if run_id := arguments.get("run_id"):
        return f"there is no run {run_id!r}: it was deleted, or the id is another one. list_runs shows what there is"
    return str(error)


def _claimed(error: Exception, arguments: Arguments) -> str:
    checkpoint_id = arguments.get("checkpoint_id")
    if checkpoint_id is None:
        return f"{error}. get_run shows what becomes of the run"
    return (
        f"checkpoint {checkpoint_id!r} was answered already, or is being answered now, by somebody else: nothing was "
        "done. list_runs and get_run show what becomes of its run"
    )


def _lost(_error: Exception, _arguments: Arguments) -> str:
    return (
        "the run was cancelled, deleted, or taken over by another server while it was at work here. get_run shows what "
        "has become of it"
    )


def _away(error: Exception, _arguments: Arguments) -> str:
    return f"{error}. If it is so again in a minute, no tool can mend that: tell your user, or whoever runs this server"


def _for_the_operator(error: Exception, _arguments: Arguments) -> str:
    return f"{error}. No tool can mend that: tell your user, or whoever runs this server"


_TEXTS: dict[type[Exception], Callable[[Exception, Arguments], str]] = {
    CheckpointNotFoundError: _not_found,
    CheckpointAlreadyClaimedError: _claimed,
    LeaseLostError: _lost,
    **dict.fromkeys(
        (
            CheckpointDecodeError,
            SchemaOutOfDateError,
            SchemaTooNewError,
            SecretError,
            StoreConfigurationError,
            StoreFullError,
        ),
        _for_the_operator,
    ),
    StoreUnavailableError: _away,
}
"""What is told of errors whose own texts are for people with a command line, or for programmers."""


def _wrong_arguments(what: str, error: ValidationError, parameters: list[str]) -> str:
    """What is wrong with the arguments of a call, without a word of what they were."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            problems.append(f"there is no parameter {name!r}; there are {', '.join(parameters)}")
        elif problem["type"] == "missing":
            problems.append(f"{name} is missing")
        else:
            problems.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}")
    return f"{what} was not called: {'; '.join(problems)}"
