"""A URL in, a configured engine out, and the ways in which calls travel to it.

Writes go through the writer's lane over a connection that is held for them, brief queries over another one, both
straight to the driver. Long queries, and all calls to an engine of somebody else's, are ordinary SQLAlchemy.
"""

import asyncio
import contextlib
import functools
import os
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from sqlalchemy import Executable
from sqlalchemy import Row as ResultRow
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from workflows_mcp.engine.observing import StoreActivity
from workflows_mcp.persistence.audience import Audience
from workflows_mcp.persistence.calls import LEAST_SECONDS_TO_CLOSE, Calls, wait_or_cancel
from workflows_mcp.persistence.chains import Chains, Fetch
from workflows_mcp.persistence.compiling import Compiler
from workflows_mcp.persistence.connections import Check, Connections, Work
from workflows_mcp.persistence.deltas import Deltas, Plains
from workflows_mcp.persistence.dialects import Failure, Password, Row, dialect_for
from workflows_mcp.persistence.failures import Failures
from workflows_mcp.persistence.forking import Inherited, keep_from_children
from workflows_mcp.persistence.guard import Guard
from workflows_mcp.persistence.line import Line
from workflows_mcp.persistence.reader import Reader
from workflows_mcp.persistence.reading import Reading
from workflows_mcp.persistence.retry import Retry
from workflows_mcp.persistence.row_codec import RowCodec
from workflows_mcp.persistence.slow import SlowLog
from workflows_mcp.persistence.statements import Loading, Query
from workflows_mcp.persistence.threads import Threads
from workflows_mcp.persistence.turns import Turns
from workflows_mcp.persistence.waiting import Draft
from workflows_mcp.persistence.writer import GRACE_SECONDS, Writer
from workflows_mcp.persistence.writing import Writing
from workflows_mcp.settings import Settings, load_settings

__all__ = ["Database", "describe_database"]

_PLAIN_BYTES = 16 * 2**20
"""How much of what is unpacked is kept for those that are loaded together."""

T = TypeVar("T")


def describe_database(url: str | os.PathLike[str], settings: Settings | None = None) -> str:
    """A URL's database, and the schema that the settings name, in words that hold no password.

    Raises:
        StoreConfigurationError: The URL names no database that is supported.
    """
    return dialect_for(url, settings).description


