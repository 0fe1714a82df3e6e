"""A URL in, a configured engine out, and the one way in which every call travels to it."""

import asyncio
import functools
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

_LEAST_SECONDS_TO_CLOSE = 0.5

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
        check: Looks at the database before it is first used; raises an error when it is not fit to be.

    Raises:
        StoreConfigurationError: The URL names no database that is supported.
    """

    def __init__(
        self,
        url_or_engine: str | AsyncEngine,
        settings: Settings | None = None,
        *,
        check: Callable[[Connection, Dialect], None],
    ) -> None:
        self.settings = settings if settings is not None else load_settings()
        self.dialect: Dialect = dialect_for(url_or_engine)
        self._owns_engine = not isinstance(url_or_engine, AsyncEngine)
        self.engine: AsyncEngine = (
            url_or_engine if isinstance(url_or_engine, AsyncEngine) else self.dialect.create_engine(self.settings)
        )
        self._check = check
        self._is_checked = False
        self._calls: set[asyncio.Task[object]] = set()
        self._newest_by_key: dict[str, asyncio.Task[object]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def description(self) -> str:
        """Names the database in messages; holds no password."""
        return self.dialect.description

    async def run(self, work: Work[T], *, key: str | None = None) -> T:
        """Do some work on a connection within the deadline.

        A single statement is a transaction of its own. What failed because the database was locked, restarting or
        unreachable is tried again, whole and on a fresh connection, until the deadline; so the work must be
        such that doing it twice is as good as once. The work goes on to its end when the caller is cancelled.

        Args:
            work: What is done.
            key: Work with the same key is done in the order in which it came, also that of callers who gave up: an
                older save must not overwrite a newer one.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        self._refuse_misuse()
        deadline = self.settings.deadline_seconds
        earlier = None if key is None else self._newest_by_key.get(key)
        # A task of its own: a driver that takes long to let go of a connection cannot hold up the caller.
        call = asyncio.create_task(self._try_until(asyncio.get_running_loop().time() + deadline, work, earlier))
        self._calls.add(call)
        if key is not None:
            self._newest_by_key[key] = call
        call.add_done_callback(functools.partial(self._forget, key))
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

    async def change(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> int:
        """Run one statement that writes; returns how many rows it changed. See `run`."""

        async def work(connection: AsyncConnection) -> int:
            return cast("CursorResult[Any]", await connection.execute(statement, parameters)).rowcount

        changed = await self.run(work, key=key)
        if self._owns_engine:
            self.dialect.require_same_database()
        return changed

    async def run_patiently(self, work: Work[T]) -> T:
        """Do some work, once and without a deadline, on a connection made for it, outside a transaction."""
        self._refuse_misuse()
        engine = self.engine
        if self._owns_engine:
            engine = self.dialect.create_engine(self.settings, patient=True)
        failure: Failure | None = None
        try:
            async with engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await self._check_once(connection)
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
        """Wait for the calls under way, then close all connections, unless the engine is somebody else's.

        Takes at most the deadline, and a moment: connections that a frozen server does not let go of are left behind.
        """
        self._closed = True
        if self._loop not in {None, asyncio.get_running_loop()} and self.dialect.is_bound_to_loop:
            self.engine.sync_engine.dispose(close=False)
            return
        end = asyncio.get_running_loop().time() + self.settings.deadline_seconds
        if self._calls:
            _, late = await asyncio.wait(set(self._calls), timeout=self.settings.deadline_seconds)
            for call in late:
                call.cancel()
            if late:
                await asyncio.wait(late, timeout=_LEAST_SECONDS_TO_CLOSE)
        if self._owns_engine:
            closing = asyncio.create_task(self.engine.dispose())
            left = max(end - asyncio.get_running_loop().time(), _LEAST_SECONDS_TO_CLOSE)
            _, late_closing = await asyncio.wait({closing}, timeout=left)
            for task in late_closing:
                task.cancel()

    async def _try_until(self, deadline: float, work: Work[T], earlier: asyncio.Task[object] | None) -> T:
        failure: Failure | None = None
        pause = _FIRST_PAUSE
        try:
            async with asyncio.timeout_at(deadline):
                if earlier is not None:
                    await asyncio.wait({earlier})
                while True:
                    try:
                        async with self.engine.begin() as connection:
                            await self._check_once(connection)
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

    async def _check_once(self, connection: AsyncConnection) -> None:
        """Look at the database before it is first used, on the same connection and within the same deadline."""
        if self._is_checked:
            return
        await connection.run_sync(self._check, self.dialect)
        weakness = None if self._owns_engine else await self.dialect.find_weakness(connection)
        if weakness is not None and not self._is_checked:
            logger.warning("the engine that was passed in for %s: %s", self.description, weakness)
        self._is_checked = True

    def _refuse_misuse(self) -> None:
        if self._closed:
            raise StoreConfigurationError(f"the store of {self.description} is closed; open a new one")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise StoreConfigurationError(
                f"the store of {self.description} was used in another event loop; open one in each loop"
            )

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

    def _forget(self, key: str | None, call: asyncio.Task[object]) -> None:
        self._calls.discard(call)
        if key is not None and self._newest_by_key.get(key) is call:
            del self._newest_by_key[key]
        if not call.cancelled():
            call.exception()  # a caller that was cancelled never asks; seen here, it is not reported as lost
