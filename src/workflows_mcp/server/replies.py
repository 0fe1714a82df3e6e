"""What the tools answer: data for programs, and a short text that says the same to a model."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from workflows_mcp.engine.result import ResultStatus, WorkflowResult
from workflows_mcp.server.visible import visible

if TYPE_CHECKING:
    from workflows_mcp.server.services import Services

__all__ = ["RunReply", "cut", "reply", "run_reply", "run_text"]

_MOST_CHARACTERS = 8000
_MOST_CHOICES = 50


class RunReply(BaseModel):
    """What a run has come to."""

    status: Annotated[
        ResultStatus,
        Field(
            description="success, failure or cancelled: it is over. paused: it waits for an answer, which "
            "resume_workflow gives. running: it is still at work; get_run follows it."
        ),
    ]
    run_id: Annotated[str, Field(description="Names the run: for get_run and cancel_run.")]
    workflow: Annotated[str, Field(description="The workflow's name.")]
    outputs: Annotated[dict[str, Any], Field(description="The workflow's outputs, once it has succeeded.")]
    error: Annotated[str | None, Field(description="Why it failed; names the blocks.")] = None
    checkpoint_id: Annotated[
        str | None, Field(description="The run's newest checkpoint: for resume_workflow and fork_run.")
    ] = None
    prompt: Annotated[str | None, Field(description="What a human is asked, while it is paused.")] = None
    choices: Annotated[
        list[str] | None, Field(description="What may be answered; null: any text, or what matches the pattern.")
    ] = None
    pattern: Annotated[
        str | None, Field(description="A regular expression that the whole answer must match; null: any text.")
    ] = None


def reply(data: BaseModel, text: str) -> CallToolResult:
    """The answer of a tool: data for programs, and a text for whoever reads.

    The tool's return type is `Annotated[CallToolResult, Model]`, by which the SDK publishes the model's schema.
    """
    return CallToolResult(
        content=[TextContent(type="text", text=visible(text))], structured_content=data.model_dump(mode="json")
    )


def run_reply(
    services: "Services",
    result: WorkflowResult,
    *,
    workflow: str,
    question: Mapping[str, Any] | None = None,
    asks: bool = False,
    note: str = "",
) -> CallToolResult:
    """The answer of a tool that is about one run. It tells no secret, also where a run keeps what is one by now.

    Args:
        services: What the server works with.
        result: What the run has come to.
        workflow: The workflow's name.
        question: The `pause_metadata` of its checkpoint, while it is paused.
        asks: Whether the client would show the question to its user by itself.
        note: A sentence that the text begins with.
    """
    question = services.without_secrets(dict(question or {}))
    data = _run_data(services, result, workflow, question)
    return reply(data, run_text(data, question, asks=asks, note=note))


def _run_data(services: "Services", result: WorkflowResult, workflow: str, question: Mapping[str, Any]) -> RunReply:
    """The data of such an answer."""
    return RunReply(
        status=result.status,
        run_id=result.run_id,
        workflow=workflow,
        outputs=services.without_secrets(result.outputs),
        error=services.without_secrets(result.error),
        checkpoint_id=result.checkpoint_id,
        prompt=services.without_secrets(result.prompt),
        choices=question.get("choices"),
        pattern=question.get("pattern"),
    )


def run_text(
    data: RunReply,
    question: Mapping[str, Any] | None,
    *,
    asks: bool,
    note: str = "",
    taken_up_within: float | None = None,
) -> str:
    """The text of such an answer; see `run_reply`.

    Args:
        data: The answer.
        question: See `run_reply`.
        asks: See `run_reply`.
        note: See `run_reply`.
        taken_up_within: Within how many seconds a server takes it up again; None: it is not known to be abandoned.
    """
    status, means = str(data.status), _MEANS[data.status]
    if taken_up_within is not None:
        status = "interrupted"
        means = (
            ". Nobody works on it: its process died, or was stopped. A server that can run it takes it up again within "
            f"about {taken_up_within:g} s."
        )
    parts = [note, f"{status}: run {data.run_id} of workflow {data.workflow!r}{means}"]
    if data.status == "success":
        outputs = json.dumps(data.outputs, ensure_ascii=False, indent=2)
        parts.append(f"Outputs: {cut(outputs, 'the structured content has all of it')}" if data.outputs else "")
    elif data.status == "failure":
        parts.append(cut(data.error or "", "get_run has all of it"))
    elif data.status == "paused":
        parts += [cut(data.prompt or "", "the structured content has all of it"), _what_is_taken(question or {})]
    return "\n\n".join(part for part in [*parts, _what_next(data, asks=asks)] if part)


def cut(text: str, rest: str, *, most: int = _MOST_CHARACTERS) -> str:
    """A text of a sensible length, which says so where it is not whole.

    Args:
        text: Any.
        rest: Says where all of it is.
        most: How many characters are kept.
    """
    return text if len(text) <= most else f"{text[:most]}… (the first {most:,} of {len(text):,} characters; {rest})"


_MEANS: dict[ResultStatus, str] = {
    "success": ".",
    "failure": " failed:",
    "paused": " waits for an answer to:",
    "cancelled": ".",
    "running": " is at work.",
}


def _what_is_taken(told: Mapping[str, Any]) -> str:
    """What an answer must be, and what happens without one."""
    sentences = []
    if choices := told.get("choices"):
        more = len(choices) - _MOST_CHOICES
        listed = ", ".join(json.dumps(one, ensure_ascii=False) for one in choices[:_MOST_CHOICES])
        sentences.append(f"The answer must be one of: {listed}{f' and {more} more' if more > 0 else ''}.")
    elif pattern := told.get("pattern"):
        sentences.append(f"The whole answer must match the regular expression {pattern}")
    if "default" in told and "expires_at" in told and not told.get("pending"):  # else it is the time of another one
        until = datetime.fromtimestamp(told["expires_at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
        default = json.dumps(told["default"], ensure_ascii=False)
        sentences.append(f"Without an answer by {until} UTC, the run goes on with {default}.")
    return "\n".join(sentences)


def _what_next(data: RunReply, *, asks: bool) -> str:
    """What to do next, in words of the tools."""
    checkpoint, run = f"checkpoint_id={json.dumps(data.checkpoint_id)}", f"run_id={json.dumps(data.run_id)}"
    match data.status:
        case "paused" if asks:
            return (
                f"Next: call resume_workflow with {checkpoint} and no response: your user is then asked directly. If "
                "they have told you already, pass it on as response."
            )
        case "paused":
            return (
                "Next: ask your user, and do not answer in their place. Then call resume_workflow with "
                f"{checkpoint} and response=THE ANSWER, now or at any later time."
            )
        case "running":
            return f"Next: get_run with {run} tells what it has come to; cancel_run ends it."
        case "failure" if data.checkpoint_id is not None:
            return (
                f"Next: once the cause is gone, fork_run with {checkpoint} tries again what failed, and keeps the "
                "rest; with inputs={…} if the cause lies in these, and nobody has answered a question of the run."
            )
        case "cancelled" if data.checkpoint_id is not None:
            return f"fork_run with {checkpoint} would begin a new run where this one was."
    return ""
