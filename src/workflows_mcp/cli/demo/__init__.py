"""`workflows-mcp demo`: a run that survives kill -9, to watch."""

from workflows_mcp.cli.demo.command import demo

__all__ = ["demo"]
