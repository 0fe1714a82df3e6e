"""Connections over which nothing comes: each holds a file descriptor, and somebody may open very many of them."""

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["Connection", "most_connections"]

_REQUEST_SECONDS = 15.0
"""How long a client may take from its first byte, or from connecting, to the end of its headers; and how long what
follows a request that was refused is read and thrown away, for a client that reads the answer only then."""

_MOST = 10_000
_SHARE = 0.75
"""Of the files that this process may have open; the others are the database's, and those of blocks at work."""


class Connection(H11Protocol):
    """A connection that is closed when a request does not come in time. uvicorn waits for it without end."""

    _closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """See `asyncio.Protocol.connection_made`."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol.data_received`."""
        super().data_received(data)
        if self._is_serving:
            self._expect_no_more()
        elif self._closing is None:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol.connection_lost`."""
        self._expect_no_more()
        super().connection_lost(exc)

    @property
    def is_answering(self) -> bool:
        """Whether a call is under way; a stream that a client only listens to is none."""
        return self._is_serving and self.scope["method"] == "POST"

    @property
    def _is_serving(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _expect(self) -> None:
        self._closing = self.loop.call_later(_REQUEST_SECONDS, self.transport.close)

    def _expect_no_more(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None


def most_connections() -> int:
    """How many there may be at a time; further ones are answered with 503."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else max(min(int(files * _SHARE), _MOST), 1)
