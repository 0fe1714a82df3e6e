"""The way in which a brief query reaches the database: over the connection that is held for reading."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from workflows_mcp.persistence.compiling import Compiler
from workflows_mcp.persistence.guard import Guard
from workflows_mcp.persistence.line import Line
from workflows_mcp.persistence.retry import Retry
from workflows_mcp.persistence.slow import SlowLog, Timed
from workflows_mcp.persistence.statements import Query

__all__ = ["Reading"]

T = TypeVar("T")


class Reading:
    """Carries out queries that are over in a moment.

    Args:
        line: Holds the connection for reading.
        compiler: Compiles the queries.
        retry: Tries again what may succeed shortly.
        slow: Warns of those that take long.
        guard: Refuses misuse.
        deadline_seconds: How long a query takes at the most.
    """

    def __init__(
        self,
        line: Line,
        *,
        compiler: Compiler,
        retry: Retry,
        slow: SlowLog,
        guard: Guard,
        deadline_seconds: float,
    ) -> None:
        self._line = line
        self._compiler = compiler
        self._retry = retry
        self._slow = slow
        self._guard = guard
        self._deadline_seconds = deadline_seconds
        self._under_way = 0
        self._has_ended = asyncio.Event()

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Read in the caller's own task: a held connection is let go of at once when the caller gives up."""
        self._guard.refuse_misuse()
        self._under_way += 1
        try:
            return await call()
        finally:
            self._under_way -= 1
            if self._guard.is_closed and not self._under_way:
                self._has_ended.set()

    async def fetch(self, query: Query, *, deadline: float | None = None) -> Sequence[Sequence[Any]]:
        """All rows of a query, within such a call.

        Args:
            query: The query.
            deadline: In the event loop's time; None: it has a whole one, and needs no timer then.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        sql, values = self._compiler.query(query)
        loop = asyncio.get_running_loop()
        started = loop.time()
        until = started + self._deadline_seconds if deadline is None else deadline

        def attempt() -> Awaitable[Sequence[Sequence[Any]]]:
            return self._line.call(lambda held: held.fetch(sql, values))

        # A query over an open connection ends by itself, when it has taken as long as a call may.
        ends_by_itself = deadline is None and self._line.held is not None
        rows = await self._retry.until(until, attempt, ends_by_itself=ends_by_itself)
        if loop.time() - started >= self._slow.seconds:
            self._slow.look_at(Timed("read", started, sql, len(rows)))
        return rows

    async def end(self, until: float) -> None:
        """Wait for what is under way, when no more may begin; until a time of the event loop's at the latest."""
        if self._under_way:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._has_ended.wait()
