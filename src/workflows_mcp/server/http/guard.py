"""What stands before every route: the name and the origin of a request, its token, the size of its body."""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

from workflows_mcp.server.http.callers import Callers, is_same_origin
from workflows_mcp.server.http.exchange import App, Message, Receive, Refusal, Scope, Send, header_of, reply
from workflows_mcp.server.http.tokens import Tokens

__all__ = ["Guard", "Route"]

_log = logging.getLogger(__name__)

_BODY_SECONDS = 60.0
"""How long a client may take to send a body: 4 MiB over half a megabit a second."""

_HINT = " Whoever runs the server sets that by WORKFLOWS_HTTP_MAX_BODY_MB."

_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)

_PREFLIGHT_SECONDS = b"600"

_SENT_BY_BROWSERS = frozenset({"accept", "authorization", "content-type", "last-event-id"})
"""Headers that a page may send, besides those that begin with `mcp-`."""


@dataclass(frozen=True)
class Route:
    """A place that can be called.

    Attributes:
        name: Its path.
        app: Answers.
        methods: Of HTTP.
        takes_bodies: Whether a request may have a body.
        most_body: How many bytes of one a request may have, by its head alone; 0: none is read, and it is answered
            without; None: as many as any. For a route that asks for tokens by itself, and so before a body is there.
        is_open: Whether it needs no token, and answers to any name: a probe knows neither.
        has_pages: Whether it is for people in a browser: what lies below it is its own, too, it asks for tokens by
            itself, and serves no pages of another origin but its own.
    """

    name: str
    app: App
    methods: tuple[str, ...] = ("GET", "HEAD")
    takes_bodies: bool = False
    most_body: Callable[[Scope], int | None] | None = None
    is_open: bool = False
    has_pages: bool = False


