"""A URL in, a configured engine out, and the one way in which every call travels to it."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, CursorResult, Executable, Row
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from workflows_mcp.errors import CheckpointStoreError, StoreConfigurationError, StoreUnavailableError
from workflows_mcp.persistence.dialects import Dialect, Failure, dialect_for
from workflows_mcp.settings import Settings, load_settings

__all__ = ["Database", "describe_database"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

_GRACE_SECONDS = 0.1
"""How much later than the deadline a call is given up that does not end by itself."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
"""Seconds between two tries: the most after the first failure, and the most of all; drawn at random below."""


def describe_database(url: str) -> str:
    """A URL's database in words that hold no password.

    Raises:
        StoreConfigurationError: The URL names no database that is supported.
    """
    return dialect_for(url).description


class Database:
    """An engine, and calls to it that end in time with a result or an error of this project.

    Args:
        url_or_engine: Where the database is. An engine stays its creator's to configure and to dispose.
        settings: Read from the environment when None.

    Raises:
        StoreConfigurationError: The URL names no database that is supported.
    """

    def __init__(self, url_or_engine: str | AsyncEngine, settings: Settings | None = None) -> None:
        self.settings = settings if settings is not None else load_settings()
        self.dialect: Dialect = dialect_for(url_or_engine)
        self._owns_engine = not isinstance(url_or_engine, AsyncEngine)
        self.engine: AsyncEngine = (
            url_or_engine if isinstance(url_or_engine, AsyncEngine) else self.dialect.create_engine(self.settings)
        )
        self._is_prepared = False
        self._calls: set[asyncio.Task[object]] = set()
        self._closed = False

    @property
    def description(self) -> str:
        """Names the database in messages; holds no password."""
        return self.dialect.description

    async def prepare(self, check: Callable[[Connection], None]) -> None:
        """Look at the database once, before it is first used.

        Args:
            check: Raises an error when the database is not fit to be used.
        """
        if self._is_prepared:
            return

        async def work(connection: AsyncConnection) -> str | None:
            await connection.run_sync(check)
            return None if self._owns_engine else await self.dialect.find_weakness(connection)

        weakness = await self.run(work)
        if weakness is not None and not self._is_prepared:
            logger.warning("the engine that was passed in for %s: %s", self.description, weakness)
        self._is_prepared = True

    async def run(self, work: Work[T]) -> T:
        """Do some work on a connection within the deadline.

        A single statement is a transaction of its own. What failed because the database was locked, restarting or
        unreachable is tried again, whole and on a fresh connection, until the deadline; so the work must be
        such that doing it twice is as good as once. The work goes on to its end when the caller is cancelled.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        if self._closed:
            raise StoreConfigurationError(f"the store of {self.description} is closed; open a new one")
        deadline = self.settings.deadline_seconds
        # A task of its own: a driver that takes long to let go of a connection cannot hold up the caller.
        call = asyncio.create_task(self._try_until(asyncio.get_running_loop().time() + deadline, work))
        self._calls.add(call)
        call.add_done_callback(self._forget)
        done, _ = await asyncio.wait({call}, timeout=deadline + _GRACE_SECONDS)
        if not done:
            call.cancel()
            raise self._too_late()
        return call.result()

    async def fetch(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """All rows of a query; see `run`."""

        async def work(connection: AsyncConnection) -> Sequence[Row[Any]]:
            return (await connection.execute(statement, parameters)).all()

        return await self.run(work)

    async def change(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> int:
        """Run one statement that writes; returns how many rows it changed. See `run`."""

        async def work(connection: AsyncConnection) -> int:
            return cast("CursorResult[Any]", await connection.execute(statement, parameters)).rowcount

        return await self.run(work)

    async def run_patiently(self, work: Work[T]) -> T:
        """Do some work, once and without a deadline, on a connection made for it, outside a transaction."""
        engine = self.engine
        if self._owns_engine:
            engine = self.dialect.create_engine(self.settings, patient=True)
        failure: Failure | None = None
        try:
            async with engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                return await work(connection)
        except Exception as error:
            failure = self._explain(error)
            if failure is None:
                raise
        finally:
            if self._owns_engine:
                await engine.dispose()
        raise failure.error

    async def close(self) -> None:
        """Wait for the calls under way, then close all connections, unless the engine is somebody else's."""
        self._closed = True
        if self._calls:
            await asyncio.wait(set(self._calls), timeout=self.settings.deadline_seconds)
        if self._owns_engine:
            await self.engine.dispose()

    async def _try_until(self, deadline: float, work: Work[T]) -> T:
        failure: Failure | None = None
        pause = _FIRST_PAUSE
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    try:
                        async with self.engine.begin() as connection:
                            return await work(connection)
                    except Exception as error:
                        failure = self._explain(error)
                        if failure is None:
                            raise
                    if not failure.retriable:
                        break
                    # Full jitter: callers that failed together do not come back together.
                    await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - nothing secret about a pause
                    pause = min(pause * 2, _LONGEST_PAUSE)
        except TimeoutError:
            pass
        # Raised here, outside every handler, so that no chained driver error can show what was being stored.
        raise self._too_late() if failure is None else failure.error

    def _explain(self, error: Exception) -> Failure | None:
        if isinstance(error, CheckpointStoreError):
            return None
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

    def _forget(self, call: asyncio.Task[object]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # a caller that was cancelled never asks; seen here, it is not reported as lost
