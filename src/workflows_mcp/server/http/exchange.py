"""A request and its answer, as ASGI has them."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["App", "Message", "Pages", "Receive", "Refusal", "Scope", "Send", "header_of", "reply"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Refusal:
    """Why a request is not served.

    Attributes:
        status: HTTP's.
        text: What the client is told; shows nothing of what it sent.
        headers: What the answer has besides.
    """

    status: int
    text: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Pages:
    """An application for people in a browser, which asks for tokens by itself.

    Attributes:
        serve: Answers.
        most_body: How many bytes of a body a request may have, by its head alone; 0: none is read, and it is answered
            without; None: as many as any.
    """

    serve: App
    most_body: Callable[[Scope], int | None]


def header_of(scope: Scope, name: bytes) -> str | None:
    """A header of a request; None when it has none of the name, or more than one."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None


async def reply(
    send: Send,
    status: int,
    body: str | bytes,
    *,
    kind: str = "text/plain; charset=utf-8",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Answer a request."""
    content = body.encode() if isinstance(body, str) else body
    always = [
        (b"content-type", kind.encode("ascii")),
        (b"content-length", str(len(content)).encode("ascii")),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*always, *headers]})
    await send({"type": "http.response.body", "body": content})
