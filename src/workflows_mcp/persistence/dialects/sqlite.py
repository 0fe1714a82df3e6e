"""SQLite through aiosqlite."""

import asyncio
import itertools
import json
import os
import re
import shlex
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import aiosqlite
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    NullPool,
    Table,
    Text,
    bindparam,
    event,
    func,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from workflows_mcp.errors import (
    CheckpointStoreError,
    SchemaOutOfDateError,
    StoreConfigurationError,
    StoreFullError,
    StoreUnavailableError,
)
from workflows_mcp.persistence.dialects.base import Dialect, Failure, HeldConnection, Row, replaced_columns
from workflows_mcp.persistence.dialects.types import VERSION_TABLE
from workflows_mcp.settings import Settings

__all__ = ["SQLiteDialect"]

_BUSY_SECONDS = 0.1
"""How long the driver waits for a lock. Short, since it blocks the driver's thread, which no deadline can
interrupt (a deadline of 1 s ended after 8 s with a timeout of 8 s); the store tries again instead."""

_PATIENT_BUSY_SECONDS = 600.0
"""The same for schema changes, which have no deadline and wait for their turn."""

_BEGIN = "workflows_sqlite_begin"
"""Execution option that names how a transaction begins; without it, SQLAlchemy's begin emits nothing."""

_MEANINGS: dict[int, tuple[type[CheckpointStoreError], str]] = {
    sqlite3.SQLITE_BUSY: (StoreUnavailableError, "is locked by another process; try again"),
    sqlite3.SQLITE_LOCKED: (StoreUnavailableError, "is locked; try again"),
    sqlite3.SQLITE_IOERR: (StoreUnavailableError, "cannot be read or written; check the disk"),
    sqlite3.SQLITE_FULL: (StoreFullError, "has no space left; free some, then repeat the call"),
    sqlite3.SQLITE_CORRUPT: (CheckpointStoreError, "is damaged; restore it from a backup"),
    sqlite3.SQLITE_TOOBIG: (CheckpointStoreError, "cannot hold a value that large"),
    sqlite3.SQLITE_NOTADB: (StoreConfigurationError, "is no SQLite database at all; check the path"),
    sqlite3.SQLITE_CANTOPEN: (StoreConfigurationError, "cannot be opened; check the path and its permissions"),
    sqlite3.SQLITE_READONLY: (
        StoreConfigurationError,
        "cannot be written; check the permissions of the file and its folder",
    ),
    sqlite3.SQLITE_PERM: (StoreConfigurationError, "may not be accessed; check the permissions"),
    sqlite3.SQLITE_AUTH: (StoreConfigurationError, "may not be accessed; check the permissions"),
}
"""What SQLite's primary result codes mean to a caller."""

_SYNCHRONOUS_FULL = 2

_WANTS_WAL = """
    SELECT (SELECT journal_mode FROM pragma_journal_mode()) <> 'wal'
       AND (NOT EXISTS (SELECT 1 FROM sqlite_schema)
            OR EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?))
"""
"""Whether a file is to be turned to WAL: it is not yet, and it is empty or has our schema."""

_VALUES = re.compile(r"\bVALUES (\([?, ]+\))")
"""The one row of an INSERT."""

_TOGETHER_BYTES = 512 * 2**10
"""The most payload of rows that are written by one statement."""

_CACHED_STATEMENTS = 16
"""How many prepared statements a connection keeps. Each keeps the values that it was last run with, so that these two
bounds are the most memory that saving leaves behind; there is a statement for each number of rows."""

