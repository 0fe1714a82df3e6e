"""SQLite through aiosqlite and, where that counts, a thread of our own."""

import asyncio
import functools
import json
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    FromClause,
    NullPool,
    Table,
    Text,
    bindparam,
    create_engine,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeEngine

from workflows_mcp.errors import StoreConfigurationError
from workflows_mcp.persistence.checks import Report
from workflows_mcp.persistence.copies import Copy, Copying
from workflows_mcp.persistence.dialects import sqlite_schema
from workflows_mcp.persistence.dialects.base import ENGINE_LOG, Dialect, Look, Replaced
from workflows_mcp.persistence.dialects.errors import Failure
from workflows_mcp.persistence.dialects.fencing import are_fenced
from workflows_mcp.persistence.dialects.held import Compiled, HeldConnection, Row
from workflows_mcp.persistence.dialects.quoting import quoted
from workflows_mcp.persistence.dialects.roles import Roles
from workflows_mcp.persistence.dialects.sqlite_connecting import OPENED, listen
from workflows_mcp.persistence.dialects.sqlite_errors import explain
from workflows_mcp.persistence.dialects.sqlite_file import Opened, SQLiteFile, look_at
from workflows_mcp.persistence.dialects.sqlite_health import SQLiteHealth, start_up_notices
from workflows_mcp.persistence.dialects.sqlite_held import HeldSQLiteConnection
from workflows_mcp.persistence.dialects.sqlite_limits import ended_after
from workflows_mcp.persistence.dialects.sqlite_saving import (
    ASKED,
    CACHED_STATEMENTS,
    Fences,
    SavingRows,
    follow,
    follow_one,
    let_pass,
    putting,
    require_all,
    save_one,
    save_one_fenced,
)
from workflows_mcp.persistence.dialects.sqlite_transactions import keeping_bases, transaction
from workflows_mcp.persistence.dialects.sqlite_vacuum import vacuum
from workflows_mcp.persistence.dialects.thread import CallThread
from workflows_mcp.settings import Settings

if TYPE_CHECKING:
    import aiosqlite

__all__ = ["SQLiteDialect"]

_BUSY_SECONDS = 0.1
"""How long the driver waits for a lock. Short, since it blocks the driver's thread, which no deadline can
interrupt (a deadline of 1 s ended after 8 s with a timeout of 8 s); the store tries again instead."""

_SYNCHRONOUS_FULL = 2

_REFERRING = text(
    "SELECT DISTINCT one.name FROM sqlite_schema AS one, pragma_foreign_key_list(one.name) AS key "
    "WHERE one.type = 'table' AND one.name <> :table COLLATE NOCASE AND key.\"table\" = :table COLLATE NOCASE "
    "ORDER BY 1"
)

_FILE_NAME = "SELECT file FROM pragma_database_list WHERE name = 'main'"


