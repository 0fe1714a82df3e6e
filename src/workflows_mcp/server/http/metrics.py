"""Metrics for Prometheus, over HTTP."""

import asyncio

from workflows_mcp.server.http.exchange import Receive, Scope, Send, reply
from workflows_mcp.telemetry.metrics import rendered

__all__ = ["answer_metrics"]


async def answer_metrics(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Serve what is counted in this process."""
    # In a thread, where a look at the database is waited for a moment.
    body, kind = await asyncio.to_thread(rendered)
    await reply(send, 200, body, kind=kind)
