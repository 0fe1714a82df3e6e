"""The routes of the server, behind its guard; every request is counted, and none ends in a traceback."""

import asyncio
import logging
import time

from workflows_mcp.server.http.callers import Callers
from workflows_mcp.server.http.exchange import App, Message, Pages, Receive, Scope, Send, reply
from workflows_mcp.server.http.guard import Guard, Route
from workflows_mcp.server.http.metrics import answer_metrics
from workflows_mcp.server.http.readiness import Readiness, answer_alive
from workflows_mcp.server.http.tokens import Tokens
from workflows_mcp.server.ui.paths import UI_PATH
from workflows_mcp.settings import Settings
from workflows_mcp.telemetry.serving import ServerTally

__all__ = ["MCP_PATH", "build_app", "max_body_bytes"]

_log = logging.getLogger(__name__)

MCP_PATH = "/mcp"


def build_app(
    *,
    mcp: App | None,
    ui: Pages | None,
    settings: Settings,
    port: int,
    tokens: Tokens,
    readiness: Readiness,
    tally: ServerTally,
    most_requests: int,
) -> App:
    """What is served.

    Args:
        mcp: Speaks MCP; None: nothing does.
        ui: Serves the pages for people; None: there are none.
        settings: Say who may call.
        port: Where the server listens.
        tokens: What callers must show.
        readiness: Whether it can do its work.
        tally: Where requests are counted.
        most_requests: How many may be at work at a time, whether or not their clients still wait.
    """
    routes = [
        Route("/healthz", answer_alive, is_open=True),
        Route("/readyz", readiness.answer, is_open=True),
        Route("/metrics", answer_metrics),
    ]
    if ui is not None:
        routes.append(Route("/", _lead_to_pages, has_pages=True))
        routes.insert(0, _route_of(ui))
    if mcp is not None:
        routes.insert(0, Route(MCP_PATH, mcp, ("GET", "POST", "DELETE"), takes_bodies=True))
    guard = Guard(
        tuple(routes),
        callers=Callers(port, frozenset(settings.http_allowed_hosts), frozenset(settings.http_allowed_origins)),
        tokens=tokens,
        max_body_bytes=max_body_bytes(settings),
        is_stopping=lambda: readiness.is_stopping,
    )
    return _Counted(guard, tally, most_requests)


def _route_of(pages: Pages) -> Route:
    return Route(
        UI_PATH,
        pages.serve,
        ("GET", "HEAD", "POST"),
        takes_bodies=True,
        most_body=pages.most_body,
        has_pages=True,
    )


async def _lead_to_pages(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Send whoever types no more than the server's name to the pages."""
    await reply(send, 303, b"", headers=((b"location", UI_PATH.encode()),))


def max_body_bytes(settings: Settings) -> int:
    """The largest body of a request."""
    return max(int(settings.http_max_body_mb * 2**20), 1)


class _Counted:
    """Counts and logs requests, and answers those whose answer failed."""

    def __init__(self, guard: Guard, tally: ServerTally, most_requests: int) -> None:
        self._guard = guard
        self._tally = tally
        self._most_requests = most_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        route = self._guard.name_of(scope)
        status: int | None = None

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._tally.answered(route, str(status), time.perf_counter() - began)
            await send(message)

        self._tally.in_progress += 1
        try:
            if self._tally.in_progress > self._most_requests:
                await reply(
                    watched, 503, "The server has too much to do; try again.\n", headers=((b"retry-after", b"5"),)
                )
            else:
                await self._guard(scope, receive, watched)
        except asyncio.CancelledError:
            if status is None:
                await reply(watched, 503, "The server is being stopped.\n", headers=((b"connection", b"close"),))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is: its text may show what a run works on
            _log.error("a request could not be answered: unexpected %s, a bug", type(error).__name__, exc_info=error)
            if status is None:
                await reply(
                    watched, 500, "The server failed; its log says more.\n", headers=((b"connection", b"close"),)
                )
        finally:
            self._tally.in_progress -= 1
            seconds = time.perf_counter() - began
            if status is None:
                self._tally.answered(route, "none", seconds)
            self._log(scope, route, status, seconds)

    def _log(self, scope: Scope, route: str, status: int | None, seconds: float) -> None:
        if not _log.isEnabledFor(logging.DEBUG):
            return
        client = (scope.get("client") or ("?",))[0]
        # Never the path as it came, nor its query: they may hold anything.
        fields = {
            "method": scope["method"] if scope["method"].isalpha() else "?",
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            "client": client,
        }
        _log.debug("%s %s: %s to %s", fields["method"], route, status, client, extra={"fields": fields})
