"""Asks a server for pages, over one connection."""

import http.client
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Answer", "NotAPageError", "ask", "connected", "wait_until_ready"]

_TIMING = re.compile(r"\bapp;dur=([0-9.]+)")
_SECONDS = 60.0
_PAUSE_SECONDS = 0.02


class NotAPageError(Exception):
    """What came is not the page that was asked for."""


@dataclass(frozen=True)
class Answer:
    """A page.

    Attributes:
        size: Its bytes.
        server_ms: What the server says it took, in milliseconds.
        client_ms: What it took from before the request to the last byte.
    """

    size: int
    server_ms: float
    client_ms: float


@contextmanager
def connected(port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection to a server on this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield connection
    finally:
        connection.close()


def wait_until_ready(port: int) -> None:
    """Return when a server says that it can do its work; it listens sooner.

    Raises:
        NotAPageError: It does not say so.
    """
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        with connected(port) as connection:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        time.sleep(_PAUSE_SECONDS)
    raise NotAPageError("/readyz: the server is not ready")


def ask(connection: http.client.HTTPConnection, path: str, holds: str) -> Answer:
    """Ask for a page.

    Args:
        connection: To the server; it must still be there afterwards.
        path: With the query.
        holds: Stands on the page, if it is the one that was meant.

    Raises:
        NotAPageError: It does not, or the server closes the connection or does not say how long it took.
    """
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    took = (time.perf_counter() - began) * 1000
    timing = _TIMING.search(answer.getheader("server-timing") or "")
    for what, is_wrong in {
        f"status {answer.status}": answer.status != http.HTTPStatus.OK,
        f"{holds!r} is not on the page": holds.encode() not in body,
        "no Server-Timing": timing is None,
        "the server closes the connection": answer.will_close,
    }.items():
        if is_wrong:
            raise NotAPageError(f"{path}: {what}")
    assert timing is not None
    return Answer(len(body), float(timing[1]), took)
