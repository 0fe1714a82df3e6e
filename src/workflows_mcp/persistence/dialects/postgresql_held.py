"""A PostgreSQL connection that is kept for saving or for brief queries."""

import asyncio
import contextlib
import operator
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import asyncpg

from workflows_mcp.persistence.dialects.base import Compiled, HeldConnection, Row, are_fenced, fenced
from workflows_mcp.persistence.dialects.fencing import fenced_names

__all__ = ["HeldPostgreSQLConnection", "arrays_of"]

T = TypeVar("T")

_LEAST_PATIENCE = 0.5
"""Seconds that a server has at least to say that it has cancelled a statement."""

_FIRST = operator.itemgetter(0)


class HeldPostgreSQLConnection(HeldConnection):
    """Every call is one statement, a transaction of its own. Only a refusal by the server leaves it usable.

    Args:
        connection: The driver's connection.
        saving: See `Dialect.hold`.
        patience: After how many seconds the server ends a statement by itself.
    """

    def __init__(self, connection: asyncpg.Connection, saving: Mapping[str, Compiled], patience: float) -> None:
        super().__init__()
        self._saving = {name: statement.sql for name, statement in saving.items()}
        given = fenced_names(saving["one"].names)
        # What is used more than once in a statement is one parameter, wherever it stands first.
        self._order_one, self._order_many = (
            operator.itemgetter(*map(given.index, saving[name].names)) for name in ("one_fenced", "many_fenced")
        )
        self._connection = connection
        self._patience = patience
        self._turn = asyncio.Lock()
        self._callers = 0

    async def save(self, rows: Sequence[Row]) -> Collection[str]:
        """See `HeldConnection.save`."""
        sql, values = self._with_values(rows)
        written = await self._write(self._connection.fetch, sql, values)
        return {row[0] for row in written}

    def _with_values(self, rows: Sequence[Row]) -> tuple[str, Row]:
        """The statement that saves some rows, and its parameters."""
        if are_fenced(rows):
            if len(rows) == 1:
                return self._saving["one_fenced"], self._order_one(rows[0])
            return self._saving["many_fenced"], self._order_many(tuple(arrays_of([fenced(row) for row in rows])))
        if len(rows) == 1:
            return self._saving["one"], rows[0]
        return self._saving["many"], tuple(arrays_of(rows))

    async def fetch(self, sql: str, values: Sequence[Any]) -> Sequence[Row]:
        """See `HeldConnection.fetch`. A lone statement ends by itself, those that take turns are given up."""
        self._callers += 1
        try:
            if self._callers == 1:
                rows: Any = await self._call(self._connection.fetch, sql, values)
            else:
                async with asyncio.timeout(self._patience):
                    rows = await self._call(self._connection.fetch, sql, values)
            return cast("Sequence[Row]", rows)  # records, which are like tuples
        finally:
            self._callers -= 1

    async def change(self, sql: str, values: Sequence[Any]) -> int:
        """See `HeldConnection.change`. The server's answer ends with the number of rows, as in `DELETE 5`."""
        answer = await self._write(self._connection.execute, sql, values)
        return int(answer.rpartition(" ")[2])

    async def fetch_changed(self, sql: str, values: Sequence[Any]) -> Sequence[Row]:
        """See `HeldConnection.fetch_changed`."""
        return cast("Sequence[Row]", await self._write(self._connection.fetch, sql, values))

    async def _write(self, method: Callable[..., Awaitable[T]], sql: str, values: Sequence[Any]) -> T:
        """Call, and do not return before the statement has ended: later ones must not be overwritten by it."""
        started = time.monotonic()
        try:
            return await self._call(method, sql, values)
        finally:
            if not self.is_usable and not self._connection.is_closed():
                left = max(started + self._patience - time.monotonic(), _LEAST_PATIENCE)
                with contextlib.suppress(Exception):
                    # Asks the server to cancel, and waits until it has; a frozen one has ended the statement by then.
                    await self._connection.close(timeout=left)

    async def _call(self, method: Callable[..., Awaitable[T]], sql: str, values: Sequence[Any]) -> T:
        async with self._turn:
            if not self.is_usable:
                raise asyncpg.InterfaceError("the connection was abandoned")
            try:
                return await method(sql, *values)
            except asyncpg.PostgresError as error:
                # A server that was made a standby, or stops, says no to everything from now on.
                has_left = str(error.sqlstate).startswith(("08", "25006", "57P"))
                self.is_usable = not has_left and not self._connection.is_closed()
                raise
            except BaseException:
                self.is_usable = False
                raise

    def abandon(self) -> None:
        """See `HeldConnection.abandon`."""
        self._connection.terminate()

    async def close(self) -> None:
        """See `HeldConnection.close`."""
        async with self._turn:
            await self._connection.close()


def arrays_of(rows: Sequence[Row]) -> Iterable[Row]:
    """The rows' columns. In the order of their keys: two batches that lock the same rows do not deadlock."""
    return zip(*sorted(rows, key=_FIRST), strict=True)
