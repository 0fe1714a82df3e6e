"""Statements that write, each in its turn among the saves."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection

from workflows_mcp.persistence.compiling import Compiler
from workflows_mcp.persistence.connections import Connections, Work
from workflows_mcp.persistence.dialects import Dialect, HeldConnection, Row
from workflows_mcp.persistence.guard import Guard
from workflows_mcp.persistence.slow import SlowLog, Timed
from workflows_mcp.persistence.statements import Query
from workflows_mcp.persistence.writer import Writer
from workflows_mcp.persistence.writing import Writing

__all__ = ["Turns"]

T = TypeVar("T")


class Turns:
    """Has the writer's lane run other statements than saves.

    Args:
        writer: Says whose turn it is.
        writing: Carries out what is next.
        connections: Know whether anything may be saved.
        dialect: What is particular to the database.
        compiler: Compiles the statements.
        slow: Warns of those that take long.
        guard: Refuses misuse.
    """

    def __init__(
        self,
        writer: Writer,
        writing: Writing,
        *,
        connections: Connections,
        dialect: Dialect,
        compiler: Compiler,
        slow: SlowLog,
        guard: Guard,
    ) -> None:
        self._writer = writer
        self._writing = writing
        self._connections = connections
        self._dialect = dialect
        self._compiler = compiler
        self._slow = slow
        self._guard = guard

    async def change(
        self,
        query: Query,
        *,
        keys: Collection[str] | None = None,
        waits: bool = True,
        deadline: float | None = None,
    ) -> int:
        """Run one statement that writes, in its turn among the saves; returns how many rows it changed.

        Args:
            query: The statement.
            keys: See `Writer.run`.
            waits: See there.
            deadline: See there.

        Raises:
            RowsLockedError: See there.
            CheckpointStoreError: The error, in the project's terms.
        """
        sql, values = self._compiler.query(query)

        async def on_connection(connection: AsyncConnection) -> int:
            return (await connection.exec_driver_sql(sql, tuple(values))).rowcount

        with self._slow.timed("change", sql) as call:
            call.rows = changed = await self._in_turn(
                lambda held: held.change(sql, values), on_connection, keys, call, deadline, waits=waits
            )
        return changed

    async def put(self, statement: Executable, rows: Sequence[Row], *, keys: Collection[str]) -> int:
        """Insert rows by a statement of `Dialect.putting`, all or none, in their turn among the saves.

        Args:
            statement: The statement.
            rows: What it inserts.
            keys: Their ids.

        Returns:
            How many were written.

        Raises:
            RowsThereError: One of the ids is there, and is not to be replaced.
            CheckpointStoreError: The error, in the project's terms.
        """
        sql = self._compiler.known_statement(statement)

        async def on_held(held: HeldConnection) -> int:
            self._connections.require_saving()
            return await held.put(sql, rows)

        async def on_connection(connection: AsyncConnection) -> int:
            self._connections.require_saving()
            return await self._dialect.put(connection, sql, rows)

        with self._slow.timed("put", sql.sql) as call:
            call.rows = written = await self._in_turn(on_held, on_connection, keys, call)
        return written

    async def fetch_changed(
        self,
        make: Callable[[bool], Query],
        *,
        keys: Collection[str] | None = None,
        waits: bool = True,
        deadline: float | None = None,
    ) -> Sequence[Sequence[Any]]:
        """Run one statement that writes, in its turn among the saves; returns the rows that it returns.

        Args:
            make: Makes the statement when its turn has come. It is told whether an earlier one may have been carried
                out though nobody knows, since the connection was lost.
            keys: See `Writer.run`.
            waits: See there.
            deadline: See there.

        Raises:
            RowsLockedError: See there.
            CheckpointStoreError: The error, in the project's terms.
        """
        first: HeldConnection | AsyncConnection | None = None

        async def on_held(held: HeldConnection) -> Sequence[Sequence[Any]]:
            nonlocal first
            first = first or held
            # A connection that was lost was replaced; one that was not has told what came of the statement.
            call.sql, values = self._compiler.query(make(held is not first))
            return await held.fetch_changed(call.sql, values)

        async def on_connection(connection: AsyncConnection) -> Sequence[Sequence[Any]]:
            nonlocal first
            first = first or connection  # of somebody else's engine: each attempt has one of its own
            call.sql, values = self._compiler.query(make(connection is not first))
            return (await connection.exec_driver_sql(call.sql, tuple(values))).all()

        with self._slow.timed("change") as call:
            rows = await self._in_turn(on_held, on_connection, keys, call, deadline, waits=waits)
            call.rows = len(rows)
        return rows

    async def change_now(self, query: Query, deadline: float) -> Sequence[Sequence[Any]]:
        """Run one statement that writes within the lane's own turn; returns the rows that it returns."""
        sql, values = self._compiler.query(query)

        async def work(connection: AsyncConnection) -> Sequence[Sequence[Any]]:
            async with self._dialect.transaction(connection):
                return (await connection.exec_driver_sql(sql, tuple(values))).all()

        return await self._writing.write(deadline, lambda held: held.fetch_changed(sql, values), work)

    async def _in_turn(
        self,
        on_held: Callable[[HeldConnection], Awaitable[T]],
        on_connection: Work[T],
        keys: Collection[str] | None,
        call: Timed,
        deadline: float | None = None,
        *,
        waits: bool = True,
    ) -> T:
        """Write in its turn among the saves, over the held connection or, on somebody else's engine, over any."""
        self._guard.refuse_misuse()

        async def work(connection: AsyncConnection) -> T:
            async with self._dialect.transaction(connection):
                return await on_connection(connection)

        return await self._writer.run(
            lambda until: self._writing.write(until, on_held, work), keys, waits=waits, deadline=deadline, call=call
        )
