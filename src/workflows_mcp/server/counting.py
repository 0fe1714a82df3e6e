"""Counts calls of tools, for those who watch a server."""

import asyncio
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from mcp_types.methods import is_input_required

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

    from workflows_mcp.telemetry.serving import ServerTally

__all__ = ["CallCounter"]


class CallCounter:
    """A middleware of a server that counts what calls come to; see the SDK's `ServerMiddleware`.

    Args:
        tally: Where they are counted.
        tools: The names of the tools that there are: others are counted as `other`.
    """

    def __init__(self, tally: "ServerTally", tools: Collection[str]) -> None:
        self._tally = tally
        self._tools = tools

    async def __call__(self, ctx: "ServerRequestContext[Any, Any]", call_next: "CallNext") -> "HandlerResult":
        """Make a call, and count it."""
        if ctx.method != "tools/call":
            return await call_next(ctx)
        name = (ctx.params or {}).get("name")
        tool = name if isinstance(name, str) and name in self._tools else "other"
        began, outcome = time.perf_counter(), "refused"
        try:
            result = await call_next(ctx)
            outcome = _outcome(result)
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._tally.called(tool, outcome, time.perf_counter() - began)
        return result


def _outcome(result: "HandlerResult") -> str:
    if is_input_required(result):
        return "asked"
    is_error = result.get("isError") if isinstance(result, dict) else getattr(result, "is_error", False)
    return "error" if is_error else "ok"
