"""What the tools answer: data for programs, and a short text that says the same to a model."""

from typing import Annotated, Any

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from workflows_mcp.engine.result import ResultStatus

__all__ = ["RunReply", "reply"]


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
    outputs: Annotated[dict[str, Any], Field(description="The workflow's outputs, once it has succeeded.")]
    error: Annotated[str | None, Field(description="Why it failed; names the blocks.")] = None
    checkpoint_id: Annotated[
        str | None, Field(description="The run's newest checkpoint: for resume_workflow and fork_run.")
    ] = None
    prompt: Annotated[str | None, Field(description="What a human is asked, while it is paused.")] = None


def reply(data: BaseModel, text: str) -> CallToolResult:
    """The answer of a tool: data for programs, and a text for whoever reads.

    The tool's return type is `Annotated[CallToolResult, Model]`, by which the SDK publishes the model's schema.
    """
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=data.model_dump(mode="json")
    )
