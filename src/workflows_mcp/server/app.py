"""The MCP server, put together."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from mcp.server import MCPServer

import workflows_mcp
from workflows_mcp.server.completions import add_completions
from workflows_mcp.server.counting import CallCounter
from workflows_mcp.server.prompts import add_prompts
from workflows_mcp.server.request_state import request_state_security
from workflows_mcp.server.resources import add_resources
from workflows_mcp.server.services import Services, open_services
from workflows_mcp.server.tools import checkpoints, running, runs, workflows
from workflows_mcp.server.tools.tool import offered
from workflows_mcp.server.visible import send_what_can_be_sent

if TYPE_CHECKING:
    from workflows_mcp.server.http.tokens import Tokens
    from workflows_mcp.settings import Settings
    from workflows_mcp.telemetry.serving import ServerTally

__all__ = ["build_server"]

_TOOLS = (*workflows.TOOLS, *running.TOOLS, *runs.TOOLS, *checkpoints.TOOLS)

_INSTRUCTIONS = """Runs workflows, written in YAML, whose state survives crashes, restarts and long waits for people.

The life of a run:
1. list_workflows shows what there is, get_workflow_info which inputs one takes.
2. execute_workflow begins a run. Its status is success, failure, paused, cancelled or running.
3. paused: it asks a human what stands in prompt. Put that to your user word for word, and do not answer for them.
4. resume_workflow gives the answer to that checkpoint_id, now or next week, from any session, and the run goes on.
5. running: get_run follows it, cancel_run ends it. A run goes on when the call that began it ends; while no server
   runs, it stands still, and the next one goes on with it.
6. failure: error names the blocks. fork_run begins a new run that keeps what was done, and tries again what failed.
"""


def build_server(
    work: "Settings | Services", *, tokens: "Tokens | None" = None, tally: "ServerTally | None" = None
) -> MCPServer[Services]:
    """The server with all that it offers.

    Args:
        work: What it works with, opened and closed by the caller; or the settings, by which the server opens it when
            it begins to serve, and closes it at the end.
        tokens: What callers must show over HTTP, by which answers are taken to what another process has asked.
        tally: Where calls of tools are counted; None: nowhere.
    """
    settings = work.settings if isinstance(work, Services) else work

    @asynccontextmanager
    async def lifespan(_: MCPServer[Services]) -> AsyncIterator[Services]:
        if isinstance(work, Services):
            yield work
            return
        async with open_services(work, at_once=False) as services:
            yield services

    tools = offered(_TOOLS, settings)
    counters = [] if tally is None else [CallCounter(tally, {tool.name for tool in tools})]
    with _root_logger_left_alone():
        server = MCPServer[Services](
            "workflows-mcp",
            title="Workflows",
            instructions=_INSTRUCTIONS,
            version=workflows_mcp.__version__,
            website_url="https://github.com/workflows-mcp/workflows-mcp",
            lifespan=lifespan,
            log_level="WARNING",
            tools=tools,
            request_state_security=request_state_security(tokens),
            middleware=[send_what_can_be_sent, *counters],
        )
    add_resources(server)
    add_prompts(server)
    add_completions(server)
    return server


@contextmanager
def _root_logger_left_alone() -> Iterator[None]:
    """Keep the SDK from printing whatever any library logs, with tracebacks and all that they quote."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    try:
        yield
    finally:
        root.removeHandler(silent)
