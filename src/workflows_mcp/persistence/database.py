"""A URL in, a configured engine out, and the ways in which calls travel to it.

Writes go through the writer's lane over a connection that is held for them, brief queries over another one, both
straight to the driver. Long queries, and all calls to an engine of somebody else's, are ordinary SQLAlchemy.
"""

import asyncio
import contextlib
import functools
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable
from sqlalchemy import Row as ResultRow
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from workflows_mcp.engine.leases import Fence, not_saved
from workflows_mcp.engine.observing import StoreActivity
from workflows_mcp.errors import CheckpointStoreError, StoreConfigurationError, StoreUnavailableError, copy_error
from workflows_mcp.persistence import statements
from workflows_mcp.persistence.audience import Audience
from workflows_mcp.persistence.calls import LEAST_SECONDS_TO_CLOSE, Calls, wait_or_cancel
from workflows_mcp.persistence.compiling import Compiler
from workflows_mcp.persistence.dialects import Dialect, Failure, HeldConnection, Password, Row, Then, dialect_for
from workflows_mcp.persistence.forking import Inherited, keep_from_children
from workflows_mcp.persistence.line import Line
from workflows_mcp.persistence.reader import Reader
from workflows_mcp.persistence.retry import Retry
from workflows_mcp.persistence.slow import SlowLog, Timed
from workflows_mcp.persistence.statements import PLAIN, Loading, Query
from workflows_mcp.persistence.waiting import Draft
from workflows_mcp.persistence.writer import GRACE_SECONDS, Writer
from workflows_mcp.settings import Settings, load_settings

__all__ = ["Database", "describe_database"]

