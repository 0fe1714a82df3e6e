"""TLS as a PostgreSQL server speaks it, before a real server whose build has none: the tests' own is such a build.

Clients ask for TLS by PostgreSQL's own message; the handshake is OpenSSL's on both sides.
"""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Front", "front_of"]

_ASKS_FOR_TLS = struct.pack("!ii", 8, 80877103)


class Front:
    """Where clients connect to.

    Attributes:
        context: Of the handshake; None: TLS is declined, as by a server that has it switched off.
        port: Of the loopback interface.

    Args:
        port: Of the server behind.
    """

    def __init__(self, port: int) -> None:
        self.context: ssl.SSLContext | None = None
        self.port = 0
        self._behind = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            first = await reader.readexactly(len(_ASKS_FOR_TLS))
            if first == _ASKS_FOR_TLS:
                first = b""
                writer.write(b"N" if self.context is None else b"S")
                await writer.drain()
                if self.context is not None:
                    await writer.start_tls(self.context)
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind)
            behind_writer.write(first)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, behind_writer))
                group.create_task(_pass_on(behind_reader, writer))
        writer.close()
        self._tasks.discard(task)

    def end(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def front_of(port: int) -> AsyncIterator[Front]:
    """A front before a server's port; it is gone afterwards."""
    front = Front(port)
    server = await asyncio.start_server(front.serve, "127.0.0.1", 0)
    front.port = server.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        server.close()
        front.end()
