"""Serves one client over stdin and stdout."""

from typing import TYPE_CHECKING

from workflows_mcp.server.app import build_server

if TYPE_CHECKING:
    from workflows_mcp.settings import Settings

__all__ = ["serve_stdio"]


async def serve_stdio(settings: "Settings") -> None:
    """Serve the client at the other end of stdin and stdout, until it closes them."""
    await build_server(settings).run_stdio_async()
