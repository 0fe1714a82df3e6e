"""`serve`: the MCP server."""

import asyncio
import sys

from workflows_mcp.cli.log import log_libraries
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options
from workflows_mcp.cli.page import say
from workflows_mcp.cli.signals import cancelled_by_signals, was_interrupted

__all__ = ["serve"]

_FOR_PEOPLE = (
    'this is an MCP server, which waits for a client to speak with it over stdin: have one start "workflows-mcp" (see '
    "{where}). What people can do: workflows-mcp --help. Ctrl-C ends it"
)


async def serve(*, options: Options = DEFAULT_OPTIONS) -> int:
    """Be an MCP server over stdin and stdout, up to the end of stdin: an MCP client starts it, and speaks to it.

    The bare `workflows-mcp` is the same. Logs go to stderr.

    Args:
        options: What every command takes.

    Returns:
        0, also when SIGTERM ends it: what was at work then goes on with the next server.
    """
    from workflows_mcp.documents import document
    from workflows_mcp.server.stdio import serve_stdio

    settings = options.settings()
    log_libraries("mcp")
    if sys.stdin.isatty():
        say(_FOR_PEOPLE.format(where=document("mcp")))
    try:
        with cancelled_by_signals():
            await serve_stdio(settings)
    except asyncio.CancelledError:
        if was_interrupted():
            raise KeyboardInterrupt from None
    return 0
