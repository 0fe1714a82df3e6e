"""A SQLite connection that is kept for saving or for brief queries, with a thread of its own."""

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar, cast

from workflows_mcp.persistence.dialects.held import Compiled, HeldConnection, Row
from workflows_mcp.persistence.dialects.sqlite_file import Opened, SQLiteFile
from workflows_mcp.persistence.dialects.sqlite_saving import put_rows
from workflows_mcp.persistence.dialects.thread import CallThread, Then
from workflows_mcp.persistence.dialects.watch import Watch

__all__ = ["HeldSQLiteConnection"]

T = TypeVar("T")

_SECONDS_TO_CLOSE = 0.5
"""How long an opening that failed waits until nothing of it is left."""


class HeldSQLiteConnection(HeldConnection):
    """Each call is one trip to the connection's thread and back. A write that is given up is carried out all the same.

    Args:
        connect: Opens the connection, and says what it has opened; called in the thread, as all that follows.
        file: Raises an error when what is written goes into a file that nobody will see, or is read from one.
        saving: Saves some rows; the ids that were written.
        patience: After how many seconds a query is given up.
    """

    def __init__(
        self,
        connect: Callable[[], tuple[sqlite3.Connection, Opened]],
        file: SQLiteFile,
        saving: Callable[[sqlite3.Connection, Sequence[Row]], Collection[str]],
        *,
        patience: float,
    ) -> None:
        super().__init__()
        self._saving = saving
        self._connect = connect
        self._file = file
        self._patience = patience
        self._thread = CallThread("workflows-mcp-sqlite")
        self._watch = Watch(self._give_up)
        self._opened: sqlite3.Connection | None = None
        self._is_reading = False
        self._closing: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Open the connection; what could not be opened, or not in time, is closed again."""
        try:
            await self._thread.call(self._open)
        except BaseException:
            await asyncio.wait({self.abandon()}, timeout=_SECONDS_TO_CLOSE)
            raise

    async def save(self, rows: Sequence[Row]) -> Collection[str]:
        """See `HeldConnection.save`."""
        work = functools.partial(self._write, functools.partial(self._save, rows))
        return await self._thread.call(work, at_once=len(rows) > 1)

    def begin_save(self, row: Row, then: Then[Collection[str]]) -> bool:
        """See `HeldConnection.begin_save`."""
        if not self.is_usable:
            return False
        self._thread.begin(functools.partial(self._write, functools.partial(self._save, (row,))), then)
        return True

    def fetch(self, sql: str, values: Sequence[Any]) -> "asyncio.Future[Sequence[Row]]":
        """See `HeldConnection.fetch`."""

        def work() -> Sequence[Row]:
            self._is_reading = True
            try:
                rows = self._connection.execute(sql, values).fetchall()
            finally:
                self._is_reading = False
            self._look()
            return rows

        future = self._thread.call(work, can_be_dropped=True)
        self._watch.add(future, future.get_loop().time() + self._patience)
        return future

    async def change(self, sql: str, values: Sequence[Any]) -> int:
        """See `HeldConnection.change`."""

        def work() -> int:
            return self._connection.execute(sql, values).rowcount

        return await self._thread.call(functools.partial(self._write, work))

    async def fetch_changed(self, sql: str, values: Sequence[Any]) -> Sequence[Row]:
        """See `HeldConnection.fetch_changed`."""

        def work() -> Sequence[Row]:
            return self._connection.execute(sql, values).fetchall()

        return await self._thread.call(functools.partial(self._write, work))

    async def put(self, statement: Compiled, rows: Sequence[Row]) -> int:
        """See `HeldConnection.put`."""

        def work() -> int:
            return put_rows(self._connection, statement.sql, rows)

        return await self._thread.call(functools.partial(self._write, work))

    def abandon(self) -> "asyncio.Future[None]":
        """See `HeldConnection.abandon`. The thread ends after what it is doing."""
        self.is_usable = False
        if self._closing is None:
            self._closing = self._thread.call(self._close)
            self._interrupt()
            self._thread.stop()  # the watch goes on: others may wait for the thread, too
        return self._closing

    async def close(self) -> None:
        """See `HeldConnection.close`."""
        await asyncio.wait({self.abandon()})

    def _give_up(self) -> TimeoutError:
        self.is_usable = False  # the thread is stuck, and whoever comes next would be, too
        self._interrupt()
        return TimeoutError()

    def _interrupt(self) -> None:
        """End a query that nobody waits for, in circles in a damaged file perhaps. A write is carried out."""
        if self._opened is not None and self._is_reading:
            with contextlib.suppress(sqlite3.ProgrammingError):  # it was closed meanwhile
                self._opened.interrupt()

    # What follows runs in the thread.

    @property
    def _connection(self) -> sqlite3.Connection:
        return cast("sqlite3.Connection", self._opened)

    def _open(self) -> None:
        self._opened, self._files = self._connect()
        self._look = self._file.looking(self._files)

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def _write(self, work: Callable[[], T]) -> T:
        """Do something that commits. Within a transaction that was left open, it would seem to, and be lost."""
        if self._connection.in_transaction:
            self.is_usable = False
            raise ValueError("a transaction was left open")
        try:
            done = work()
        finally:
            self.is_usable = self.is_usable and not self._connection.in_transaction
        self._file.require_same(self._files)
        return done

    def _save(self, rows: Sequence[Row]) -> Collection[str]:
        return self._saving(self._connection, rows)