class Guard:
    """Lets requests through to one of some routes, or refuses them.

    Args:
        routes: The places that can be called.
        callers: Who may call.
        tokens: What they must show; none: nothing.
        max_body_bytes: The largest body of a request.
        is_stopping: Whether the server is about to end: what begins now is not served any more.
    """

    def __init__(
        self,
        routes: tuple[Route, ...],
        *,
        callers: Callers,
        tokens: Tokens,
        max_body_bytes: int,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._routes = {route.name: route for route in routes}
        self._callers = callers
        self._tokens = tokens
        self._max_body_bytes = max_body_bytes
        self._is_stopping = is_stopping

    def name_of(self, scope: Scope) -> str:
        """The route that a request is for, one of few names: `other` for a path that is none."""
        route = self._route_of(scope)
        return "other" if route is None else route.name

    def _route_of(self, scope: Scope) -> Route | None:
        path: str = scope["path"]
        if path in self._routes:
            return self._routes[path]
        return next((one for name, one in self._routes.items() if one.has_pages and path.startswith(f"{name}/")), None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        route = self._route_of(scope)
        origin = header_of(scope, b"origin")
        refusal = self._refuse_caller(scope, route)
        if refusal is None and origin is not None and not (route is not None and route.has_pages):
            send = _telling(send, origin)
            if _is_preflight(scope) and route is not None:
                await reply(send, 200, b"", headers=_allowed(scope, route))
                return
        if refusal is None:
            refusal = self._refuse(scope, route)
        if refusal is None:
            assert route is not None
            body = await self._body(scope, receive, route)
            refusal = self._refuse_late(route) if not isinstance(body, Refusal) else body
            if not isinstance(body, Refusal) and refusal is None:
                await route.app(scope, body, send)
                return
        assert refusal is not None
        client = scope.get("client") or ("?",)
        fields = {"status": refusal.status, "route": self.name_of(scope), "client": client[0]}
        _log.info("a request from %s was refused (%d)", client[0], refusal.status, extra={"fields": fields})
        await reply(send, refusal.status, f"{refusal.text}\n", headers=refusal.headers)

    def _refuse_caller(self, scope: Scope, route: Route | None) -> Refusal | None:
        """Why a request is not for us, or from a page that may not make it."""
        arrived_at, host = (scope.get("server") or (None,))[0], header_of(scope, b"host")
        if not (route is not None and route.is_open) and not self._callers.may_call(host, arrived_at):
            return Refusal(
                421,
                "This server does not answer to the host name of the request. If it should, whoever runs it names it "
                "in WORKFLOWS_HTTP_ALLOWED_HOSTS.",
            )
        origins = [value.decode("latin-1") for key, value in scope["headers"] if key == b"origin"]
        if route is not None and route.has_pages:
            if not all(is_same_origin(origin, host) for origin in origins):
                return Refusal(403, "Pages of another origin may not call this one.")
        elif len(origins) > 1 or not all(self._callers.may_call_from(origin) for origin in origins):
            return Refusal(
                403,
                "Pages of this origin may not call this server. If they should, whoever runs it names it in "
                "WORKFLOWS_HTTP_ALLOWED_ORIGINS.",
            )
        return None

    def _refuse(self, scope: Scope, route: Route | None) -> Refusal | None:
        """Why there is no answer to a request of somebody who may call."""
        if route is None:
            return Refusal(404, f"There is nothing here; there are {', '.join(self._routes)}.")
        if self._tokens and not route.is_open and not route.has_pages:
            shown = _BEARER.fullmatch(header_of(scope, b"authorization") or "")
            if shown is None:
                text = "A token is required: send the header Authorization: Bearer TOKEN."
                return Refusal(401, text, ((b"www-authenticate", b'Bearer realm="workflows-mcp"'),))
            if not self._tokens.accept(shown[1].encode("latin-1")):
                challenge = b'Bearer realm="workflows-mcp", error="invalid_token"'
                return Refusal(401, "The token is not one of this server's.", ((b"www-authenticate", challenge),))
        if scope["method"] not in route.methods:
            allowed = ", ".join(route.methods)
            return Refusal(405, f"This takes {allowed}.", ((b"allow", allowed.encode("ascii")),))
        return None

    async def _body(self, scope: Scope, receive: Receive, route: Route) -> Receive | Refusal:
        """The body of a request, which is then given out again; or why it is not taken."""
        if not route.takes_bodies:
            return await _read(scope, receive, 0)
        most = None if route.most_body is None else route.most_body(scope)
        if most == 0:  # nobody is waited for whose body changes nothing of the answer
            return _giving({"type": "http.request", "body": b"", "more_body": False}, receive)
        if most is None or most >= self._max_body_bytes:
            return await _read(scope, receive, self._max_body_bytes)
        return await _read(scope, receive, most, "")

    def _refuse_late(self, route: Route) -> Refusal | None:
        """Why a request that is there at last is not served any more: its body may have taken its time."""
        if self._is_stopping() and not route.is_open:
            return Refusal(503, "The server is being stopped; try another one, or again.", ((b"retry-after", b"5"),))
        return None


async def _read(scope: Scope, receive: Receive, max_bytes: int, hint: str = _HINT) -> Receive | Refusal:
    """Read a body, which is then given out again; or why it is not taken."""
    declared = header_of(scope, b"content-length")
    if declared is not None and declared.isdecimal() and int(declared) > max_bytes:
        return _too_large(max_bytes, hint)
    if not max_bytes and any(key == b"transfer-encoding" for key, _ in scope["headers"]):
        return _too_large(0, hint)  # strangers may call such a route, and are not waited for
    body, ended = bytearray(), False
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while not ended:
                message = await receive()
                if message["type"] != "http.request":
                    return _giving(message, receive)
                body += message.get("body", b"")
                if len(body) > max_bytes:
                    return _too_large(max_bytes, hint)
                ended = not message.get("more_body", False)
    except TimeoutError:
        return Refusal(408, f"The body did not arrive within {_BODY_SECONDS:g} seconds.")
    return _giving({"type": "http.request", "body": bytes(body), "more_body": False}, receive)


def _too_large(max_bytes: int, hint: str) -> Refusal:
    if not max_bytes:
        return Refusal(413, "A request for this has no body.")
    most = f"{max_bytes / 2**20:g} MiB" if max_bytes >= 2**20 else f"{max_bytes / 2**10:g} KiB"
    return Refusal(413, f"A body may have {most}.{hint}")


def _giving(first: Message, receive: Receive) -> Receive:
    """Gives out a message that was received already, and then what follows."""
    messages = [first]

    async def give() -> Message:
        return messages.pop() if messages else await receive()

    return give


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and header_of(scope, b"access-control-request-method") is not None


def _allowed(scope: Scope, route: Route) -> list[tuple[bytes, bytes]]:
    """What a browser is told that asks whether a page may make a request."""
    asked = (header_of(scope, b"access-control-request-headers") or "").lower().split(",")
    headers = [name for name in map(str.strip, asked) if name in _SENT_BY_BROWSERS or _MCP_HEADER.fullmatch(name)]
    return [
        (b"access-control-allow-methods", ", ".join(route.methods).encode("ascii")),
        (b"access-control-allow-headers", ", ".join(headers).encode("ascii")),
        (b"access-control-max-age", _PREFLIGHT_SECONDS),
    ]


_MCP_HEADER = re.compile(r"mcp-[a-z0-9-]+")


def _telling(send: Send, origin: str) -> Send:
    """Let a browser show an answer to a page that may have it."""
    told = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"mcp-session-id, www-authenticate, retry-after"),
        (b"vary", b"Origin"),
    ]

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *told]}
        await send(message)

    return tell
