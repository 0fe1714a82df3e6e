"""The server over HTTP from its first request to its last."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings

from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.server.http.app import build_app, max_body_bytes
from workflows_mcp.server.http.connections import Connection, connections_in
from workflows_mcp.server.http.doorway import Doorway
from workflows_mcp.server.http.exchange import Pages
from workflows_mcp.server.http.readiness import Readiness
from workflows_mcp.server.http.room import Room, at_a_time, most_connections
from workflows_mcp.server.http.tokens import Tokens
from workflows_mcp.server.services import Services
from workflows_mcp.server.ui.paths import UiOptions
from workflows_mcp.settings import Settings
from workflows_mcp.telemetry import instrument
from workflows_mcp.telemetry.serving import ServerTally

__all__ = ["serve_http"]

_MOST_SESSIONS = 1_000
_IDLE_SECONDS = 30 * 60.0
"""Sessions are kept for clients of older protocols: so many at a time, and none that has been silent for longer."""

_LAST_WORDS_SECONDS = 1.0
"""How long answers may take once runs have ended; then sessions and streams are ended, too."""

_POLL_SECONDS = 0.02


async def serve_http(
    mcp: MCPServer[Any] | None,
    services: Services,
    doorway: Doorway,
    *,
    tokens: Tokens,
    tally: ServerTally,
    stop: asyncio.Event,
    end_runs: Callable[[float], Awaitable[object]],
    ui: UiOptions | None = None,
    on_listening: Callable[[], None] = lambda: None,
) -> None:
    """Serve until somebody stops it.

    Then the port is free at once, runs have the settings' time to come to their next checkpoint, calls get their
    answers, and streams end. Cancelled, all of that is cut short.

    Args:
        mcp: Is served to agents; None: nothing is.
        services: What it works with.
        doorway: Where; its sockets are closed at the end.
        tokens: What callers must show.
        tally: Counts what is asked.
        stop: Ends it.
        end_runs: Ends runs: within so many seconds at their next checkpoint, the others at once.
        ui: How the pages for people are served; None: they are not.
        on_listening: Is called when requests are answered.
    """
    settings = services.settings
    readiness = Readiness(services)
    room = Room(most_connections(), tally)
    sessions = None if mcp is None else _sessions_of(mcp, settings)
    app = build_app(
        mcp=None if sessions is None else sessions.handle_request,
        ui=None if ui is None else await asyncio.to_thread(_build_ui, services, tokens, ui),
        settings=settings,
        port=doorway.port,
        tokens=tokens,
        readiness=readiness,
        tally=tally,
        most_requests=room.most,
    )
    server = _Server(app, room)
    with _shown(services.executor, tally):
        try:
            async with contextlib.nullcontext() if sessions is None else sessions.run():
                await server.begin(doorway)
                on_listening()
                await server.wait_until(stop)
                readiness.is_stopping = True
                server.close_doors()
                await end_runs(settings.http_grace_seconds)
                await server.finish_answers()
            # The sessions are over, and with them their streams.
        finally:
            await server.end()
            await readiness.close()


def _sessions_of(mcp: MCPServer[Any], settings: Settings) -> StreamableHTTPSessionManager:
    mcp.streamable_http_app(
        stateless_http=settings.http_stateless,
        max_request_body_size=max_body_bytes(settings),
        session_idle_timeout=_IDLE_SECONDS,
        max_sessions=_MOST_SESSIONS,
        # The guard has looked at these, and at every route.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return mcp.session_manager


def _build_ui(services: Services, tokens: Tokens, options: UiOptions) -> Pages:
    """Load the pages: their templates are compiled once, and not while the first person waits."""
    from workflows_mcp.server.ui.app import build_ui

    return build_ui(services, tokens, options)


class _Server(uvicorn.Server):
    """uvicorn, with the signals left to whoever started it."""

    def __init__(self, app: Any, room: Room) -> None:  # noqa: ANN401 - uvicorn's types of ASGI are its own
        _silence(logging.getLogger("uvicorn"))
        super().__init__(
            uvicorn.Config(
                app,
                http=connections_in(room),
                ws="none",
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                # Nobody is believed about whom he speaks for.
                proxy_headers=False,
                server_header=False,
                # asyncio accepts as many at once.
                backlog=at_a_time(),
            )
        )
        self._listening = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `uvicorn.Server.capture_signals`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server.startup`."""
        await super().startup(sockets=sockets)
        self._listening.set()

    async def begin(self, doorway: Doorway) -> None:
        """Answer requests from now on."""
        self._serving = asyncio.create_task(self.serve(sockets=list(doorway.sockets)), name="serve HTTP")
        await self.wait_until(self._listening)
        doorway.listen()  # again: asyncio has made the queue as short

    async def wait_until(self, event: asyncio.Event) -> None:
        """Wait for something to happen while the server serves.

        Raises:
            RuntimeError: It serves no more.
        """
        assert self._serving is not None
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({waiting, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not event.is_set():
            raise RuntimeError("the HTTP server ended by itself") from self._serving.exception()

    async def finish_answers(self) -> None:
        """Wait a moment until no call is under way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                while any(one.is_answering for one in self.server_state.connections if isinstance(one, Connection)):  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(_POLL_SECONDS)

    def close_doors(self) -> None:
        """Let nobody in any more; connections end with the answer that is under way."""
        for one in getattr(self, "servers", ()):  # there are none before it has begun
            one.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()

    async def end(self) -> None:
        """End whatever is left."""
        if self._serving is None:
            return
        left = list(self.server_state.tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_LAST_WORDS_SECONDS)
        self.close_doors()
        for connection in list(self.server_state.connections):
            connection.transport.close()
        # By itself it would look for its end every tenth of a second.
        self._serving.cancel()
        await asyncio.wait({self._serving})


@contextlib.contextmanager
def _shown(executor: WorkflowExecutor, tally: ServerTally) -> Iterator[None]:
    """Let Prometheus see what is done."""
    from workflows_mcp.telemetry.exporter import Exporter

    with instrument(executor) as instrumentation:
        instrumentation.undo_with(Exporter.of(None).watch_server(tally))
        yield


def _silence(logger: logging.Logger) -> None:
    """Keep a library from logging: what matters is logged by us, without what a client sent."""
    logger.propagate = False
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())
