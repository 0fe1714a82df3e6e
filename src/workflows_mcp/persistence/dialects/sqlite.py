"""SQLite through aiosqlite and, where that counts, a thread of our own."""

import asyncio
import functools
import json
import logging
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
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
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeEngine

from workflows_mcp.errors import (
    CheckpointStoreError,
    StoreConfigurationError,
)
from workflows_mcp.persistence.checks import Report
from workflows_mcp.persistence.copies import Copy, Copying
from workflows_mcp.persistence.dialects.base import ENGINE_LOG, Dialect, Look, Replaced
from workflows_mcp.persistence.dialects.errors import Failure
from workflows_mcp.persistence.dialects.fencing import are_fenced
from workflows_mcp.persistence.dialects.held import Compiled, HeldConnection, Row
from workflows_mcp.persistence.dialects.quoting import quoted
from workflows_mcp.persistence.dialects.roles import Roles
from workflows_mcp.persistence.dialects.sqlite_connecting import BEGIN, OPENED, listen
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
from workflows_mcp.persistence.dialects.sqlite_vacuum import vacuum
from workflows_mcp.persistence.dialects.thread import CallThread
from workflows_mcp.settings import Settings

if TYPE_CHECKING:
    import aiosqlite

__all__ = ["SQLiteDialect"]

_log = logging.getLogger(__name__)

_BUSY_SECONDS = 0.1
"""How long the driver waits for a lock. Short, since it blocks the driver's thread, which no deadline can
interrupt (a deadline of 1 s ended after 8 s with a timeout of 8 s); the store tries again instead."""

_PATIENT_BUSY_SECONDS = 600.0
"""The same for schema changes, which have no deadline and wait for their turn."""

_SECONDS_UNTIL_TOLD = 2.0
"""After so many of them, whoever waits is told so."""

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
        seconds = _PATIENT_BUSY_SECONDS if patient else _BUSY_SECONDS
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
        """Keep what refers to the table by its name: rows with foreign keys, and views, while it is made anew."""
        # Without it, renaming the old table turns every view and foreign key to its new name, which then goes.
        await connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
        await connection.exec_driver_sql("PRAGMA foreign_keys = OFF")

    @contextmanager
    def schema_change(self, connection: Connection, *, is_upward: bool = False) -> Iterator[None]:  # noqa: ARG002 - a file has no schemas
        """Take the write lock at once. Begun before Alembic looks, it is left alone and spans all revisions."""
        connection.rollback()  # ends what a query has begun
        self._wait_for_lock(connection)
        connection.execution_options(**{BEGIN: "IMMEDIATE"})
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

    def _wait_for_lock(self, connection: Connection) -> None:
        """Tell who waits for how long it may take that somebody else writes."""
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_SECONDS_UNTIL_TOLD * 1000:.0f}")
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except DBAPIError as error:
            failure = self.explain(error)
            if failure is None or not failure.retriable:
                raise
            _log.warning("%s is locked by another process: waiting for it, for up to ten minutes", self.description)
        else:
            connection.exec_driver_sql("ROLLBACK")
        finally:
            connection.rollback()
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {_PATIENT_BUSY_SECONDS * 1000:.0f}")
            connection.rollback()

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
        async with _transaction(connection):
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

    @asynccontextmanager
    async def keeping_bases(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """See `Dialect.keeping_bases`. SQLite's default is that they do not; an engine gets its own way back."""
        driver = cast("aiosqlite.Connection", (await connection.get_raw_connection()).driver_connection)
        await _end_what_was_left_open(connection, driver)
        if await _keys_hold(driver):
            yield
            return
        try:
            # What the engine has done in a transaction would be committed with ours.
            await _outside_of_transactions(driver, "PRAGMA foreign_keys = ON", ending="COMMIT")
            if not await _keys_hold(driver):
                raise StoreConfigurationError(
                    f"foreign keys cannot be turned on for {self.description} over the engine that was passed in, and "
                    "without them checkpoints would be lost; execute PRAGMA foreign_keys = ON when it connects, "
                    "outside of a transaction"
                )
            yield
        finally:
            with suppress(sqlite3.Error, ValueError):  # there is no connection any more
                await _outside_of_transactions(driver, "PRAGMA foreign_keys = OFF", ending="ROLLBACK")

    @property
    def tables_referring(self) -> Executable:
        """See `Dialect.tables_referring`. SQLite refuses for any key, and does not say for which."""
        return _REFERRING

    def transaction(self, connection: AsyncConnection) -> AbstractAsyncContextManager[None]:
        """See `Dialect.transaction`. Outside of one, what waits for a lock writes when that is free."""
        return _transaction(connection)

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


@asynccontextmanager
async def _transaction(connection: AsyncConnection) -> AsyncIterator[None]:
    """A transaction that nobody else writes beside, on anybody's connection; all of it is done, or nothing.

    One that the engine has begun is the engine's to end. What is begun here ends here, too: in AUTOCOMMIT an engine may
    not roll back at all, and the next one who gets the connection would commit the half that was left.
    """
    driver = cast("aiosqlite.Connection", (await connection.get_raw_connection()).driver_connection)
    await _end_what_was_left_open(connection, driver)
    if driver.in_transaction:
        yield
        return
    try:
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        await connection.exec_driver_sql("COMMIT")
    except BaseException:
        if not connection.invalidated:
            # Straight to the driver, behind whatever it is still doing for a caller who left.
            with suppress(sqlite3.Error, ValueError):  # there is no transaction, or no connection any more
                await driver.execute("ROLLBACK")
        raise


async def _end_what_was_left_open(connection: AsyncConnection, driver: "aiosqlite.Connection") -> None:
    """Roll back a transaction that an engine in AUTOCOMMIT did not begin: whoever had the connection before left it."""
    if driver.in_transaction and connection.sync_connection._is_autocommit_isolation():  # type: ignore[union-attr] # noqa: SLF001 - nothing public tells
        await driver.execute("ROLLBACK")


async def _keys_hold(driver: "aiosqlite.Connection") -> bool:
    """Whether a connection holds to foreign keys."""
    return any(row[0] for row in await driver.execute_fetchall("PRAGMA foreign_keys"))


async def _outside_of_transactions(driver: "aiosqlite.Connection", pragma: str, *, ending: str) -> None:
    """Set what SQLite leaves as it is, and says nothing, while a transaction is open.

    Some engines open one as soon as they connect, or hand out a connection: it is ended, and begun again.
    """
    is_open = driver.in_transaction
    if is_open:
        await driver.execute(ending)
    await driver.execute(pragma)
    if is_open:
        await driver.execute("BEGIN")