class Database(Inherited):
    """An engine, and calls to it that end in time with a result or an error of this project.

    Attributes:
        dialect: What is particular to the database.
        engine: Its engine.
        guard: Refuses misuse.
        calls: What is under way, and waited for by `close`.
        audience: Is told of commits, repeated attempts and slow calls.
        failures: What went wrong, in the project's terms.
        compiler: Compiles statements.
        chains: What is a delta of what in it.
        threads: Unpack what is large.

    Args:
        url_or_engine: Where the database is. An engine stays its creator's to configure and to dispose.
        settings: Read from the environment when None.
        password: See `SQLAlchemyCheckpointStore`.
        check: Looks at the database before it is first used.
        codec: Makes states of rows.
        deltas: The states of live runs that are in memory.

    Raises:
        StoreConfigurationError: The URL names no database that is supported.
    """

    def __init__(
        self,
        url_or_engine: str | os.PathLike[str] | AsyncEngine,
        settings: Settings | None = None,
        *,
        password: Password | None = None,
        check: Check,
        codec: RowCodec,
        deltas: Deltas,
    ) -> None:
        self.settings = settings if settings is not None else load_settings()
        self._connections = Connections(url_or_engine, self.settings, password, check)
        self.dialect = self._connections.dialect
        self.engine = self._connections.engine
        self.guard = Guard(self.description)
        self.calls = Calls()
        self.audience = Audience()
        self.threads = Threads("workflows-mcp-unpack")
        self._packing = Threads("workflows-mcp-pack")  # apart: no load holds up the lane
        self.compiler = Compiler(self.engine.dialect, self.dialect.schema)
        self.failures = Failures(self.dialect, self.settings.deadline_seconds)
        self._saving_sql = self.compiler.saving(self.dialect, is_ours=self._connections.are_ours)
        self._saving, self._reading = (
            Line(functools.partial(self._connections.hold, self._saving_sql, is_shared=is_shared), self.guard.closed)
            for is_shared in (True, False)
        )
        self._slow = SlowLog(self.settings.slow_operation_seconds, self.description, self.audience.slowed)
        self._retry = Retry(self.failures.explain, self.failures.too_late, self.audience.retried)
        self.chains = Chains(self.dialect, codec, deltas)
        self._queries = Reading(
            self._reading,
            compiler=self.compiler,
            retry=self._retry,
            slow=self._slow,
            guard=self.guard,
            deadline_seconds=self.settings.deadline_seconds,
        )
        self._reader = Reader(
            self._fetch_payloads,
            self.calls.start,
            deadline_seconds=self.settings.deadline_seconds,
            too_late=self.failures.too_late,
        )
        writing = Writing(
            self._connections,
            self._saving,
            self._saving_sql,
            retry=self._retry,
            explain=self.failures.explain,
            audience=self.audience,
        )
        self._writer = Writer(
            writing.commit,
            writing.begin_commit,
            deadline_seconds=self.settings.deadline_seconds,
            too_late=self.failures.too_late,
            locked=self.failures.locked,
            refused=self.failures.refused,
            part=self._part_now,
            threads=self._packing,
            slow=self._slow,
            statement=self._saving_sql["one"].sql,
        )
        self._turns = Turns(
            self._writer,
            writing,
            connections=self._connections,
            dialect=self.dialect,
            compiler=self.compiler,
            slow=self._slow,
            guard=self.guard,
        )
        keep_from_children(self)

    @property
    def description(self) -> str:
        """Names the database in messages; holds no password."""
        return self.dialect.description

    def require_saving(self) -> None:
        """See `Connections.require_saving`."""
        self._connections.require_saving()

    async def save(self, encode: Callable[[], Draft]) -> None:
        """Insert or replace a checkpoint's row; returns when it is durable.

        Args:
            encode: Drafts the row, the values of `statements.SAVED`, when there is room for it.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        self.guard.refuse_misuse()
        await self._writer.save(encode)

    async def load(self, checkpoint_id: str) -> Sequence[Any] | None:
        """The columns of its `Loading` of a checkpoint; None when it is absent.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        if not self._connections.are_ours:
            rows = await self.load_many((checkpoint_id,))
            return rows[0] if rows else None
        return await self._queries.call(lambda: self._reader.load(checkpoint_id))

    async def load_many(
        self, checkpoint_ids: Collection[str], plains: Plains | None = None, *, loading: Loading | None = None
    ) -> Sequence[Sequence[Any]]:
        """The same of several checkpoints, in no order, over a connection of the pool; all within one deadline.

        Args:
            checkpoint_ids: Their ids.
            plains: Keeps what is unpacked of their bases, for others that have these in common.
            loading: Which columns; None: those that the codec takes.
        """
        fetch = functools.partial(self.fetch_long, deadline=self.deadline())
        rows = await fetch(self.chains.payloads(checkpoint_ids, loading))
        return await self.chains.complete(rows, fetch, plains, loading=loading)

    async def complete(self, rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        """Rows that were loaded by a statement of somebody's own, together with what it takes to unpack them."""
        fetch = self._fetching(self.deadline())
        return await self._queries.call(lambda: self.chains.complete(rows, fetch))

    async def fetch(self, query: Query) -> Sequence[Sequence[Any]]:
        """All rows of a query that is over in a moment, over the connection that is held for such.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        if not self._connections.are_ours:
            return await self.fetch_long(query)
        return await self._queries.call(lambda: self._queries.fetch(query))

    async def fetch_long(self, query: Query, *, deadline: float | None = None) -> Sequence[ResultRow[Any]]:
        """All rows of a query that may take a while, over a connection of the pool; see `run`."""

        async def work(connection: AsyncConnection) -> Sequence[ResultRow[Any]]:
            return (await connection.execute(query.statement, query.values)).all()

        with self._slow.timed("read", self.compiler.sql(query)) as call:
            rows = await self.run(work, deadline=deadline)
            call.rows = len(rows)
        return rows

    async def change(
        self,
        query: Query,
        *,
        keys: Collection[str] | None = None,
        waits: bool = True,
        deadline: float | None = None,
    ) -> int:
        """See `Turns.change`."""
        return await self._turns.change(query, keys=keys, waits=waits, deadline=deadline)

    async def put(self, statement: Executable, rows: Sequence[Row], *, keys: Collection[str]) -> int:
        """See `Turns.put`."""
        return await self._turns.put(statement, rows, keys=keys)

    async def fetch_changed(
        self,
        make: Callable[[bool], Query],
        *,
        keys: Collection[str] | None = None,
        waits: bool = True,
        deadline: float | None = None,
    ) -> Sequence[Sequence[Any]]:
        """See `Turns.fetch_changed`."""
        return await self._turns.fetch_changed(make, keys=keys, waits=waits, deadline=deadline)

    async def in_time(self, calls: Coroutine[Any, Any, T]) -> T:
        """Make several calls, each of which has the whole deadline, within one; those left over are cancelled.

        Raises:
            CheckpointStoreError: What they raised, or they took too long together.
        """
        with contextlib.suppress(TimeoutError):
            # Later than the last of them would give up by itself: it may know the reason.
            async with asyncio.timeout(self.settings.deadline_seconds + 2 * GRACE_SECONDS):
                return await calls
        raise self.failures.too_late()

    async def run(self, work: Work[T], *, deadline: float | None = None) -> T:
        """Do some work on a connection within the deadline, or by an earlier one in the event loop's time.

        A single statement is a transaction of its own. What failed because the database was locked, restarting or
        unreachable is tried again, whole and on a fresh connection, until the deadline; so the work must be
        such that doing it twice is as good as once. The work goes on to its end when the caller is cancelled.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        self.guard.refuse_misuse()
        until = self.deadline() if deadline is None else deadline
        # A task of its own: a driver that takes long to let go of a connection cannot hold up the caller.
        call = self.calls.start(self._retry.until(until, lambda: self._connections.work(work)))
        left = max(until - asyncio.get_running_loop().time(), 0)
        done, _ = await asyncio.wait({call}, timeout=left + GRACE_SECONDS)
        if not done:
            call.cancel()
            raise self.failures.too_late()
        return call.result()

    async def run_patiently(self, work: Work[T]) -> T:
        """Do some work, once and without a deadline, on a connection made for it, outside a transaction.

        It is cut short when the caller is cancelled.
        """
        self.guard.refuse_misuse()
        # A task of its own: letting go of a connection is cut short, and left undone, where cancellation is repeated.
        call = self.calls.start(self._once(lambda: self._connections.work_patiently(work)))
        try:
            await asyncio.wait({call})
        except asyncio.CancelledError:
            call.cancel()
            raise
        return call.result()

    async def _once(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Raise an error in the project's terms, with no driver's chained to it that can show what is stored."""
        failure: Failure | None = None
        try:
            return await attempt()
        except Exception as error:
            failure = self.failures.explain(error)
            if failure is None:
                raise
        raise failure.error

    async def close(self) -> None:
        """Wait for the calls under way, then close all connections, unless the engine is somebody else's.

        Takes at most the deadline, and a moment: connections that a frozen server does not let go of are left behind.
        """
        self.guard.is_closed = True
        if self.guard.is_inherited:
            return  # its connections are the parent's
        if self.guard.is_elsewhere():
            await self._leave()
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + self.settings.deadline_seconds
        await self._writer.close(self.settings.deadline_seconds)
        await self._queries.end(end)
        await self.calls.end(end - loop.time())
        self._reader.close()
        self.threads.close()
        if self._connections.are_ours:
            # The pool last of what opens connections: what is given back to it later would stay open.
            # One after the other: on SQLite whoever is last puts the -wal file into the database, and of two that close
            # at the same moment neither is.
            await self._until(end, *(line.open_no_more() for line in (self._reading, self._saving)))
            for close in (self._reading.close, self.engine.dispose, self._saving.close):
                await self._until(end, close())

    async def _until(self, end: float, *closing: Coroutine[Any, Any, None]) -> None:
        """Do what belongs to closing, at the same time; what takes longer than that is left behind."""
        tasks = [self.calls.start(one) for one in closing]
        await wait_or_cancel(tasks, max(end - asyncio.get_running_loop().time(), LEAST_SECONDS_TO_CLOSE))

    async def _leave(self) -> None:
        """Close what can be closed from another event loop than the one that used it; there nobody waits any more."""
        if not self._connections.are_ours:
            return
        if self.dialect.is_bound_to_loop:
            self.engine.sync_engine.dispose(close=False)
            return
        self._saving.leave()
        self._reading.leave()
        await self.engine.dispose()

    def was_inherited(self) -> list[object]:
        """See `Inherited`. Engine, event loop and tasks are kept with it, and none of them is used any more."""
        self.guard.is_inherited = True
        return []

    async def _fetch_payloads(self, checkpoint_ids: Collection[str]) -> Sequence[Sequence[Any]]:
        """What loading some checkpoints needs, over the connection that is held for reading."""
        deadline = self.deadline()
        rows = await self._queries.fetch(self.chains.payloads(checkpoint_ids))
        # States of one run, asked for together, have most of their bases in common.
        plains = Plains(_PLAIN_BYTES) if len(rows) > 1 else None
        return await self.chains.complete(rows, functools.partial(self._queries.fetch, deadline=deadline), plains)

    async def _part_now(self, checkpoint_ids: Collection[str], deadline: float) -> bool:
        """See `Writer`. Nothing of it begins after the deadline: others wait for the lane."""

        async def rewrite(query: Query, _: Collection[str]) -> Sequence[Sequence[Any]]:
            if asyncio.get_running_loop().time() >= deadline:
                raise self.failures.too_late()
            return await self._turns.change_now(query, deadline)

        return await self.chains.make_whole(
            checkpoint_ids, self._fetching(deadline), rewrite, self._packing, lets_go=True
        )

    def deadline(self) -> float:
        """That of a call which begins now, in the event loop's time."""
        return asyncio.get_running_loop().time() + self.settings.deadline_seconds

    def _fetching(self, deadline: float) -> Fetch:
        """A way to fetch what is needed within a call that has begun before."""
        return functools.partial(
            self._queries.fetch if self._connections.are_ours else self.fetch_long, deadline=deadline
        )

    def activity(self) -> StoreActivity:
        """See `CheckpointStore.activity`."""
        pool: Any = self.engine.pool
        queued, queued_bytes = self._writer.queued
        return StoreActivity(
            pool_size=pool.size() if hasattr(pool, "size") else None,
            pool_in_use=pool.checkedout() if hasattr(pool, "checkedout") else 0,
            held_connections=sum(line.held is not None for line in (self._saving, self._reading)),
            queued_saves=queued,
            queued_bytes=queued_bytes,
            log_bytes=self.dialect.log_bytes(),
            free_bytes=self.dialect.free_bytes(),
        )
