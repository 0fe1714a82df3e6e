"""Serves the client that has started this process, over stdin and stdout."""

import asyncio
import functools
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from workflows_mcp.server.app import build_server

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from workflows_mcp.settings import Settings

__all__ = ["serve_stdio"]


async def serve_stdio(settings: "Settings") -> None:
    """Serve the client at the other end of stdin and stdout, until it closes them.

    While it lasts nothing else reads from stdin, and what is printed goes to stderr. A cancellation ends it as the
    client does: what is under way is brought to a stop.

    Raises:
        StoreConfigurationError: A setting is wrong.
    """
    with _wire_that_can_end() as (wire, end):
        stdin, sys.stdin = sys.stdin, wire
        serving = asyncio.create_task(build_server(settings).run_stdio_async(), name="serve stdio")
        try:
            await asyncio.sleep(0)  # in its first step the server takes hold of the wire, which no block is to read
            sys.stdin = stdin
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            end()
            await _ended(serving)
            raise
        except BaseExceptionGroup:
            await _ended(serving)
        finally:
            sys.stdin = stdin


async def _ended(serving: "asyncio.Task[None]") -> None:
    """Wait for the end of the server; its error is the one that there was, and not a group of it."""
    await asyncio.wait([serving])
    error = serving.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None and not isinstance(error, BrokenPipeError):  # a client that is gone
        raise error


@contextmanager
def _wire_that_can_end() -> Iterator[tuple[TextIO, Callable[[], object]]]:
    """What comes in over stdin, up to its end or until that is called which is yielded with it; stdin itself is empty.

    The SDK reads in a thread, and a server that was told to stop would wait there for one more line of its client.
    """
    source = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    told, tell = os.pipe()
    wire = io.TextIOWrapper(io.BufferedReader(_Ending(source, told)), encoding="utf-8")
    try:
        yield wire, functools.partial(os.write, tell, b"\0")
    finally:
        os.dup2(source, 0)
        for one in (source, told, tell):
            os.close(one)


class _Ending(io.RawIOBase):
    """Reads from a file up to its end, or until something can be read from another one."""

    def __init__(self, source: int, told: int) -> None:
        self._source = source
        self._poll = select.poll()
        for one in (source, told):
            self._poll.register(one, select.POLLIN)
        self._told = told

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """See `io.RawIOBase`."""
        ready = {one for one, _ in self._poll.poll()}
        return 0 if self._told in ready else os.readv(self._source, [buffer])