_log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]


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
        calls: What is under way, and waited for by `close`.
        audience: Is told of commits, repeated attempts and slow calls.

    Args:
        url_or_engine: Where the database is. An engine stays its creator's to configure and to dispose.
        settings: Read from the environment when None.
        password: See `SQLAlchemyCheckpointStore`.
        check: Looks at the database before it is first used; raises an error when it is not fit to be, and returns
            one when nothing may be saved there.
        loading: How checkpoints are loaded.

    Raises:
        StoreConfigurationError: The URL names no database that is supported.
    """

    def __init__(
        self,
        url_or_engine: str | os.PathLike[str] | AsyncEngine,
        settings: Settings | None = None,
        *,
        password: Password | None = None,
        check: Callable[[Connection, Dialect], CheckpointStoreError | None],
        loading: Loading = PLAIN,
    ) -> None:
        self.settings = settings if settings is not None else load_settings()
        self.dialect: Dialect = dialect_for(url_or_engine, self.settings, password)
        self._owns_engine = not isinstance(url_or_engine, AsyncEngine)
        self.engine: AsyncEngine = (
            url_or_engine.execution_options(**self.dialect.naming)  # another view of it, over the same pool
            if isinstance(url_or_engine, AsyncEngine)
            else self.dialect.create_engine(self.settings)
        )
        self.calls = Calls()
        self.audience = Audience()
        self.compiler = Compiler(self.engine.dialect, self.dialect.schema)
        self._check = check
        self._is_checked = False
        self._refusal: CheckpointStoreError | None = None
        self._saving_sql = {name: self.compiler.statement(one) for name, one in statements.saving(self.dialect).items()}
        self._saving, self._reading = (
            Line(functools.partial(self._hold, is_shared=is_shared), self._misuse) for is_shared in (True, False)
        )
        self._slow = SlowLog(self.settings.slow_operation_seconds, self.description, self.audience.slowed)
        self._retry = Retry(self._explain, self._too_late, self.audience.retried)
        self._loading = loading
        self._payloads = loading.many(self.dialect)
        self._reader = Reader(
            lambda checkpoint_ids: self._fetch(self._payloads_of(checkpoint_ids)),
            self.calls.start,
            deadline_seconds=self.settings.deadline_seconds,
            too_late=self._too_late,
        )
        self._writer = Writer(
            self._commit,
            self._begin_commit,
            deadline_seconds=self.settings.deadline_seconds,
            too_late=self._too_late,
            locked=self._locked,
            refused=self._refused,
            slow=self._slow,
            statement=self._saving_sql["one"].sql,
        )
        self._reads = 0
        self._no_reads = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._is_inherited = False
        keep_from_children(self)

    @property
    def description(self) -> str:
        """Names the database in messages; holds no password."""
        return self.dialect.description

    async def save(self, encode: Callable[[], Draft]) -> None:
        """Insert or replace a checkpoint's row; returns when it is durable.

        Args:
            encode: Drafts the row, the values of `statements.SAVED`, when there is room for it.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        self.refuse_misuse()
        await self._writer.save(encode)

    async def load(self, checkpoint_id: str) -> Sequence[Any] | None:
        """The columns of its `Loading` of a checkpoint; None when it is absent.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        if not self._owns_engine:
            rows = await self.load_many((checkpoint_id,))
            return rows[0] if rows else None
        return await self._read(lambda: self._reader.load(checkpoint_id))

    async def load_many(self, checkpoint_ids: Collection[str]) -> Sequence[Sequence[Any]]:
        """The same of several checkpoints, in no order, over a connection of the pool."""
        return await self.fetch_long(self._payloads_of(checkpoint_ids))

    async def fetch(self, query: Query) -> Sequence[Sequence[Any]]:
        """All rows of a query that is over in a moment, over the connection that is held for such.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        if not self._owns_engine:
            return await self.fetch_long(query)
        return await self._read(lambda: self._fetch(query))

    async def _read(self, call: Callable[[], Awaitable[T]]) -> T:
        """Read in the caller's own task: a held connection is let go of at once when the caller gives up."""
        self.refuse_misuse()
        self._reads += 1
        try:
            return await call()
        finally:
            self._reads -= 1
            if self._closed and not self._reads:
                self._no_reads.set()

    async def fetch_long(self, query: Query) -> Sequence[ResultRow[Any]]:
        """All rows of a query that may take a while, over a connection of the pool; see `run`."""

        async def work(connection: AsyncConnection) -> Sequence[ResultRow[Any]]:
            return (await connection.execute(query.statement, query.values)).all()

        with self._slow.timed("read", self.compiler.sql(query)) as call:
            rows = await self.run(work)
            call.rows = len(rows)
        return rows

    async def change(self, query: Query, *, keys: Collection[str] | None = None) -> int:
        """Run one statement that writes, in its turn among the saves; returns how many rows it changed.

        Args:
            query: The statement.
            keys: See `Writer.run`.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        sql, values = self.compiler.query(query)

        async def on_connection(connection: AsyncConnection) -> int:
            return (await connection.exec_driver_sql(sql, tuple(values))).rowcount

        with self._slow.timed("change", sql) as call:
            call.rows = changed = await self._in_turn(lambda held: held.change(sql, values), on_connection, keys, call)
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
        sql = self.compiler.known_statement(statement)

        async def on_held(held: HeldConnection) -> int:
            self.require_saving()
            return await held.put(sql, rows)

        async def on_connection(connection: AsyncConnection) -> int:
            self.require_saving()
            return await self.dialect.put(connection, sql, rows)

        with self._slow.timed("put", sql.sql) as call:
            call.rows = written = await self._in_turn(on_held, on_connection, keys, call)
        return written

    async def fetch_changed(
        self, make: Callable[[bool], Query], *, keys: Collection[str] | None = None, deadline: float | None = None
    ) -> Sequence[Sequence[Any]]:
        """Run one statement that writes, in its turn among the saves; returns the rows that it returns.

        Args:
            make: Makes the statement when its turn has come. It is told whether an earlier one may have been carried
                out though nobody knows, since the connection was lost.
            keys: See `Writer.run`.
            deadline: See `Writer.run`.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        first: HeldConnection | AsyncConnection | None = None

        async def on_held(held: HeldConnection) -> Sequence[Sequence[Any]]:
            nonlocal first
            first = first or held
            # A connection that was lost was replaced; one that was not has told what came of the statement.
            call.sql, values = self.compiler.query(make(held is not first))
            return await held.fetch_changed(call.sql, values)

        async def on_connection(connection: AsyncConnection) -> Sequence[Sequence[Any]]:
            nonlocal first
            first = first or connection  # of somebody else's engine: each attempt has one of its own
            call.sql, values = self.compiler.query(make(connection is not first))
            return (await connection.exec_driver_sql(call.sql, tuple(values))).all()

        with self._slow.timed("change") as call:
            rows = await self._in_turn(on_held, on_connection, keys, call, deadline)
            call.rows = len(rows)
        return rows

    async def _in_turn(
        self,
        on_held: Callable[[HeldConnection], Awaitable[T]],
        on_connection: Work[T],
        keys: Collection[str] | None,
        call: Timed,
        deadline: float | None = None,
    ) -> T:
        """Write in its turn among the saves, over the held connection or, on somebody else's engine, over any."""
        self.refuse_misuse()

        async def work(connection: AsyncConnection) -> T:
            async with self.dialect.transaction(connection):
                return await on_connection(connection)

        def write(until: float) -> Awaitable[T]:
            if self._owns_engine:
                return self._write(until, on_held)
            return self._retry.until(until, lambda: self._work(work))

        return await self._writer.run(write, keys, deadline=deadline, call=call)

    async def in_time(self, calls: Coroutine[Any, Any, T]) -> T:
        """Make several calls, each of which has the whole deadline, within one; those left over are cancelled.

        Raises:
            CheckpointStoreError: What they raised, or they took too long together.
        """
        with contextlib.suppress(TimeoutError):
            # Later than the last of them would give up by itself: it may know the reason.
            async with asyncio.timeout(self.settings.deadline_seconds + 2 * GRACE_SECONDS):
                return await calls
        raise self._too_late()

    async def run(self, work: Work[T]) -> T:
        """Do some work on a connection within the deadline.

        A single statement is a transaction of its own. What failed because the database was locked, restarting or
        unreachable is tried again, whole and on a fresh connection, until the deadline; so the work must be
        such that doing it twice is as good as once. The work goes on to its end when the caller is cancelled.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        self.refuse_misuse()
        deadline = self.settings.deadline_seconds
        until = asyncio.get_running_loop().time() + deadline
        # A task of its own: a driver that takes long to let go of a connection cannot hold up the caller.
        call = self.calls.start(self._retry.until(until, lambda: self._work(work)))
        done, _ = await asyncio.wait({call}, timeout=deadline + GRACE_SECONDS)
        if not done:
            call.cancel()
            raise self._too_late()
        return call.result()

    async def run_patiently(self, work: Work[T]) -> T:
        """Do some work, once and without a deadline, on a connection made for it, outside a transaction.

        It is cut short when the caller is cancelled.
        """
        self.refuse_misuse()
        # A task of its own: letting go of a connection is cut short, and left undone, where cancellation is repeated.
        call = self.calls.start(self._work_patiently(work))
        try:
            await asyncio.wait({call})
        except asyncio.CancelledError:
            call.cancel()
            raise
        return call.result()

    async def _work_patiently(self, work: Work[T]) -> T:
        engine = self.engine
        if self._owns_engine:
            engine = self.dialect.create_engine(self.settings, patient=True)
        failure: Failure | None = None
        try:
            async with engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                async with self._interrupted_if_cancelled(connection):
                    await self._check_once(connection)
                    whereabouts = await self.dialect.whereabouts(connection)
                    done = await work(connection)
                self.dialect.require_there(whereabouts)
                return done
        except Exception as error:
            failure = self._explain(error)
            if failure is None:
                raise
        finally:
            if self._owns_engine:
                await engine.dispose()
        raise failure.error

    async def close(self) -> None:
        """Wait for the calls under way, then close all connections, unless the engine is somebody else's.

        Takes at most the deadline, and a moment: connections that a frozen server does not let go of are left behind.
        """
        self._closed = True
        if self._is_inherited:
            return  # its connections are the parent's
        loop = asyncio.get_running_loop()
        if self._loop not in {None, loop}:
            await self._leave()
            return
        end = loop.time() + self.settings.deadline_seconds
        await self._writer.close(self.settings.deadline_seconds)
        if self._reads:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    await self._no_reads.wait()
        await self.calls.end(end - loop.time())
        self._reader.close()
        if self._owns_engine:
            # The writer alone and last: on SQLite whoever is last puts the -wal file into the database.
            for closing in ([self._reading.close(), self.engine.dispose()], [self._saving.close()]):
                tasks = [self.calls.start(one) for one in closing]
                await wait_or_cancel(tasks, max(end - loop.time(), LEAST_SECONDS_TO_CLOSE))

    async def _leave(self) -> None:
        """Close what can be closed from another event loop than the one that used it; there nobody waits any more."""
        if not self._owns_engine:
            return
        if self.dialect.is_bound_to_loop:
            self.engine.sync_engine.dispose(close=False)
            return
        self._saving.leave()
        self._reading.leave()
        await self.engine.dispose()

    async def _commit(self, rows: Sequence[Row], deadline: float) -> Collection[str]:
        if not self.audience.observers:
            return await self._write_rows(rows, deadline)
        started = time.perf_counter()
        written = await self._write_rows(rows, deadline)
        self.audience.committed(rows, started)
        return written

    async def _write_rows(self, rows: Sequence[Row], deadline: float) -> Collection[str]:
        """Write some rows together, over the held connection or, on somebody else's engine, in the ordinary way."""
        if self._owns_engine:
            return await self._write(deadline, lambda held: self._save(held, rows))

        async def work(connection: AsyncConnection) -> Collection[str]:
            self.require_saving()
            return await self.dialect.save(connection, self._saving_sql, rows)

        return await self._retry.until(deadline, lambda: self._work(work))

    def _save(self, held: HeldConnection, rows: Sequence[Row]) -> Awaitable[Collection[str]]:
        self.require_saving()
        return held.save(rows)

    def require_saving(self) -> None:
        """Raise an error when nothing may be saved here, which is known once the database was looked at."""
        if self._refusal is not None:
            raise copy_error(self._refusal)

    def _begin_commit(self, row: Row, then: Then[Collection[str]]) -> bool:
        """Begin to write one row over the held connection, when that is open and able to."""
        held = self._saving.held
        started = time.perf_counter() if self.audience.observers else 0.0

        def ended(written: Collection[str] | None, error: BaseException | None) -> None:
            if error is None and started:
                self.audience.committed((row,), started)
            failure = self._explain(error) if isinstance(error, Exception) else None
            then(written, error if failure is None else failure.error)

        return held is not None and self._refusal is None and held.begin_save(row, ended)

    async def _write(self, deadline: float, work: Callable[[HeldConnection], Awaitable[T]]) -> T:
        """Write over the held connection.

        An attempt is not cut short at the deadline, when its callers are told: it bounds itself, and until it has
        ended no other may begin, lest it overwrite what came later.
        """
        return await self._retry.until(deadline, lambda: self._saving.call(work), is_cut_short=False)

    async def _work(self, work: Work[T]) -> T:
        async with self.engine.connect() as connection:
            async with self._interrupted_if_cancelled(connection), connection.begin():
                await self._check_once(connection)
                whereabouts = await self.dialect.whereabouts(connection)
                done = await work(connection)
            # After the commit, and before the connection is given back: it may be the last one.
            self.dialect.require_there(whereabouts)
            return done

    @contextlib.asynccontextmanager
    async def _interrupted_if_cancelled(self, connection: AsyncConnection) -> AsyncIterator[None]:
        driver = (await connection.get_raw_connection()).driver_connection
        try:
            yield
        except asyncio.CancelledError:
            self.dialect.interrupt(driver)
            raise

    async def _hold(self, *, is_shared: bool) -> HeldConnection:
        """Open a connection of our own, made by SQLAlchemy, but not the pool's any more."""
        if not self._is_checked:
            async with self.engine.connect() as connection:
                await self._check_once(connection)
        return await self.dialect.hold(self.engine, self._saving_sql, self.settings, is_shared=is_shared)

    async def _check_once(self, connection: AsyncConnection) -> None:
        """Look at the database before it is first used, on the same connection and within the same deadline."""
        if self._is_checked:
            return
        self._refusal = await connection.run_sync(self._check, self.dialect)
        # A connection of our own is set up so that it has none, but through PgBouncer, which does not let us.
        is_ours = self._owns_engine and not self.settings.pgbouncer
        weakness = None if is_ours else await self.dialect.find_weakness(connection)
        if weakness is not None and not self._is_checked:
            what = "PgBouncer's way to" if self._owns_engine else "the engine that was passed in for"
            _log.warning("%s %s: %s", what, self.description, weakness)
        if self._owns_engine and not self._is_checked:
            for level, notice in self.dialect.start_up_notices():
                _log.log(level, "%s: %s", self.description, notice)
        self._is_checked = True

    def was_inherited(self) -> list[object]:
        """See `Inherited`. Engine, event loop and tasks are kept with it, and none of them is used any more."""
        self._is_inherited = True
        return []

    def refuse_misuse(self) -> None:
        """Raise an error when the store is closed, or used where it was not opened."""
        if self._is_inherited:
            raise StoreConfigurationError(
                f"the store of {self.description} was opened in the process that this one was forked from; open one "
                "in each process"
            )
        if self._closed:
            raise self._misuse()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise StoreConfigurationError(
                f"the store of {self.description} was used in another event loop; open one in each loop"
            )

    def _misuse(self) -> StoreConfigurationError:
        return StoreConfigurationError(f"the store of {self.description} is closed; open a new one")

    def _explain(self, error: Exception) -> Failure | None:
        if isinstance(error, CheckpointStoreError):
            return Failure(copy_error(error))
        if isinstance(error, PoolTimeoutError):
            return Failure(
                StoreUnavailableError(
                    f"all connections to {self.description} are in use; try again, or raise WORKFLOWS_POOL_SIZE"
                )
            )
        return self.dialect.explain(error)

    def _too_late(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self.description} did not answer within {self.settings.deadline_seconds:g} s; try again"
        )

    def _locked(self) -> StoreUnavailableError:
        return StoreUnavailableError(f"somebody holds a lock in {self.description} for too long; try again")

    def _refused(self, checkpoint_id: str, fence: Fence | None) -> CheckpointStoreError:
        if fence is not None:
            return not_saved(checkpoint_id, fence)
        return CheckpointStoreError(
            f"{self.description} did not write checkpoint {checkpoint_id!r}, and said nothing; does its checkpoints "
            "table have a trigger or a rule that drops rows?"
        )

    def _payloads_of(self, checkpoint_ids: Collection[str]) -> Query:
        if len(checkpoint_ids) == 1:
            return self._loading.one(*checkpoint_ids)  # PostgreSQL plans it once, and `= ANY` at every call
        return Query(self._payloads, {"checkpoint_ids": self.dialect.any_value(checkpoint_ids)})

    async def _fetch(self, query: Query) -> Sequence[Sequence[Any]]:
        """All rows of a query, over the connection that is held for reading."""
        sql, values = self.compiler.query(query)
        loop = asyncio.get_running_loop()
        started = loop.time()
        deadline = started + self.settings.deadline_seconds

        def attempt() -> Awaitable[Sequence[Sequence[Any]]]:
            return self._reading.call(lambda held: held.fetch(sql, values))

        # A query over an open connection ends by itself.
        rows = await self._retry.until(deadline, attempt, ends_by_itself=self._reading.held is not None)
        if loop.time() - started >= self._slow.seconds:
            self._slow.look_at(Timed("read", started, sql, len(rows)))
        return rows

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
