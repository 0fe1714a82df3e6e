"""Connections over which nothing comes, or whose client reads nothing: each holds a file descriptor."""

import asyncio
import logging
import socket
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from workflows_mcp.server.http.room import Room

__all__ = ["Connection", "connections_in"]

_log = logging.getLogger(__name__)

_REQUEST_SECONDS = 15.0
"""How long a client may take from its first byte, or from connecting, to the end of its headers; how long what
follows a request that was refused is read and thrown away, for a client that reads the answer only then; and how
long a client may take no part of an answer."""

_LEAST_READ = 64 * 2**10
"""Bytes of an answer; fewer than these in that time, and more to come, are none."""


class Connection(H11Protocol):
    """A connection that is closed when a request does not come in time, or an answer is not read in time.

    uvicorn waits for both without end.
    """

    room: Room

    _closing: asyncio.TimerHandle | None = None
    _giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """See `asyncio.Protocol.connection_made`."""
        super().connection_made(transport)
        # Whatever is not sent is waited for, but not without end: a close would wait for it, too.
        transport.set_write_buffer_limits(high=0)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Else the system keeps megabytes for a client, and says nothing of its progress before it took a third.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _LEAST_READ)
        if self.room.take_in(self, cast("set[Connection]", self.connections)):
            self._expect()
            self._sort()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol.data_received`."""
        super().data_received(data)
        if self._is_serving:
            self._expect_no_more()
        elif self._closing is None:
            self._expect()
        self._sort()

    def on_response_complete(self) -> None:
        """See `H11Protocol.on_response_complete`."""
        super().on_response_complete()
        self._sort()

    def send_400_response(self, msg: str) -> None:
        """See `H11Protocol.send_400_response`: what was sent is no HTTP, and never becomes a request."""
        super().send_400_response(msg)
        self.room.tally.answered("other", "400", 0.0)
        client = (self.client or ("?",))[0]
        fields = {"status": 400, "route": "other", "client": client}
        _log.info("a request from %s was refused (%d)", client, 400, extra={"fields": fields})

    def pause_writing(self) -> None:
        """See `asyncio.Protocol.pause_writing`."""
        super().pause_writing()
        self._watch()
        self._sort()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol.resume_writing`."""
        self._watch_no_more()
        super().resume_writing()
        self._sort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol.connection_lost`."""
        self._expect_no_more()
        self._watch_no_more()
        super().connection_lost(exc)
        self.room.keep(self)

    @property
    def is_answering(self) -> bool:
        """Whether a call is under way; a stream that a client only listens to is none."""
        return self._is_serving and self.scope["method"] == "POST"

    @property
    def _is_serving(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _sort(self) -> None:
        # A client that does not read what is sent is in no hurry for more. One whose request is not there as a whole
        # may be anybody: a body is waited for that comes without a token, too.
        if self._is_serving and not self.cycle.more_body and not self.flow.write_paused:
            self.room.keep(self)
        else:
            self.room.spare(self)

    def _expect(self) -> None:
        self._closing = self.loop.call_later(_REQUEST_SECONDS, self._close)

    def _expect_no_more(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.room.closed("silent")
            self.transport.close()

    def _watch(self) -> None:
        self._watch_no_more()
        unread = self.transport.get_write_buffer_size()
        self._giving_up = self.loop.call_later(_REQUEST_SECONDS, self._give_up, unread)

    def _watch_no_more(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _give_up(self, unread_before: int) -> None:
        if unread_before - self.transport.get_write_buffer_size() >= _LEAST_READ:
            self._watch()
            return
        self.room.closed("unread")
        self.transport.abort()


def connections_in(room: Room) -> type[asyncio.Protocol]:
    """What uvicorn makes connections of, each of which is in the room."""
    attributes: dict[str, Any] = {"room": room}
    return type("ConnectionInRoom", (Connection,), attributes)
