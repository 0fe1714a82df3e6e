"""The MCP server, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mcp.server import MCPServer

import workflows_mcp
from workflows_mcp.server.counting import CallCounter
from workflows_mcp.server.request_state import request_state_security
from workflows_mcp.server.services import Services, open_services
from workflows_mcp.server.tools import running
from workflows_mcp.server.tools.tool import add_tools

if TYPE_CHECKING:
    from workflows_mcp.settings import Settings
    from workflows_mcp.telemetry.serving import ServerTally

__all__ = ["build_server"]

_INSTRUCTIONS = """Runs workflows whose state survives crashes, restarts and long waits for people.
"""


def build_server(work: "Settings | Services", *, tally: "ServerTally | None" = None) -> MCPServer[Services]:
    """The server with all that it offers.

    Args:
        work: What it works with, opened and closed by the caller; or the settings, by which the server opens it when
            it begins to serve, and closes it at the end.
        tally: Where calls of tools are counted; None: nowhere.

    Raises:
        StoreConfigurationError: A token for HTTP is not fit to be one.
    """

    @asynccontextmanager
    async def lifespan(_: MCPServer[Services]) -> AsyncIterator[Services]:
        if isinstance(work, Services):
            yield work
            return
        async with open_services(work) as services:
            yield services

    names: set[str] = set()
    server = MCPServer[Services](
        "workflows-mcp",
        title="Workflows",
        instructions=_INSTRUCTIONS,
        version=workflows_mcp.__version__,
        website_url="https://github.com/workflows-mcp/workflows-mcp",
        lifespan=lifespan,
        log_level="WARNING",
        request_state_security=request_state_security(work.settings if isinstance(work, Services) else work),
        middleware=None if tally is None else [CallCounter(tally, names)],
    )
    add_tools(server, running.TOOLS)
    names.update(tool.function.__name__ for tool in running.TOOLS)
    return server
