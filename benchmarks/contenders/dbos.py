"""DBOS, used as its documentation says: decorated functions, whose steps it keeps in its system database."""

import asyncio
import sqlite3
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import ClassVar

import asyncpg
from dbos import DBOS

from benchmarks.contenders.base import WorkflowContender
from benchmarks.workloads import WAVES

__all__ = ["DBOSPostgreSQL", "DBOSSQLite"]

_CONNECTIONS = 32
"""One for each run that goes on at the same time; its default is 20."""


@DBOS.step()  # type: ignore[untyped-decorator] # its types are not read
async def _do_nothing() -> None:
    pass


@DBOS.workflow()  # type: ignore[untyped-decorator] # nor here
async def _run_steps() -> str:
    for _ in range(WAVES):
        await _do_nothing()
    return str(DBOS.workflow_id)


class _DBOS(WorkflowContender):
    """It is one object for a process: opened anew, it is made anew."""

    async def open(self, url: str) -> None:
        """See `Participant.open`."""
        # Without the ping at every use, which this project's store does without too. Nothing is sent anywhere: that
        # takes keys and addresses.
        DBOS(
            config={
                "name": "bench",
                "system_database_url": self._prepare(url),
                "sys_db_pool_size": _CONNECTIONS,
                "db_engine_kwargs": {"pool_pre_ping": False},
                "log_level": "ERROR",
                "enable_otlp": False,
            }
        )
        DBOS.launch()
        self.settings = await self._read_settings(url)

    @abstractmethod
    def _prepare(self, url: str) -> str:
        """The URL as it wants it, of a database that is as fast as it may be."""

    @abstractmethod
    async def _read_settings(self, url: str) -> dict[str, str]: ...

    async def run(self) -> str:
        """See `WorkflowContender.run`."""
        return str(await _run_steps())

    async def count_steps(self, run_id: str) -> int:
        """See `WorkflowContender.count_steps`."""
        return len(await DBOS.list_workflow_steps_async(run_id))

    async def close(self) -> None:
        """See `Participant.close`."""
        DBOS.destroy()
        # It has made its own threads those of the event loop, and they are gone.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())


class DBOSSQLite(_DBOS):
    """Over a file with a write-ahead log: it leaves the journal as it finds it, and is slower with SQLite's default."""

    database: ClassVar[str] = "sqlite"

    def _prepare(self, url: str) -> str:
        with closing(sqlite3.connect(url)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        return f"sqlite:///{url}"

    async def _read_settings(self, url: str) -> dict[str, str]:
        with closing(sqlite3.connect(url)) as connection:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            level = connection.execute("PRAGMA synchronous").fetchone()[0]
        return {"journal_mode": mode, "synchronous": "FULL (by default)" if level == 2 else str(level)}


class DBOSPostgreSQL(_DBOS):
    """Over psycopg."""

    database: ClassVar[str] = "postgresql"

    def _prepare(self, url: str) -> str:
        return url

    async def _read_settings(self, url: str) -> dict[str, str]:
        connection = await asyncpg.connect(url)
        try:
            return {"synchronous_commit": await connection.fetchval("SHOW synchronous_commit")}
        finally:
            await connection.close()