_RETRIABLE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class _HeldSQLiteConnection(HeldConnection):
    """A call is one trip to the driver's thread and back, but for large batches.

    A call that is given up is carried out all the same: the thread has a queue.
    """

    def __init__(self, connection: aiosqlite.Connection, saving: str) -> None:
        super().__init__(saving)
        self._connection = connection
        found = _VALUES.search(saving)
        if found is None:
            raise AssertionError("the saving statement has no VALUES")
        self._row, self._before, self._after = found[1], saving[: found.start(1)], saving[found.end(1) :]

    async def save(self, rows: Sequence[Row]) -> Collection[str]:
        """See `HeldConnection.save`. A locked file is an error that leaves the connection as it was."""
        try:
            if len(rows) == 1 or sum(len(row[-1]) for row in rows) <= _TOGETHER_BYTES:
                await self._insert(rows)
            else:
                await self._insert_one_by_one(rows)
        except sqlite3.Error:
            raise
        except BaseException:
            self.is_usable = False  # a transaction may be open
            raise
        return {row[0] for row in rows}

    async def _insert(self, rows: Sequence[Row]) -> None:
        """Write rows by one statement, which commits by itself.

        It takes a third less time than a transaction around `executemany`, which also needs Python's lock for
        each row, and so gets on badly with the event loop.
        """
        sql = f"{self._before}{', '.join([self._row] * len(rows))}{self._after}"
        await self._connection.execute_fetchall(sql, tuple(itertools.chain.from_iterable(rows)))

    async def _insert_one_by_one(self, rows: Sequence[Row]) -> None:
        """Write rows in a transaction, by a statement that holds one of them at a time."""
        connection = self._connection
        await connection.execute_fetchall("BEGIN IMMEDIATE")
        try:
            await connection.executemany(self._saving, rows)
            await connection.execute_fetchall("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                await connection.execute_fetchall("ROLLBACK")
            raise

    async def fetch(self, sql: str, values: Sequence[Any]) -> Sequence[Row]:
        """See `HeldConnection.fetch`."""
        rows: Any = await self._connection.execute_fetchall(sql, values)
        return cast("Sequence[Row]", rows)

    async def change(self, sql: str, values: Sequence[Any]) -> int:
        """See `HeldConnection.change`."""
        return (await self._connection.execute(sql, values)).rowcount

    def abandon(self) -> asyncio.Future[Any] | None:
        """See `HeldConnection.abandon`. The driver's thread ends after what it is doing."""
        return self._connection.stop()

    async def close(self) -> None:
        """See `HeldConnection.close`."""
        await self._connection.close()


class SQLiteDialect(Dialect):
    """A SQLite database file."""

    # Other processes get no turn: they ask again after at most 25 ms, as long as they have waited for less than 0.1 s.
    seconds_between_deletions = 0.025

    def __init__(self, path: Path) -> None:
        self.path = path
        self.description = f"SQLite database {str(path)!r}"
        self._identity: tuple[int, int] | None = None
        self.upgrade_command = f"workflows-mcp db upgrade --database-url {shlex.quote(str(path))}"

    def create_engine(self, settings: Settings, *, patient: bool = False) -> AsyncEngine:
        """See `Dialect.create_engine`. The file must exist: opening never creates one."""
        url = URL.create(
            "sqlite+aiosqlite",
            # A file: URI, for mode=rw: a database that vanished must be an error, not a new, empty one.
            database="file:" + quote(str(self.path)),
            query={"mode": "rw", "uri": "true"},
        )
        pooling: dict[str, Any] = (
            {"poolclass": NullPool}
            if patient
            else {"pool_size": settings.pool_size, "max_overflow": 0, "pool_timeout": settings.deadline_seconds}
        )
        engine = create_async_engine(
            url,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args={
                "timeout": _PATIENT_BUSY_SECONDS if patient else _BUSY_SECONDS,
                "cached_statements": _CACHED_STATEMENTS,
            },
            **pooling,
        )
        self._listen(engine, settings)
        return engine

    def _listen(self, engine: AsyncEngine, settings: Settings) -> None:
        pragmas = (
            # Acknowledged means durable: in a simulated power cut FULL lost nothing, NORMAL at half of the cuts.
            f"PRAGMA synchronous = {settings.sqlite_synchronous}",
            # Damage is found when a page is read, not when it has spread.
            "PRAGMA cell_size_check = ON",
            # A schema that somebody tampered with must not run functions.
            "PRAGMA trusted_schema = OFF",
            # A burst of writes must not leave a large -wal file behind for good.
            "PRAGMA journal_size_limit = 67108864",
        )

        @event.listens_for(engine.sync_engine, "do_connect")
        def require_file(*_arguments: object) -> None:
            self._require_file()

        @event.listens_for(engine.sync_engine, "connect")
        def configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
            cursor = connection.cursor()
            try:
                # Lets a file give back space in steps. Works only before the first page is written, or at a VACUUM.
                cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
                # Asked for only where needed: setting it takes a lock, and 234 of 320 that just set it were BUSY.
                # And only in a file that is new or ours: nothing may change in one that is going to be refused.
                cursor.execute(_WANTS_WAL, (VERSION_TABLE,))
                if cursor.fetchall() == [(1,)]:
                    cursor.execute("PRAGMA journal_mode = WAL")
                for pragma in pragmas:
                    cursor.execute(pragma)
            except BaseException:
                connection.close()
                raise
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection: Connection) -> None:
            mode = connection.get_execution_options().get(_BEGIN)
            if mode is not None:
                connection.exec_driver_sql(f"BEGIN {mode}")

    def _require_file(self) -> None:
        """Raise an error that says what to do when there is no such file."""
        if self.path.is_file():
            if self._identity is None:
                self._identity = self._identify()
            return
        if self.path.exists():
            raise StoreConfigurationError(f"{str(self.path)!r} is not a file; name a SQLite database file")
        self._require_folder()
        raise SchemaOutOfDateError(f"there is no {self.description} yet; create it with: {self.upgrade_command}")

    def require_same_database(self) -> None:
        """See `Dialect.require_same_database`. A deleted or replaced file takes writes that nobody will see."""
        if self._identity is not None and self._identify() != self._identity:
            raise StoreConfigurationError(
                f"{self.description} was deleted or replaced while it was open, and what this call wrote is not in the "
                "file of that name now; open the store again"
            )

    def _identify(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _require_folder(self) -> None:
        if not self.path.parent.is_dir():
            raise StoreConfigurationError(
                f"there is no folder {str(self.path.parent)!r} for {self.description}; create it first"
            )

    def create_database(self) -> bool:
        """Create an empty file that only its owner may read; SQLite gives its -wal file the same mode."""
        self._require_folder()
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        except OSError as error:
            reason = error.strerror
        else:
            return True
        raise StoreConfigurationError(f"{self.description} cannot be created: {reason}")

    def is_new(self) -> bool:
        """Whether the file is missing or empty."""
        try:
            return not self.path.exists() or (self.path.is_file() and self.path.stat().st_size == 0)
        except OSError:
            return False  # what is wrong with it is found, and said, when it is used

    async def prepare_schema_change(self, connection: AsyncConnection) -> None:
        """Keep what refers to the table by its name: rows with foreign keys, and views, while it is made anew."""
        # Without it, renaming the old table turns every view and foreign key to its new name, which then goes.
        await connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
        await connection.exec_driver_sql("PRAGMA foreign_keys = OFF")

    @contextmanager
    def schema_change(self, connection: Connection) -> Iterator[None]:
        """Take the write lock at once. Begun before Alembic looks, it is left alone and spans all revisions."""
        connection.rollback()  # ends what a query has begun
        connection.execution_options(**{_BEGIN: "IMMEDIATE"})
        with connection.begin():
            before = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            yield
            broken = set(connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()) - set(before)
            if broken:
                tables = ", ".join(sorted({str(row[0]) for row in broken}))
                raise CheckpointStoreError(
                    f"the change would leave {len(broken)} rows of {tables} without the checkpoint that they refer to; "
                    "nothing was changed"
                )

    def upsert(self, table: Table, kept: Collection[str]) -> Executable:
        """See `Dialect.upsert`: a statement of one row, run for many by the driver."""
        statement = sqlite.insert(table)
        key = [column.name for column in table.primary_key]
        return statement.on_conflict_do_update(index_elements=key, set_=replaced_columns(statement, table, kept))

    def upsert_parameters(self, table: Table, rows: Sequence[Row]) -> Any:  # noqa: ANN401 - as the base has it
        """See `Dialect.upsert_parameters`."""
        return [dict(zip(table.c.keys(), row, strict=True)) for row in rows]

    def matches_any(self, column: Column[str], parameter: str) -> ColumnElement[bool]:
        """See `Dialect.matches_any`: the values are a JSON array."""
        values = func.json_each(bindparam(parameter, type_=Text)).table_valued("value")
        return column.in_(select(values.c.value))

    def any_value(self, values: Collection[str]) -> object:
        """See `Dialect.any_value`."""
        return json.dumps(list(values))

    def hold(
        self,
        connection: Any,  # noqa: ANN401 - as the base has it
        saving: str,
        saving_many: str,  # noqa: ARG002 - they are the same
        patience: float,  # noqa: ARG002 - the driver's connection has it
    ) -> HeldConnection:
        """See `Dialect.hold`."""
        return _HeldSQLiteConnection(connection, saving)

    def database_bytes(self) -> Executable:
        """The pages of the file that are in use or free."""
        return text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")

    async def find_weakness(self, connection: AsyncConnection) -> str | None:
        """See `Dialect.find_weakness`. In a simulated power cut, NORMAL lost commits at half of the points."""
        level = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one()
        if level < _SYNCHRONOUS_FULL:
            return "PRAGMA synchronous is below FULL, so that a power cut may lose acknowledged checkpoints"
        return None

    def vacuum_statements(self) -> Iterable[str]:
        """Rewrite the file, refresh statistics, and empty the -wal file."""
        return "VACUUM", "PRAGMA optimize", "PRAGMA wal_checkpoint(TRUNCATE)"

    def explain(self, error: Exception) -> Failure | None:
        """See `Dialect.explain`; by SQLite's primary result code."""
        cause: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, OSError):
            return Failure(
                StoreConfigurationError(f"{self.description} cannot be reached: {cause.strerror}; check the path")
            )
        if isinstance(cause, ValueError):  # what the driver raises for the use of a closed connection
            closed = StoreUnavailableError(f"the connection to {self.description} was closed; try again")
            return Failure(closed, retriable=True)
        if not isinstance(cause, sqlite3.Error):
            return None
        # Errors of the driver itself, such as the use of a closed connection, bear no code.
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        name = getattr(cause, "sqlite_errorname", type(cause).__name__)
        kind, meaning = _MEANINGS.get(code, (CheckpointStoreError, "refused a statement"))
        return Failure(kind(f"{self.description} {meaning} ({name})"), retriable=code in _RETRIABLE)
