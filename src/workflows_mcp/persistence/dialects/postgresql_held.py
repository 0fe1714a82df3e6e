"""A PostgreSQL connection that is kept for saving or for brief queries."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar, cast

import asyncpg

from workflows_mcp.persistence.dialects.base import HeldConnection, Row
from workflows_mcp.persistence.dialects.postgresql_saving import Saving

__all__ = ["HeldPostgreSQLConnection"]

T = TypeVar("T")

_LEAST_PATIENCE = 0.5
"""Seconds that a server has at least to say that it has cancelled a statement."""


class HeldPostgreSQLConnection(HeldConnection):
    """Every call is one statement, a transaction of its own. Only a refusal by the server leaves it usable.

    Args:
        connection: The driver's connection.
        saving: Chooses the statements that save.
        patience: After how many seconds the server ends a statement by itself.
    """

    def __init__(self, connection: asyncpg.Connection, saving: Saving, patience: float) -> None:
        super().__init__()
        self._saving = saving
        self._connection = connection
        self._patience = patience
        self._turn = asyncio.Lock()
        self._callers = 0

    async def save(self, rows: Sequence[Row]) -> Collection[str]:
        """See `HeldConnection.save`."""
        sql, values = self._saving.of(rows)
        written = await self._write(self._connection.fetch, sql, values)
        return {row[0] for row in written}

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
