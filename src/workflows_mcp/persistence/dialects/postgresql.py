"""PostgreSQL through asyncpg."""

import asyncio
import contextlib
import functools
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import SplitResult

import asyncpg
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    FromClause,
    NullPool,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeEngine

from workflows_mcp.errors import (
    StoreConfigurationError,
)
from workflows_mcp.persistence.checks import Report
from workflows_mcp.persistence.dialects import postgresql_schema
from workflows_mcp.persistence.dialects.base import ENGINE_LOG, Dialect, Look, Replaced
from workflows_mcp.persistence.dialects.errors import Failure
from workflows_mcp.persistence.dialects.held import Compiled, HeldConnection, Row
from workflows_mcp.persistence.dialects.passwords import Ask
from workflows_mcp.persistence.dialects.postgresql_backup import backup_commands, restore_commands
from workflows_mcp.persistence.dialects.postgresql_errors import explain
from workflows_mcp.persistence.dialects.postgresql_grants import grants, refusing_vacuum
from workflows_mcp.persistence.dialects.postgresql_health import (
    look_at_server,
    tell_of_refusing_pooler,
)
from workflows_mcp.persistence.dialects.postgresql_held import HeldPostgreSQLConnection, hold
from workflows_mcp.persistence.dialects.postgresql_hosts import PoolerRefusedError, urls_of_hosts
from workflows_mcp.persistence.dialects.postgresql_login import Login
from workflows_mcp.persistence.dialects.postgresql_saving import (
    Saving,
    arrays_of,
    putting,
    rows_of,
    save_many,
    save_many_fenced,
    save_one,
    save_one_fenced,
    those_locked,
)
from workflows_mcp.persistence.dialects.postgresql_session import said_to_held, server_settings
from workflows_mcp.persistence.dialects.postgresql_tls import check_files
from workflows_mcp.persistence.dialects.postgresql_url import (
    database_name,
    describe,
    positive_seconds,
    read_query,
    without_password,
)
from workflows_mcp.persistence.dialects.quoting import literal
from workflows_mcp.persistence.dialects.roles import Roles
from workflows_mcp.settings import Settings

__all__ = ["PostgreSQLDialect"]

_IDENTITY = (
    "SELECT pg_postmaster_start_time(), current_setting('port'), oid, {table}::regclass::oid "
    "FROM pg_database WHERE datname = current_database()"
)

_UPGRADE_LOCK = 0x776F726B666C6F77
"""The advisory lock of a schema change: "workflow" in ASCII."""


