"""A server of a test's own, over real connections, with tools that do what tests need."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from pydantic import SecretStr

from workflows_mcp.server.counting import CallCounter
from workflows_mcp.server.http.doorway import open_doorway
from workflows_mcp.server.http.serving import serve_http
from workflows_mcp.server.http.tokens import load_tokens
from workflows_mcp.server.services import open_services
from workflows_mcp.server.ui.paths import UiOptions
from workflows_mcp.settings import Settings
from workflows_mcp.telemetry.serving import ServerTally

__all__ = ["TOKEN", "Served", "browser", "modern_call", "serving", "settings_of"]

TOKEN = "the-test-token-Zx81Qk27Lm93Rv55Tn60"


@dataclass
class Served:
    """A server that serves.

    Attributes:
        url: Where, without a path.
        port: Its port.
        stop: Ends it.
        gate: Lets the tool `wait` answer.
        waiting: Is set once `wait` is called.
        ended: The seconds that runs were given, each time that they were ended.
        task: Serves.
    """

    url: str
    port: int
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[float] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None

    @property
    def mcp(self) -> str:
        """Where MCP is spoken."""
        return f"{self.url}/mcp"

    @asynccontextmanager
    async def client(self, token: str | None = None, mode: Any = "auto") -> AsyncIterator[Client]:
        """The SDK's client, connected."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        async with (
            browser(headers=headers) as http,
            Client(streamable_http_client(self.mcp, http_client=http), mode=mode) as client,
        ):
            yield client

    async def finish(self) -> None:
        """Stop it, and wait for its end."""
        self.stop.set()
        assert self.task is not None
        await self.task


def browser(**options: Any) -> httpx2.AsyncClient:
    """A client that sends what it is told to. It needs no certificates, which take long to load."""
    return httpx2.AsyncClient(verify=False, **options)


def settings_of(database: Path | str, **others: Any) -> Settings:
    """Settings with a database."""
    return Settings(database_url=SecretStr(str(database)), **others)


@asynccontextmanager
async def serving(
    settings: Settings,
    *,
    port: int = 0,
    end_runs: Callable[[float], Awaitable[object]] | None = None,
    ui: UiOptions | None = None,
) -> AsyncIterator[Served]:
    """Serve, in a task of its own; ended at the latest with the block."""
    tally = ServerTally()
    mcp = MCPServer("test", log_level="WARNING", middleware=[CallCounter(tally, {"echo", "wait"})])
    tokens = load_tokens(settings)
    with open_doorway(settings.http_host, port) as doorway:
        served = Served(doorway.origin, doorway.port)
        _offer(mcp, served)

        async def end(seconds: float) -> None:
            served.ended.append(seconds)
            if end_runs is not None:
                await end_runs(seconds)

        listening = asyncio.Event()

        async def serve() -> None:
            async with open_services(settings) as services:
                await services.prepare()
                await serve_http(
                    mcp,
                    services,
                    doorway,
                    tokens=tokens,
                    tally=tally,
                    stop=served.stop,
                    end_runs=end,
                    ui=ui,
                    on_listening=listening.set,
                )

        served.task = asyncio.create_task(serve())
        is_listening = asyncio.create_task(listening.wait())
        await asyncio.wait({served.task, is_listening}, return_when=asyncio.FIRST_COMPLETED)
        try:
            yield served
        finally:
            is_listening.cancel()
            served.stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                await served.task


def _offer(mcp: MCPServer[Any], served: Served) -> None:
    @mcp.tool()
    async def echo(text: str) -> str:
        """Give back what it is given."""
        return text

    @mcp.tool()
    async def wait() -> str:
        """Answer when it is let."""
        served.waiting.set()
        await served.gate.wait()
        return "done"


def modern_call(tool: str, **arguments: object) -> tuple[dict[str, str], dict[str, object]]:
    """The headers and the body of a call as a client of the current protocol makes it."""
    version = "2026-07-28"
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": version,
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    return headers, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
