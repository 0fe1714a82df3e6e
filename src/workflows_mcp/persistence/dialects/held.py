"""Connections that are held: what is asked of each of the drivers'."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Collection, Sequence
from typing import Any, NamedTuple, TypeAlias

from workflows_mcp.persistence.dialects.thread import Then

__all__ = ["Compiled", "HeldConnection", "Row"]

Row: TypeAlias = tuple[Any, ...]
"""A value for each column of a table or a query, in their order."""


class Compiled(NamedTuple):
    """A statement as the driver takes it, and the names of its parameters in their order."""

    sql: str
    names: Sequence[str]


class HeldConnection(ABC):
    """A connection of the driver's that is kept for saving or for brief queries. Its calls take turns.

    SQLAlchemy makes the connection and compiles the statements; then a call goes straight to the driver, in one
    round trip or one thread hop where SQLAlchemy's own way takes three to six.

    Attributes:
        is_usable: False when a call failed and what it left behind is unknown: to be abandoned.
        may_still_write: Whether it is not usable, and a statement that writes may be carried out even after that.
    """

    def __init__(self) -> None:
        self.is_usable = True
        self.may_still_write = False

    @abstractmethod
    async def save(self, rows: Sequence[Row]) -> Collection[str]:
        """Insert or replace some rows, all that their fences let pass or none, durably.

        However it ends, no row is written after that, unless the call was cancelled or this connection
        `may_still_write`. What was written is in the database that the URL names; if it is not, that is an error.

        Args:
            rows: No id stands twice among them, be it a row's own or that of the one it follows.

        Returns:
            The ids of the rows that were written.

        Raises:
            RowsLockedError: It would have waited for somebody else's locks on these rows, and wrote none.
        """

    def begin_save(self, row: Row, then: Then[Collection[str]]) -> bool:  # noqa: ARG002 - for those who can
        """Begin to save a row, if the driver can be called without a task.

        Args:
            row: What to save.
            then: Hears, on the event loop, the ids that were written, or why none was.

        Returns:
            Whether it was begun.
        """
        return False

    @abstractmethod
    def fetch(self, sql: str, values: Sequence[Any]) -> Awaitable[Sequence[Row]]:
        """All rows of a query, or a `TimeoutError` when they take longer than the connection has patience."""

    @abstractmethod
    async def change(self, sql: str, values: Sequence[Any]) -> int:
        """Run one statement that writes, durably; returns how many rows it changed.

        Raises:
            RowsLockedError: It would have waited for somebody else's locks, and changed nothing.
        """

    @abstractmethod
    async def fetch_changed(self, sql: str, values: Sequence[Any]) -> Sequence[Row]:
        """The same for a statement that returns what it changed; all of its rows."""

    @abstractmethod
    async def put(self, statement: Compiled, rows: Sequence[Row]) -> int:
        """Insert rows by a statement of `Dialect.putting`, all or none, durably; returns how many were written.

        Raises:
            RowsLockedError: It would have waited for somebody else's locks, and wrote none.
        """

    async def end(self, lost: "HeldConnection") -> bool:  # noqa: ARG002 - for those that need it
        """See to it that a connection which was abandoned writes nothing any more; of the same kind as this one.

        Returns:
            Whether that is certain; False: it was one to another server, as far as can be told from here.
        """
        return True

    @abstractmethod
    def abandon(self) -> asyncio.Future[Any] | None:
        """Let go of the connection at once. A statement under way may still be carried out.

        Returns:
            What is done when nothing of it is left, to be waited for before the event loop ends; None: that is now.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the connection in an orderly way; it may take its time."""
