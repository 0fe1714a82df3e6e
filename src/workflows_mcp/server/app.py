"""The MCP server, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mcp.server import MCPServer

import workflows_mcp
from workflows_mcp.server.services import Services, open_services
from workflows_mcp.server.tools import running
from workflows_mcp.server.tools.tool import add_tools

if TYPE_CHECKING:
    from workflows_mcp.settings import Settings

__all__ = ["build_server"]

_INSTRUCTIONS = """Runs workflows whose state survives crashes, restarts and long waits for people.
"""


def build_server(work: "Settings | Services") -> MCPServer[Services]:
    """The server with all that it offers.

    Args:
        work: What it works with, opened and closed by the caller; or the settings, by which the server opens it when
            it begins to serve, and closes it at the end.
    """

    @asynccontextmanager
    async def lifespan(_: MCPServer[Services]) -> AsyncIterator[Services]:
        if isinstance(work, Services):
            yield work
            return
        async with open_services(work, at_once=False) as services:
            yield services

    server = MCPServer[Services](
        "workflows-mcp",
        title="Workflows",
        instructions=_INSTRUCTIONS,
        version=workflows_mcp.__version__,
        website_url="https://github.com/workflows-mcp/workflows-mcp",
        lifespan=lifespan,
        log_level="WARNING",
    )
    add_tools(server, running.TOOLS)
    return server
