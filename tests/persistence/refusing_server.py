"""Something that asks for a password as a PostgreSQL server does, and lets nobody in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["RefusingServer", "refusing_server"]

_ASKS_FOR_PASSWORD = b"R\0\0\0\x08\0\0\0\x03"


class RefusingServer:
    """Where clients try to log in.

    Attributes:
        code: The SQLSTATE of its answer to each of them.
        passwords: What it was sent, one for each login.
        port: Of the loopback interface.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        self.passwords: list[str] = []
        self.port = 0

    def url(self, login: str = "somebody", query: str = "") -> str:
        """Its URL, for some user, with keys besides."""
        return f"postgresql://{login}@127.0.0.1:{self.port}/db?sslmode=disable{query}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Refuse one client."""
        try:
            await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big") - 4)
            writer.write(_ASKS_FOR_PASSWORD)
            assert await reader.readexactly(1) == b"p"
            sent = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big") - 4)
            self.passwords.append(sent.rstrip(b"\0").decode())
            text = f"SFATAL\0VFATAL\0C{self.code}\0Mno\0\0".encode()
            writer.write(b"E" + (len(text) + 4).to_bytes(4, "big") + text)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def refusing_server(code: str) -> AsyncIterator[RefusingServer]:
    """A server that answers each login with some SQLSTATE."""
    server = RefusingServer(code)
    listening = await asyncio.start_server(server.serve, "127.0.0.1")
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await listening.wait_closed()
