"""A connection that is held for one purpose, however often it has to be replaced."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from workflows_mcp.errors import CheckpointStoreError
from workflows_mcp.persistence.dialects import HeldConnection

__all__ = ["Line"]

T = TypeVar("T")

_SECONDS_TO_OPEN = 0.5
"""How long a close lets a connection come to be that is being opened: a driver that is cut off in the middle of it
leaves a thread behind, which may find the event loop closed."""

_SECONDS_TO_LEAVE = 0.5
"""How long a close waits for connections that were abandoned."""

_MOST_LOST = 16
"""How many lost connections are kept in mind. That to a server which was started anew cannot be told from that to
another one, and is asked about in vain: so the oldest are forgotten."""


class Line:
    """A held connection: opened when it is first needed, replaced when it is no longer usable.

    Args:
        connect: Opens one.
        closed: The error for a call after the close.
    """

    def __init__(
        self,
        connect: Callable[[], Coroutine[Any, Any, HeldConnection]],
        closed: Callable[[], CheckpointStoreError],
    ) -> None:
        self._connect = connect
        self._closed = closed
        self._is_closed = False
        self._held: HeldConnection | None = None
        self._opening: asyncio.Task[HeldConnection] | None = None
        self._lost: list[HeldConnection] = []
        self._leaving: set[asyncio.Future[Any]] = set()

    @property
    def held(self) -> HeldConnection | None:
        """The connection, when it is open."""
        return self._held

    async def call(self, work: Callable[[HeldConnection], Awaitable[T]]) -> T:
        """Do some work on the connection."""
        held = self._held if self._held is not None else await self._open()
        try:
            return await work(held)
        finally:
            if not held.is_usable and held is self._held:
                self._held = None
                self._abandon(held)
                if held.may_still_write:
                    self._lost.append(held)
                    del self._lost[:-_MOST_LOST]

    async def _open(self) -> HeldConnection:
        if self._is_closed:
            raise self._closed()
        # A task of its own: who gives up waiting leaves a connection that is being opened to the others.
        if self._opening is None:
            self._opening = asyncio.create_task(self._connect_anew())
            self._opening.add_done_callback(self._take)
        opening = self._opening
        await asyncio.wait({opening})
        if opening.cancelled():
            raise self._closed()
        return opening.result()

    async def _connect_anew(self) -> HeldConnection:
        """Open a connection; before it is used, those before it are made to write nothing any more.

        Those to other servers are kept in mind until there is a connection to theirs again.
        """
        held = await self._connect()
        try:
            for lost in tuple(self._lost):
                if await held.end(lost):
                    self._lost.remove(lost)
        except BaseException:
            self._abandon(held)
            raise
        return held

    def _take(self, opening: asyncio.Task[HeldConnection]) -> None:
        """Keep a connection that was opened, whether or not anybody still waits for it."""
        self._opening = None
        if opening.cancelled() or opening.exception() is not None:
            return
        if self._is_closed:
            self._abandon(opening.result())
        else:
            self._held = opening.result()

    def leave(self) -> None:
        """Abandon the connection, and wait for nothing: the event loop that it belonged to is not this one."""
        self._is_closed = True
        held, self._held = self._held, None
        if held is not None:
            held.abandon()

    async def open_no_more(self) -> None:
        """Open no connection any more; one that is being opened is let go of when this returns, or nearly so."""
        self._is_closed = True
        opening = self._opening
        if opening is None:
            return
        await asyncio.wait({opening}, timeout=_SECONDS_TO_OPEN)
        if opening.cancel():
            await asyncio.wait({opening}, timeout=_SECONDS_TO_LEAVE)

    async def close(self) -> None:
        """Close the connection. Cancelled before that is done, it abandons it."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
            self._leaving.add(self._opening)
        held, self._held = self._held, None
        try:
            if held is not None:
                await held.close()
        except BaseException:
            if held is not None:
                self._abandon(held)
            raise
        finally:
            if self._leaving:
                await asyncio.wait(self._leaving, timeout=_SECONDS_TO_LEAVE)

    def _abandon(self, held: HeldConnection) -> None:
        leaving = held.abandon()
        if leaving is not None:
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
