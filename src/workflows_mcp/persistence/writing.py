"""The ways in which a write reaches the database: over the connection that is held for writes, or over the pool."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from workflows_mcp.persistence.audience import Audience
from workflows_mcp.persistence.connections import Connections, Work
from workflows_mcp.persistence.dialects import Compiled, Failure, HeldConnection, Row, Then
from workflows_mcp.persistence.line import Line
from workflows_mcp.persistence.retry import Retry

__all__ = ["Writing"]

T = TypeVar("T")


class Writing:
    """Carries out what the writer's lane says is next.

    Args:
        connections: Used in the ordinary way where the engine is somebody else's.
        line: Holds the connection for writes.
        statements: What saves are made with.
        retry: Tries again what may succeed shortly.
        explain: Says what an error means; None: it is no error of the database's.
        audience: Is told of commits.
    """

    def __init__(
        self,
        connections: Connections,
        line: Line,
        statements: Mapping[str, Compiled],
        *,
        retry: Retry,
        explain: Callable[[Exception], Failure | None],
        audience: Audience,
    ) -> None:
        self._connections = connections
        self._line = line
        self._statements = statements
        self._retry = retry
        self._explain = explain
        self._audience = audience

    async def commit(self, rows: Sequence[Row], deadline: float) -> Collection[str]:
        """Write some rows together by a deadline, and tell of it; returns the ids that were written."""
        if not self._audience.observers:
            return await self._commit(rows, deadline)
        started = time.perf_counter()
        written = await self._commit(rows, deadline)
        self._audience.committed(rows, started)
        return written

    def begin_commit(self, row: Row, then: Then[Collection[str]]) -> bool:
        """Begin to write one row over the held connection, when that is open and able to."""
        held = self._line.held
        started = time.perf_counter() if self._audience.observers else 0.0

        def ended(written: Collection[str] | None, error: BaseException | None) -> None:
            if error is None and started:
                self._audience.committed((row,), started)
            failure = self._explain(error) if isinstance(error, Exception) else None
            then(written, error if failure is None else failure.error)

        return held is not None and self._connections.refusal is None and held.begin_save(row, ended)

    async def write(
        self, deadline: float, on_held: Callable[[HeldConnection], Awaitable[T]], on_connection: Work[T]
    ) -> T:
        """Write over the held connection or, on somebody else's engine, in a transaction over one of its own.

        Over the held connection an attempt is not cut short at the deadline, when its callers are told: it bounds
        itself, and until it has ended no other may begin, lest it overwrite what came later.
        """
        if self._connections.are_ours:
            return await self._retry.until(deadline, lambda: self._line.call(on_held), is_cut_short=False)
        return await self._retry.until(deadline, lambda: self._connections.work(on_connection, writes=True))

    def _commit(self, rows: Sequence[Row], deadline: float) -> Awaitable[Collection[str]]:
        def on_held(held: HeldConnection) -> Awaitable[Collection[str]]:
            self._connections.require_saving()
            return held.save(rows)

        async def on_connection(connection: AsyncConnection) -> Collection[str]:
            self._connections.require_saving()
            return await self._connections.dialect.save(connection, self._statements, rows)

        return self.write(deadline, on_held, on_connection)