class SQLiteDialect(Dialect):
    """A SQLite database file."""

    system = "sqlite"
    # Other processes get no turn: they ask again after at most 25 ms, as long as they have waited for less than 0.1 s.
    seconds_between_deletions = 0.025

    def __init__(self, path: Path) -> None:
        self.description = f"SQLite database {str(path)!r}"
        self.upgrade_command = f"workflows-mcp db upgrade --database-url {quoted(str(path))}"
        self._file = SQLiteFile(path, description=self.description, upgrade_command=self.upgrade_command)

    def create_engine(
        self,
        settings: Settings,
        *,
        patient: bool = False,
        asked_in: asyncio.AbstractEventLoop | None = None,  # noqa: ARG002 - a file has no password
    ) -> AsyncEngine:
        """See `Dialect.create_engine`. The file must exist: opening never creates one."""
        pooling: dict[str, Any] = (
            {"poolclass": NullPool}
            if patient
            else {"pool_size": settings.pool_size, "max_overflow": 0, "pool_timeout": settings.deadline_seconds}
        )
        seconds = sqlite_schema.PATIENT_BUSY_SECONDS if patient else _BUSY_SECONDS
        engine = create_async_engine(self._url("sqlite+aiosqlite"), **self._options(seconds), **pooling)
        listen(engine.sync_engine, self._file, settings, patient=patient)
        return engine

    async def hold(
        self,
        engine: AsyncEngine,  # noqa: ARG002 - its connections are aiosqlite's
        saving: Mapping[str, Compiled],
        settings: Settings,
        *,
        is_shared: bool = False,  # noqa: ARG002 - it knows no locks on rows
    ) -> HeldConnection:
        """See `Dialect.hold`."""
        blocking = create_engine(self._url("sqlite"), **self._options(_BUSY_SECONDS), poolclass=NullPool)
        listen(blocking, self._file, settings)

        def connect() -> tuple[sqlite3.Connection, Opened]:
            made = blocking.raw_connection()
            driver, opened = cast("sqlite3.Connection", made.driver_connection), made.info[OPENED]
            made.detach()
            return driver, opened

        held = HeldSQLiteConnection(connect, self._file, SavingRows(saving), patience=settings.deadline_seconds)
        await held.open()
        return held

    def _url(self, driver: str) -> URL:
        # A file: URI, for mode=rw: a database that vanished must be an error, not a new, empty one.
        return URL.create(driver, database="file:" + quote(str(self._file.path)), query={"mode": "rw", "uri": "true"})

    def _options(self, busy_seconds: float) -> dict[str, Any]:
        """What all engines have in common."""
        return {
            "isolation_level": "AUTOCOMMIT",
            "hide_parameters": True,
            "logging_name": ENGINE_LOG,
            "connect_args": {
                "timeout": busy_seconds,
                "cached_statements": CACHED_STATEMENTS,
                "factory": self._file.connect,
            },
        }

    def create_database(self) -> bool:
        """See `Dialect.create_database`."""
        return self._file.create()

    def is_new(self) -> bool:
        """See `Dialect.is_new`."""
        return self._file.is_new()

    async def whereabouts(self, connection: AsyncConnection) -> Opened:
        """See `Dialect.whereabouts`. Connections of our own were looked at when they were opened."""
        info = connection.sync_connection.info  # type: ignore[union-attr] # it is open
        if OPENED not in info:
            name = (await connection.exec_driver_sql(_FILE_NAME)).scalar_one()
            info[OPENED] = look_at(name)
        return cast("Opened", info[OPENED])

    def require_there(self, whereabouts: object) -> None:
        """See `Dialect.require_there`."""
        self._file.require_same(cast("Opened", whereabouts))

    def interrupt(self, driver: object) -> None:
        """See `Dialect.interrupt`. In a damaged file a query may walk in circles, and keep a process alive."""
        with suppress(ValueError, sqlite3.ProgrammingError):  # it is closed
            cast("aiosqlite.Connection", driver)._conn.interrupt()  # noqa: SLF001 - the public way is a coroutine

    async def prepare_schema_change(self, connection: AsyncConnection) -> None:
        """See `Dialect.prepare_schema_change`; it is in `sqlite_schema.py`."""
        await sqlite_schema.prepare(connection)

    def schema_change(
        self,
        connection: Connection,
        *,
        is_upward: bool = False,  # noqa: ARG002 - a file has no schemas
    ) -> AbstractContextManager[None]:
        """See `Dialect.schema_change`."""
        return sqlite_schema.change(connection, self.description)

    def saving(self, table: Table, place: Mapping[str, ColumnElement[Any]]) -> Mapping[str, Executable]:
        """See `Dialect.saving`; the statements are in `sqlite_saving.py`."""
        return {
            "one": save_one(table, place),
            "one_fenced": save_one_fenced(table, place),
            "let_pass": let_pass(table, self.rows_of(ASKED)),
            "follow_one": follow_one(table),
            "follow": follow(table, self.matches_any(table.c.checkpoint_id, "followed")),
        }

    async def save(
        self, connection: AsyncConnection, saving: Mapping[str, Compiled], rows: Sequence[Row]
    ) -> Collection[str]:
        """See `Dialect.save`. Whether somebody else's engine begins transactions, and how, is theirs to say."""
        async with transaction(connection):
            if not are_fenced(rows):
                written = (await connection.exec_driver_sql(saving["one"].sql, list(rows))).rowcount
                if not written and len(rows) == 1:
                    return ()
                require_all(written, rows)
                return {row[0] for row in rows}
            fences = Fences(saving)
            found = await connection.exec_driver_sql(*fences.asking(rows))
            passing = fences.passing(rows, {name for (name,) in found})
            if passing:
                await connection.exec_driver_sql(*fences.following(passing))
                ordered = [fences.ordered(row) for row in passing]
                require_all((await connection.exec_driver_sql(fences.inserting, ordered)).rowcount, passing)
            return {row[0] for row in passing}

    def putting(self, table: Table, columns: Mapping[str, TypeEngine[Any]], replaced: Replaced | None) -> Executable:
        """See `Dialect.putting`."""
        return putting(table, columns, replaced)

    async def put(self, connection: AsyncConnection, statement: Compiled, rows: Sequence[Row]) -> int:
        """See `Dialect.put`."""
        return (await connection.exec_driver_sql(statement.sql, list(rows))).rowcount

    async def identity(self, connection: AsyncConnection) -> object:
        """See `Dialect.identity`: the file, by whatever name."""
        return (await self.whereabouts(connection)).database

    def keeping_bases(self, connection: AsyncConnection) -> AbstractAsyncContextManager[None]:
        """See `Dialect.keeping_bases`. Like `transaction`, it is in `sqlite_transactions.py`."""
        return keeping_bases(connection, self.description)

    @property
    def tables_referring(self) -> Executable:
        """See `Dialect.tables_referring`. SQLite refuses for any key, and does not say for which."""
        return _REFERRING

    def transaction(self, connection: AsyncConnection) -> AbstractAsyncContextManager[None]:
        """See `Dialect.transaction`. Outside of one, what waits for a lock writes when that is free."""
        return transaction(connection)

    def rows_of(self, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
        """See `Dialect.rows_of`: a JSON array of arrays."""
        rows = func.json_each(bindparam("rows", type_=Text)).table_valued("value")
        values = (
            func.json_extract(rows.c.value, literal_column(f"'$[{place}]'"), type_=kind).label(name)
            for place, (name, kind) in enumerate(columns.items())
        )
        return select(*values).subquery()

    def rows_value(self, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:  # noqa: ARG002 - they stand in the statement
        """See `Dialect.rows_value`."""
        return {"rows": json.dumps(rows)}

    def beginning(self, column: Column[bytes], count: int) -> ColumnElement[str]:
        """See `Dialect.beginning`."""
        return func.lower(func.hex(func.substr(column, 1, count)))

    def matches_any(self, column: Column[str], parameter: str) -> ColumnElement[bool]:
        """See `Dialect.matches_any`: the values are a JSON array."""
        values = func.json_each(bindparam(parameter, type_=Text)).table_valued("value")
        return column.in_(select(values.c.value))

    def any_value(self, values: Collection[str]) -> object:
        """See `Dialect.any_value`."""
        return json.dumps(list(values))

    def database_bytes(self) -> Executable:
        """The pages of the file that are in use or free."""
        return text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")

    def log_bytes(self) -> int | None:
        """See `Dialect.log_bytes`; 0 when nobody has written since the file was last opened."""
        path = self._file.path
        try:
            return path.with_name(f"{path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0
        except OSError:
            return None

    def free_bytes(self) -> int | None:
        """See `Dialect.free_bytes`."""
        try:
            return shutil.disk_usage(self._file.path.parent).free
        except OSError:
            return None

    async def find_weakness(self, connection: AsyncConnection) -> str | None:
        """See `Dialect.find_weakness`. In a simulated power cut, NORMAL lost commits at half of the points."""
        level = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one()
        if level < _SYNCHRONOUS_FULL:
            return "PRAGMA synchronous is below FULL, so that a power cut may lose acknowledged checkpoints"
        return None

    async def examine(self, settings: Settings, report: Report, look: Look, *, deep: bool) -> None:
        """See `Dialect.examine`; what is looked at is in `sqlite_health.py`."""
        health = SQLiteHealth(self._file.path, self.upgrade_command, settings, report)
        # Not one of asyncio's: it would be waited for at the end of a program that was told to stop.
        thread = CallThread("workflows-examination")
        try:
            await thread.call(functools.partial(health.examine, look, deep=deep))
        finally:
            thread.stop()

    def limited(self, connection: Connection, seconds: float | None) -> AbstractContextManager[None]:
        """See `Dialect.limited`."""
        return ended_after(cast("sqlite3.Connection", connection.connection.driver_connection), seconds)

    def start_up_notices(self) -> Iterable[tuple[int, str]]:
        """See `Dialect.start_up_notices`."""
        return start_up_notices(self._file.path)

    def grants(self, roles: Roles, *, table: str, version_table: str, columns: Sequence[str]) -> str:  # noqa: ARG002 - there are none
        """See `Dialect.grants`: a file's mode says who may read it."""
        raise StoreConfigurationError(
            f"{self.description} has no roles; who may read and write it is said by the file's mode"
        )

    async def vacuum(self, connection: AsyncConnection) -> None:
        """See `Dialect.vacuum`; it is in `sqlite_vacuum.py`."""
        await vacuum(connection, self.description)

    def back_up(self, file: Path, *, overwrite: bool, copying: Copying) -> Copy:
        """See `Dialect.back_up`; it is in `sqlite_backup.py`, which is loaded where it is needed."""
        from workflows_mcp.persistence.dialects.sqlite_backup import back_up

        return back_up(self._file.path, file, overwrite=overwrite, copying=copying)

    def restore(self, file: Path, *, refuse: Callable[[str | None], None], copying: Copying) -> Copy:
        """See `Dialect.restore`."""
        from workflows_mcp.persistence.dialects.sqlite_backup import restore

        return restore(self._file.path, file, refuse=refuse, copying=copying)

    def explain(self, error: Exception) -> Failure | None:
        """See `Dialect.explain`."""
        return explain(error, self.description)
