"""Serves the client that has started this process, over stdin and stdout."""

import asyncio
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workflows_mcp.server.app import build_server
from workflows_mcp.server.services import open_services

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from workflows_mcp.settings import Settings

__all__ = ["serve_stdio"]

_MILLISECONDS_FOR_THE_LAST = 1000
"""How long a client that reads nothing may keep a server from its end."""


async def serve_stdio(settings: "Settings") -> None:
    """Serve the client at the other end of stdin and stdout, until it closes them.

    While it lasts nothing else reads from stdin, and what is printed goes to stderr. A cancellation ends it as the
    client does: what is under way is brought to a stop.

    Raises:
        StoreConfigurationError: A setting is wrong.
    """
    with _open_wire() as wire:
        async with open_services(settings, at_once=False) as services:
            streams = sys.stdin, sys.stdout
            sys.stdin, sys.stdout = wire.stdin, wire.stdout
            serving = asyncio.create_task(build_server(services).run_stdio_async(), name="serve stdio")
            try:
                await asyncio.sleep(0)  # in its first step the server takes hold of the wire, which no block is to use
                sys.stdin, sys.stdout = streams
                await asyncio.shield(serving)
            except asyncio.CancelledError:
                wire.end()
                await _ended(serving)
                raise
            except BaseExceptionGroup:
                await _ended(serving)
            finally:
                sys.stdin, sys.stdout = streams


async def _ended(serving: "asyncio.Task[None]") -> None:
    """Wait for the end of the server; its error is the one that there was, and not a group of it."""
    await asyncio.wait([serving])
    error = serving.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error


class _Wire:
    """What goes over stdin and stdout, up to the end of stdin, or until it is told to end.

    The SDK reads and writes in threads, and a server that was told to stop would wait there for one more line of its
    client, or for a client that reads nothing any more.
    """

    def __init__(self, source: int, target: int) -> None:
        self._told, self._tell = os.pipe()
        self.stdin = io.TextIOWrapper(io.BufferedReader(_Source(source, self._told, self.end)), encoding="utf-8")
        self._target = _Target(target, self._told, self.end)
        self.stdout = io.TextIOWrapper(io.BufferedWriter(self._target), encoding="utf-8")

    def end(self) -> None:
        """Let stdin be at its end, and what is still to be written be written soon, or not at all."""
        os.write(self._tell, b"\0")

    def close(self) -> None:
        """Forget it. What is in a buffer now is dropped: the number of a file that is closed may soon be another's."""
        self._target.is_over = True
        for one in (self._told, self._tell):
            os.close(one)


@contextmanager
def _open_wire() -> Iterator[_Wire]:
    """Take stdin and stdout for the client alone: meanwhile stdin is empty, and what is printed goes to stderr."""
    source, target = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    wire = _Wire(source, target)
    try:
        yield wire
    finally:
        sys.stdout.flush()
        os.dup2(source, 0)
        os.dup2(target, 1)
        wire.close()
        for one in (source, target, nothing):
            os.close(one)


class _Source(io.RawIOBase):
    """Reads from a file up to its end, which it tells, or until the end is told by others."""

    def __init__(self, source: int, told: int, tell: Callable[[], None]) -> None:
        self._source, self._told, self._tell = source, told, tell
        self._poll = _polls({source: select.POLLIN, told: select.POLLIN})

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """See `io.RawIOBase`."""
        if self._told in dict(self._poll.poll()):
            return 0
        size = os.readv(self._source, [buffer])
        if not size:
            self._tell()
        return size


class _Target(io.RawIOBase):
    """Writes to a file, in pieces for which there is room; once the end was told, it waits a moment, and no longer.

    Attributes:
        is_over: Whether nobody reads any more; what is written then is dropped.
    """

    def __init__(self, target: int, told: int, tell: Callable[[], None]) -> None:
        self._target, self._tell = target, tell
        self._poll = _polls({target: select.POLLOUT, told: select.POLLIN})
        self._last = _polls({target: select.POLLOUT})
        self.is_over = False

    def writable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        """See `io.RawIOBase`."""
        view = memoryview(data)
        if not self.is_over and self._target not in dict(self._poll.poll()):
            self.is_over = not self._last.poll(_MILLISECONDS_FOR_THE_LAST)
        if not self.is_over:
            try:
                return os.write(self._target, view[: select.PIPE_BUF])
            except OSError:  # a client that is gone, which is an end, too
                self.is_over = True
                self._tell()
        return len(view)


def _polls(events: dict[int, int]) -> select.poll:
    poll = select.poll()
    for file, event in events.items():
        poll.register(file, event)
    return poll
