"""Asks a server for pages, over one connection."""

import http.client
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Answer", "NotAPageError", "Visitor", "visiting"]

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


class Visitor:
    """Somebody who looks at pages, over one connection and with one cookie, as a browser does.

    Args:
        port: The server's, on this machine.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers: dict[str, str] = {}
        self._shown = ""

    def ask(self, path: str, holds: str, *, is_part: bool = False) -> Answer:
        """Ask for a page.

        Args:
            path: With the query.
            holds: Stands on the page, if it is the one that was meant.
            is_part: Whether it is a part of a page that is open.

        Raises:
            NotAPageError: It does not, or the server closes the connection or does not say how long it took.
        """
        headers = {**self._headers, "HX-Request": "true"} if is_part else self._headers
        began = time.perf_counter()
        self._connection.request("GET", path, headers=headers)
        answer = self._connection.getresponse()
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
        self._shown = body.decode()
        cookie = answer.getheader("set-cookie")
        if cookie is not None:
            self._headers = {"Cookie": cookie.partition(";")[0]}
        return Answer(len(body), float(timing[1]), took)

    def await_part(self, path: str, holds: str) -> Answer:
        """Ask for a part of a page until it is there, as that page does; its times are those of all answers together.

        Raises:
            NotAPageError: It does not come.
        """
        server_ms, began = 0.0, time.perf_counter()
        while True:
            answer = self.ask(path, "", is_part=True)
            server_ms += answer.server_ms
            took = time.perf_counter() - began
            if holds in self._shown:
                return Answer(answer.size, server_ms, took * 1000)
            if took > _SECONDS:
                raise NotAPageError(f"{path}: {holds!r} is not there after {_SECONDS:g} s")

    def is_ready(self) -> bool:
        """Whether the server says that it can do its work."""
        self._connection.request("GET", "/readyz")
        answer = self._connection.getresponse()
        answer.read()
        return answer.status == http.HTTPStatus.OK

    def leave(self) -> None:
        """Close the connection."""
        self._connection.close()


@contextmanager
def visiting(port: int) -> Iterator[Visitor]:
    """A visitor of a server that can do its work, to the end of the block.

    Raises:
        NotAPageError: It cannot.
    """
    end = time.monotonic() + _SECONDS
    visitor = Visitor(port)
    try:
        while not visitor.is_ready():
            if time.monotonic() > end:
                raise NotAPageError("/readyz: the server is not ready")
            time.sleep(_PAUSE_SECONDS)
        yield visitor
    finally:
        visitor.leave()