class PostgreSQLDialect(Dialect):
    """A PostgreSQL database, or one of several hosts of a cluster."""

    system = "postgresql"
    is_bound_to_loop = True

    def __init__(self, url: SplitResult, schema: str | None = None, ask: Ask | None = None) -> None:
        self._url = url
        options = read_query(url)
        # What names one database comes before what is said of all.
        named = options.pop("schema", schema)
        self.schema = None if named is None else postgresql_schema.check_name(named)
        self._ask = ask
        options.setdefault("application_name", "workflows-mcp")
        timeout = options.pop("connect_timeout", None)
        self._connect_timeout = None if timeout is None else positive_seconds("connect_timeout", timeout)
        self._urls = urls_of_hosts(url, options)
        self._options = options
        self._name = database_name(url, options)
        self.description = describe(url, options, self.schema)
        # What the URL had is left out, and its place is shown: whoever types the rest is not refused for want of it.
        secret = "PGPASSWORD=*** " if url.password or options.get("password") else ""
        shown = shlex.quote(without_password(url, schema=self.schema))
        self.upgrade_command = f"{secret}workflows-mcp db upgrade --database-url {shown}"

    def create_engine(
        self, settings: Settings, *, patient: bool = False, asked_in: asyncio.AbstractEventLoop | None = None
    ) -> AsyncEngine:
        """See `Dialect.create_engine`."""
        check_files(self._options)
        deadline = settings.deadline_seconds
        ask = self._ask if self._ask is None or asked_in is None else self._ask.within(asked_in)
        connect_args: dict[str, Any] = {
            "async_creator_fn": functools.partial(
                Login(self._urls, self._connect_timeout or deadline, deadline, ask),
                # Without it, a call to a frozen server cannot be ended in time: its cancellation waits for an answer.
                command_timeout=None if patient else deadline,
                server_settings=server_settings(settings, self.schema, patient=patient),
                # PgBouncer hands the next transaction to another server, which knows none of our statements.
                **({"statement_cache_size": 0} if settings.pgbouncer else {}),
            ),
            **({"prepared_statement_cache_size": 0} if settings.pgbouncer else {}),
        }
        pooling: dict[str, Any] = (
            {"poolclass": NullPool}
            if patient
            else {"pool_size": settings.pool_size, "max_overflow": 0, "pool_timeout": deadline}
        )
        return create_async_engine(
            "postgresql+asyncpg://",
            isolation_level="AUTOCOMMIT",
            # A round trip less for each use of a connection: in AUTOCOMMIT nothing is left to roll back.
            skip_autocommit_rollback=True,
            hide_parameters=True,
            logging_name=ENGINE_LOG,
            connect_args=connect_args,
            execution_options=self.naming,
            **pooling,
        )

    @property
    def naming(self) -> Mapping[str, Any]:
        """See `Dialect.naming`."""
        return {} if self.schema is None else {"schema_translate_map": {None: self.schema}}

    def create_database(self) -> bool:
        """PostgreSQL's databases are their owner's to create: does nothing."""
        return False

    def is_new(self) -> bool:
        """Never: a schema is put into a server's database only when asked."""
        return False

    async def prepare_schema_change(self, connection: AsyncConnection) -> None:
        """Make the steps of a schema change one transaction, in a database that can hold all text."""
        await connection.execution_options(isolation_level="READ COMMITTED")
        encoding = (await connection.execute(text("SHOW server_encoding"))).scalar_one()
        if encoding != "UTF8":
            raise StoreConfigurationError(
                f"{self.description} is encoded in {encoding}, which cannot hold all text; create one with "
                "ENCODING 'UTF8'"
            )

    @contextmanager
    def schema_change(self, connection: Connection, *, is_upward: bool = False) -> Iterator[None]:
        """Wait for the advisory lock, which ends with the transaction."""
        connection.rollback()  # ends what a query has begun
        with connection.begin():
            connection.execute(text("SELECT pg_catalog.pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            if self.schema is not None:
                if is_upward:
                    postgresql_schema.create(connection, self.schema, self.description)
                postgresql_schema.use(connection, self.schema)
            yield

    @contextmanager
    def within_schema(self, connection: Connection) -> Iterator[None]:
        """See `Dialect.within_schema`: a transaction, since through PgBouncer nothing else keeps a setting."""
        if self.schema is None:
            yield
            return
        level = connection.get_execution_options().get("isolation_level", "AUTOCOMMIT")  # the engine's own
        connection.rollback()
        connection.execution_options(isolation_level="READ COMMITTED")
        try:
            with connection.begin():
                postgresql_schema.use(connection, self.schema)
                yield
        finally:
            connection.execution_options(isolation_level=level)

    def saving(self, table: Table, place: Mapping[str, ColumnElement[Any]]) -> Mapping[str, Executable]:
        """See `Dialect.saving`; the statements are in `postgresql_saving.py`."""
        return {
            "one": save_one(table, place),
            "many": save_many(table, place),
            "one_fenced": save_one_fenced(table, place),
            "many_fenced": save_many_fenced(table, place),
            "those_locked": those_locked(table),
        }

    async def save(
        self, connection: AsyncConnection, saving: Mapping[str, Compiled], rows: Sequence[Row]
    ) -> Collection[str]:
        """See `Dialect.save`."""
        sql, values = Saving(saving).of(rows)
        return {row[0] for row in await connection.exec_driver_sql(sql, values)}

    def putting(self, table: Table, columns: Mapping[str, TypeEngine[Any]], replaced: Replaced | None) -> Executable:
        """See `Dialect.putting`."""
        return putting(table, columns, replaced)

    async def put(self, connection: AsyncConnection, statement: Compiled, rows: Sequence[Row]) -> int:
        """See `Dialect.put`."""
        return (await connection.exec_driver_sql(statement.sql, tuple(arrays_of(rows)))).rowcount

    async def identity(self, connection: AsyncConnection) -> object:
        """See `Dialect.identity`. The start of a server tells it from others, and a table's number all in it."""
        table = literal(postgresql_schema.qualified("checkpoints", self.schema))
        return tuple((await connection.exec_driver_sql(_IDENTITY.format(table=table))).one())

    def rows_of(self, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
        """See `Dialect.rows_of`: an array for each column."""
        return rows_of(columns)

    def rows_value(self, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
        """See `Dialect.rows_value`."""
        return dict(zip(names, arrays_of(rows), strict=True))

    def beginning(self, column: Column[bytes], count: int) -> ColumnElement[str]:
        """See `Dialect.beginning`."""
        return func.encode(func.substr(column, 1, count), "hex")

    def matches_any(self, column: Column[str], parameter: str) -> ColumnElement[bool]:
        """See `Dialect.matches_any`: the values are an array."""
        return column == any_(bindparam(parameter, type_=postgresql.ARRAY(Text)))

    def any_value(self, values: Collection[str]) -> object:
        """See `Dialect.any_value`."""
        return list(values)

    def is_among(self, key: Column[str], found: Select[Any]) -> ColumnElement[bool]:
        """See `Dialect.is_among`: an array, since `IN (SELECT …)` may be joined by a scan of the whole table."""
        return key == any_(func.array(found.scalar_subquery(), type_=postgresql.ARRAY(Text)))

    def is_unlocked(self, key: Column[str], condition: ColumnElement[bool]) -> ColumnElement[bool]:
        """See `Dialect.is_unlocked`.

        The rows are locked first, then found by their keys.
        """
        return self.is_among(key, select(key).where(condition).correlate(None).with_for_update(skip_locked=True))

    def those_unlocked(self, key: Column[str], rows: FromClause) -> FromClause:
        """See `Dialect.those_unlocked`. Joined to the rows, so that each is looked for once, however many they are."""
        own = key.table.alias("own")
        found = select(*rows.c).select_from(rows.join(own, own.c[key.name] == rows.c[key.name]))
        return found.with_for_update(of=own, skip_locked=True, key_share=True).subquery("free")

    async def hold(
        self, engine: AsyncEngine, saving: Mapping[str, Compiled], settings: Settings, *, is_shared: bool = False
    ) -> HeldConnection:
        """See `Dialect.hold`."""
        made = await engine.raw_connection()
        driver = cast("asyncpg.Connection", made.driver_connection)
        made.detach()
        if settings.pgbouncer:
            # Others wait behind one that waits for a lock only where the role's own lock_timeout ends that early.
            return HeldPostgreSQLConnection(driver, Saving(saving), settings.deadline_seconds, is_shared=is_shared)
        try:
            await driver.execute(said_to_held(settings, is_shared=is_shared))
            return await hold(driver, Saving(saving), settings.deadline_seconds, is_shared=is_shared)
        except BaseException:
            driver.terminate()  # the pool does not know it any more
            raise

    def database_bytes(self) -> Executable:
        """The table with its indexes and its out-of-line payloads."""
        name = postgresql_schema.qualified("checkpoints", self.schema)
        return text("SELECT pg_catalog.pg_total_relation_size(pg_catalog.to_regclass(:name))").bindparams(name=name)

    async def find_weakness(self, connection: AsyncConnection) -> str | None:
        """See `Dialect.find_weakness`."""
        asked = "SELECT pg_catalog.current_setting('synchronous_commit')"
        level = (await connection.execute(text(asked))).scalar_one()
        if level != "off":
            return None
        return "synchronous_commit is off, so that a crash may lose acknowledged checkpoints"

    async def examine(self, settings: Settings, report: Report, look: Look, *, deep: bool) -> None:  # noqa: ARG002 - pages are read by the server alone
        """See `Dialect.examine`; the questions are in `postgresql_health.py`."""
        with contextlib.suppress(PoolerRefusedError):
            await self._examine(settings, report, look)
            return
        tell_of_refusing_pooler(report)
        await self._examine(settings.model_copy(update={"pgbouncer": True}), report, look, has_refused=True)

    async def _examine(self, settings: Settings, report: Report, look: Look, *, has_refused: bool = False) -> None:
        engine = self.create_engine(settings)
        try:
            async with engine.connect() as connection:
                await look_at_server(connection, report, look, settings, has_refused=has_refused)
        finally:
            await engine.dispose()

    def grants(self, roles: Roles, *, table: str, version_table: str, columns: Sequence[str]) -> str:
        """See `Dialect.grants`."""
        return grants(
            roles,
            database=self._name,
            schema=self.schema,
            table=table,
            version_table=version_table,
            columns=columns,
        )

    async def vacuum(self, connection: AsyncConnection) -> None:
        """See `Dialect.vacuum`: the space of deleted rows is usable again."""
        name = postgresql_schema.qualified("checkpoints", self.schema)
        # A user who may not do it is told so by a warning that nobody reads, and nothing is done.
        await connection.exec_driver_sql(refusing_vacuum(name))
        await connection.exec_driver_sql(f"VACUUM (ANALYZE) {name}")

    def backup_commands(self, file: Path) -> list[str]:
        """See `Dialect.backup_commands`: our tables alone, which may live in somebody else's database."""
        return backup_commands(self._url, file, self.schema)

    def restore_commands(self, file: Path) -> list[str]:
        """See `Dialect.restore_commands`."""
        return restore_commands(self._url, file, self.schema)

    def explain(self, error: Exception) -> Failure | None:
        """See `Dialect.explain`."""
        return explain(error, self.description, self.upgrade_command)
