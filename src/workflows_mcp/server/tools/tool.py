"""What every tool is made of."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations

from workflows_mcp.server.failures import told_to_the_model
from workflows_mcp.server.services import Services

__all__ = ["READS", "Call", "Tool", "add_tools", "services_of"]

Call = Context[Services, Any]
"""The call of a tool: a parameter of this type is given by the SDK, and no model sees it."""

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
"""Of a tool that changes nothing."""


@dataclass(frozen=True)
class Tool:
    """A tool as the server offers it; its name is its function's, its description the function's docstring.

    Attributes:
        function: What it does.
        title: What people see.
        annotations: What a client may assume about it, before it asks its user.
    """

    function: Callable[..., Awaitable[Any]]
    title: str
    annotations: ToolAnnotations


async def services_of(call: Call) -> Services:
    """What the server works with, once the database is fit to be used.

    Raises:
        CheckpointStoreError: It is not.
    """
    services = call.request_context.lifespan_context
    await services.prepare()
    return services


def add_tools(server: MCPServer[Services], tools: tuple[Tool, ...]) -> None:
    """Offer some tools."""
    for tool in tools:
        server.add_tool(told_to_the_model(tool.function), title=tool.title, annotations=tool.annotations)
