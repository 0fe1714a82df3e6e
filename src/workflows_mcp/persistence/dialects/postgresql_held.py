"""A PostgreSQL connection that is kept for saving or for brief queries."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar, cast

import asyncpg

from workflows_mcp.persistence.dialects.errors import RowsLockedError
from workflows_mcp.persistence.dialects.fencing import FencedRow
from workflows_mcp.persistence.dialects.held import Compiled, HeldConnection, Row
from workflows_mcp.persistence.dialects.postgresql_saving import Saving, arrays_of

__all__ = ["HeldPostgreSQLConnection", "hold"]

T = TypeVar("T")

_LEAST_PATIENCE = 0.5
"""Seconds that a server has at least to say that it has cancelled a statement."""

_SECONDS_TO_END = 0.2
"""How long a server's process that was told to end is waited for. One that stands still ends before anything else when
it goes on."""

_PAUSE = 0.005
"""Seconds between two looks at it."""

_WHO = (
    "SELECT pid, backend_start, pg_catalog.pg_postmaster_start_time() FROM pg_catalog.pg_stat_activity "
    "WHERE pid = pg_catalog.pg_backend_pid()"
)
"""A process, and its server. Servers are told apart by their starts, to the microsecond: a standby has the identifier
of its primary, and behind a proxy many have one address."""

_END = (
    "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity "
    "WHERE pid = $1 AND backend_start = $2 AND pid <> pg_catalog.pg_backend_pid()"
)
"""A user may end processes of their own. With its start a process's id means this one, on this server, alone. A pooler
may hand out the very process that was lost: it has read what it was sent before it answers this."""


async def hold(
    connection: asyncpg.Connection, saving: Saving, patience: float, *, is_shared: bool
) -> "HeldPostgreSQLConnection":
    """Take a connection whose process at the server can be found by others."""
    process: Sequence[Any] | None = None
    with contextlib.suppress(asyncpg.SyntaxOrAccessError):  # of a server that only resembles PostgreSQL
        for found in await connection.fetch(_WHO):
            process = tuple(found)
    return HeldPostgreSQLConnection(connection, saving, patience, process, is_shared=is_shared)


class HeldPostgreSQLConnection(HeldConnection):
    """Every call is one statement, a transaction of its own. Only a refusal by the server leaves it usable.

    Attributes:
        process: The id and the start of its process at the server, and the start of that; None: nobody knows.

    Args:
        connection: The driver's connection.
        saving: Chooses the statements that save.
        patience: After how many seconds the server ends a statement by itself.
        process: See there.
        is_shared: See `Dialect.hold`.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        saving: Saving,
        patience: float,
        process: Sequence[Any] | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        super().__init__()
        self._is_shared = is_shared
        self.process = process
        self._saving = saving
        self._connection = connection
        self._patience = patience
        self._turn = asyncio.Lock()
        self._callers = 0

    async def save(self, rows: Sequence[Row]) -> Collection[str]:
        """See `HeldConnection.save`."""
        sql, values = self._saving.of(rows)
        try:
            written = await self._write(self._connection.fetch, sql, values)
        except asyncpg.LockNotAvailableError:
            if not self._is_shared:
                raise
            ids = {row[0] for row in rows} | {row[1] for row in rows if type(row) is FencedRow and row[1] is not None}
            locked = {
                row[0] for row in await self._call(self._connection.fetch, self._saving.those_locked, [list(ids)])
            }
            raise RowsLockedError(locked) from None
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
        answer = await self._change(self._connection.execute, sql, values)
        return int(answer.rpartition(" ")[2])

    async def fetch_changed(self, sql: str, values: Sequence[Any]) -> Sequence[Row]:
        """See `HeldConnection.fetch_changed`."""
        return cast("Sequence[Row]", await self._change(self._connection.fetch, sql, values))

    async def put(self, statement: Compiled, rows: Sequence[Row]) -> int:
        """See `HeldConnection.put`."""
        return await self.change(statement.sql, tuple(arrays_of(rows)))

    async def _change(self, method: Callable[..., Awaitable[T]], sql: str, values: Sequence[Any]) -> T:
        try:
            return await self._write(method, sql, values)
        except asyncpg.LockNotAvailableError:
            if not self._is_shared:
                raise
            raise RowsLockedError from None

    async def _write(self, method: Callable[..., Awaitable[T]], sql: str, values: Sequence[Any]) -> T:
        """Call, and leave no statement that may still be carried out: later ones must not be overwritten by it.

        What cannot be heard of any more is ended by whoever comes next, by its process's id; where that is not known
        the statement itself is, before this returns.
        """
        started = time.monotonic()
        try:
            return await self._call(method, sql, values)
        finally:
            self.may_still_write = not self.is_usable
            if self.may_still_write and self.process is None and not self._connection.is_closed():
                left = max(started + self._patience - time.monotonic(), _LEAST_PATIENCE)
                with contextlib.suppress(Exception):
                    # Asks the server to cancel, and waits until it has; one that goes on later has ended it by then.
                    await self._connection.close(timeout=left)

    async def end(self, lost: HeldConnection) -> bool:
        """See `HeldConnection.end`.

        A statement that was sent waits at the server's end until the process there reads it. If that stands still, it
        is carried out whenever it goes on, though nobody listens any more. That a server knows nothing of the process
        means that it is gone only if it is the same one: another host of the cluster knows nothing of it, either.
        """
        assert isinstance(lost, HeldPostgreSQLConnection)
        if lost.process is None:
            return True
        *process, server = lost.process
        if self.process is None or self.process[-1] != server:
            return False
        end = time.monotonic() + _SECONDS_TO_END
        with contextlib.suppress(asyncpg.SyntaxOrAccessError):
            while await self._call(self._connection.fetch, _END, process):
                if time.monotonic() >= end:
                    break
                await asyncio.sleep(_PAUSE)
        return True

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
