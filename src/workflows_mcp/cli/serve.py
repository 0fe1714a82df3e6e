"""`serve`: the MCP server."""

from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options

__all__ = ["serve"]


async def serve(*, options: Options = DEFAULT_OPTIONS) -> int:
    """Be an MCP server over stdin and stdout, up to the end of stdin: an MCP client starts it, and speaks to it.

    Args:
        options: What every command takes.

    Returns:
        0.
    """
    from workflows_mcp.server.stdio import serve_stdio

    await serve_stdio(options.settings())
    return 0
