"""Connections to a database: one of the pool, one that is made for some work, or one that is held."""

import asyncio
import contextlib
import logging
import os
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from workflows_mcp.errors import CheckpointStoreError, copy_error
from workflows_mcp.persistence.dialects import Compiled, Dialect, HeldConnection, Password, dialect_for
from workflows_mcp.settings import Settings

__all__ = ["Check", "Connections", "Work"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

Work = Callable[[AsyncConnection], Awaitable[T]]

Check = Callable[[Connection, Dialect], CheckpointStoreError | None]
"""Looks at a database before it is first used; raises an error when it is not fit to be, and returns one when nothing
may be saved there."""


class Connections:
    """An engine, and the ways to a connection of it. The database is looked at before it is first used.

    Errors are the driver's own, or SQLAlchemy's.

    Attributes:
        dialect: What is particular to the database.
        engine: The engine.
        are_ours: Whether the engine was made here, and is to be disposed of.
        refusal: Why nothing may be saved; None: all may, as far as it is known.

    Args:
        url_or_engine: Where the database is. An engine stays its creator's to configure and to dispose.
        settings: How connections are made.
        password: See `SQLAlchemyCheckpointStore`.
        check: The look.

    Raises:
        StoreConfigurationError: The URL names no database that is supported.
    """

    def __init__(
        self,
        url_or_engine: str | os.PathLike[str] | AsyncEngine,
        settings: Settings,
        password: Password | None,
        check: Check,
    ) -> None:
        self.dialect: Dialect = dialect_for(url_or_engine, settings, password)
        self.are_ours = not isinstance(url_or_engine, AsyncEngine)
        self.engine: AsyncEngine = (
            url_or_engine.execution_options(**self.dialect.naming)  # another view of it, over the same pool
            if isinstance(url_or_engine, AsyncEngine)
            else self.dialect.create_engine(settings)
        )
        self.refusal: CheckpointStoreError | None = None
        self._settings = settings
        self._check = check
        self._is_checked = False

    def require_saving(self) -> None:
        """Raise an error when nothing may be saved here, which is known once the database was looked at."""
        if self.refusal is not None:
            raise copy_error(self.refusal)

    async def work(self, work: Work[T], *, writes: bool = False) -> T:
        """Do some work in a transaction on a connection of the pool; tell if it `writes`."""
        with _nothing_left_open():
            async with self.engine.connect() as connection:
                keeping_bases = self.dialect.keeping_bases(connection) if writes else contextlib.nullcontext()
                async with self._interrupted_if_cancelled(connection), keeping_bases, connection.begin():
                    await self._check_once(connection)
                    whereabouts = await self.dialect.whereabouts(connection)
                    done = await work(connection)
                # After the commit, and before the connection is given back: it may be the last one.
                self.dialect.require_there(whereabouts)
                return done

    async def work_patiently(self, work: Work[T]) -> T:
        """Do some work without a deadline, on a connection made for it, outside a transaction."""
        engine = self.dialect.create_engine(self._settings, patient=True) if self.are_ours else self.engine
        try:
            with _nothing_left_open():
                async with engine.connect() as connection:
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    async with self._interrupted_if_cancelled(connection):
                        await self._check_once(connection)
                        whereabouts = await self.dialect.whereabouts(connection)
                        done = await work(connection)
                    self.dialect.require_there(whereabouts)
                    return done
        finally:
            if self.are_ours:
                await engine.dispose()

    async def hold(self, statements: Mapping[str, Compiled], *, is_shared: bool) -> HeldConnection:
        """Open a connection of our own, made by SQLAlchemy, but not the pool's any more."""
        if not self._is_checked:
            with _nothing_left_open():
                async with self.engine.connect() as connection:
                    await self._check_once(connection)
        return await self.dialect.hold(self.engine, statements, self._settings, is_shared=is_shared)

    @contextlib.asynccontextmanager
    async def _interrupted_if_cancelled(self, connection: AsyncConnection) -> AsyncIterator[None]:
        driver = (await connection.get_raw_connection()).driver_connection
        try:
            yield
        except asyncio.CancelledError:
            self.dialect.interrupt(driver)
            raise

    async def _check_once(self, connection: AsyncConnection) -> None:
        """Look at the database before it is first used, on the same connection and within the same deadline."""
        if self._is_checked:
            return
        self.refusal = await connection.run_sync(self._check, self.dialect)
        # A connection of our own is set up so that it has none, but through PgBouncer, which does not let us.
        is_ours = self.are_ours and not self._settings.pgbouncer
        weakness = None if is_ours else await self.dialect.find_weakness(connection)
        if weakness is not None and not self._is_checked:
            what = "PgBouncer's way to" if self.are_ours else "the engine that was passed in for"
            _log.warning("%s %s: %s", what, self.dialect.description, weakness)
        if self.are_ours and not self._is_checked:
            for level, notice in self.dialect.start_up_notices():
                _log.log(level, "%s: %s", self.dialect.description, notice)
        self._is_checked = True


@contextlib.contextmanager
def _nothing_left_open() -> Iterator[None]:
    """When a call is cancelled, let go of the cursors that it leaves behind.

    One that was cancelled before its rows were fetched still reads: SQLite keeps its read lock, and the transaction
    that it is in, though the connection was closed. The traceback leads to it, and in a circle back to itself, so that
    it would stay until Python looks for such circles.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        link: BaseException | None = error
        while link is not None:
            traceback.clear_frames(link.__traceback__)
            link = link.__context__
        raise
