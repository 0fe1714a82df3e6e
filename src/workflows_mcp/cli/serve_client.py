"""`serve` over stdin and stdout. A client waits for its first answer: what reads a command line is not loaded here."""

import asyncio
import gc
import signal
import sys
from typing import TYPE_CHECKING

from workflows_mcp.cli.log import log_libraries
from workflows_mcp.cli.page import say
from workflows_mcp.cli.signals import cancelled_by_signals, first_signal
from workflows_mcp.documents import document

if TYPE_CHECKING:
    from workflows_mcp.settings import Settings

__all__ = ["serve_client"]

_FOR_PEOPLE = (
    'this is an MCP server, which waits for a client to speak with it over stdin: have one start "workflows-mcp" (see '
    "{where}). What people can do: workflows-mcp --help. Ctrl-C ends it"
)

_SECONDS_TO_LOAD = 5.0
"""How long a process that begins to serve looks for no garbage: while modules are loaded there is none, and looking for
it would take a sixth of the time."""


async def serve_client(settings: "Settings") -> int:
    """Be the server of the client that has started this process, until it closes stdin, or somebody stops it.

    Returns:
        0: the client ended it, or SIGTERM.
    """
    gc.disable()
    asyncio.get_running_loop().call_later(_SECONDS_TO_LOAD, _collect_garbage)
    from workflows_mcp.server.stdio import serve_stdio

    log_libraries("mcp")
    try:
        with cancelled_by_signals():
            if sys.stdin.isatty():
                say(_FOR_PEOPLE.format(where=document("mcp")))
            await serve_stdio(settings)
    except asyncio.CancelledError:
        ended_by = first_signal()
        if ended_by is None:  # Ctrl-C, before anybody listened
            raise
        if ended_by == signal.SIGINT:
            raise KeyboardInterrupt from None
    return 0


def _collect_garbage() -> None:
    """Look for garbage from now on, but not among what was loaded: that stays to the end."""
    gc.freeze()
    gc.enable()
