"""Tools that run workflows."""

from typing import Annotated, Any

from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field

from workflows_mcp.server.replies import RunReply, reply
from workflows_mcp.server.tools.tool import Call, Tool, services_of

__all__ = ["TOOLS"]


async def execute_workflow(
    call: Call,
    workflow: Annotated[str, Field(description="The workflow's name, as list_workflows has it.")],
    inputs: Annotated[
        dict[str, Any] | None, Field(description="Its inputs by name; get_workflow_info lists them.")
    ] = None,
) -> Annotated[CallToolResult, RunReply]:
    """Run a workflow, to its end or to a question for a human."""
    services = await services_of(call)
    result = await services.executor.execute_workflow(workflow, inputs)
    return reply(RunReply(**result.to_dict()), f"{result.status}: run {result.run_id}")


TOOLS = (
    Tool(
        execute_workflow,
        "Run a workflow",
        ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True),
    ),
)
