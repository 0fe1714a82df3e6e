"""PostgreSQL through asyncpg."""

import functools
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from workflows_mcp.persistence.dialects.base import (
    ENGINE_LOG,
    Compiled,
    Dialect,
    Failure,
    HeldConnection,
    Look,
    Row,
)
from workflows_mcp.persistence.dialects.postgresql_errors import explain, root_of
from workflows_mcp.persistence.dialects.postgresql_health import (
    POOLER_REFUSED,
    look_at_server,
    tell_of_refusing_pooler,
)
from workflows_mcp.persistence.dialects.postgresql_held import HeldPostgreSQLConnection, hold
from workflows_mcp.persistence.dialects.postgresql_hosts import connect, urls_of_hosts
from workflows_mcp.persistence.dialects.postgresql_saving import (
    Saving,
    arrays_of,
    rows_of,
    save_many,
    save_many_fenced,
    save_one,
    save_one_fenced,
    those_locked,
)
from workflows_mcp.persistence.dialects.postgresql_url import describe, positive_seconds, read_query, without_password
from workflows_mcp.settings import Settings

__all__ = ["PostgreSQLDialect"]

_BY_INDEX = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
"""What is said to a held connection: all its statements name the rows that they want.

Without these ways to join, it fetches what a batch names row by row, and so locks it in the batch's order; joined by
hash, the rows of a small table came, and were locked, as they lay there.
"""

_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
"""Acknowledged means durable, whatever a database's or a user's default is. What waits for less than a standby, or for
more, stays as somebody has chosen it."""

_LOCK_SECONDS = 0.1
"""How long a commit waits for a row that somebody else has locked, before the other rows go on without it. Other
savers' commits, which lock rows too, are over sooner."""

_UPGRADE_LOCK = 0x776F726B666C6F77
"""The advisory lock of a schema change: "workflow" in ASCII."""


class PostgreSQLDialect(Dialect):
    """A PostgreSQL database, or one of several hosts of a cluster."""

    system = "postgresql"
    is_bound_to_loop = True

    def __init__(self, url: SplitResult) -> None:
        options = read_query(url)
        options.setdefault("application_name", "workflows-mcp")
        timeout = options.pop("connect_timeout", None)
        self._connect_timeout = None if timeout is None else positive_seconds("connect_timeout", timeout)
        self._urls = urls_of_hosts(url, options)
        self.description = describe(url, options)
        self.upgrade_command = f"workflows-mcp db upgrade --database-url {shlex.quote(without_password(url))}"

    def create_engine(self, settings: Settings, *, patient: bool = False) -> AsyncEngine:
        """See `Dialect.create_engine`."""
        deadline = settings.deadline_seconds
        connect_args: dict[str, Any] = {
            "async_creator_fn": functools.partial(
                connect,
                self._urls,
                self._connect_timeout or deadline,
                # Without it, a call to a frozen server cannot be ended in time: its cancellation waits for an answer.
                command_timeout=None if patient else deadline,
                server_settings=_server_settings(settings, patient=patient),
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
            **pooling,
        )

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
    def schema_change(self, connection: Connection) -> Iterator[None]:
        """Wait for the advisory lock, which ends with the transaction."""
        connection.rollback()  # ends what a query has begun
        with connection.begin():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            yield

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

    def rows_of(self, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
        """See `Dialect.rows_of`: an array for each column."""
        return rows_of(columns)

    def rows_value(self, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
        """See `Dialect.rows_value`."""
        return dict(zip(names, arrays_of(rows), strict=True))

    def matches_any(self, column: Column[str], parameter: str) -> ColumnElement[bool]:
        """See `Dialect.matches_any`: the values are an array."""
        return column == any_(bindparam(parameter, type_=postgresql.ARRAY(Text)))

    def any_value(self, values: Collection[str]) -> object:
        """See `Dialect.any_value`."""
        return list(values)

    def is_unlocked(self, key: Column[str], condition: ColumnElement[bool]) -> ColumnElement[bool]:
        """See `Dialect.is_unlocked`.

        The rows are locked first, then found by an array of their keys. `IN (SELECT …)` may be joined by a scan of the
        whole table.
        """
        free = select(key).where(condition).correlate(None).with_for_update(skip_locked=True)
        return key == any_(func.array(free.scalar_subquery(), type_=postgresql.ARRAY(Text)))

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
            return HeldPostgreSQLConnection(driver, Saving(saving), settings.deadline_seconds)
        # A prepared statement keeps the plan of its first calls, made when the table may have been all but empty,
        # until the table is analyzed; until then every commit would read the whole table. PgBouncer would hand
        # the settings on to others, and nothing is prepared there.
        wanted = [_BY_INDEX, _DURABLE]
        if is_shared:
            wanted.append(f"SET lock_timeout = {round(min(_LOCK_SECONDS, settings.deadline_seconds) * 1000)}")
        try:
            await driver.execute("; ".join(wanted))
            return await hold(driver, Saving(saving), settings.deadline_seconds, is_shared=is_shared)
        except BaseException:
            driver.terminate()  # the pool does not know it any more
            raise

    def database_bytes(self) -> Executable:
        """The table with its indexes and its out-of-line payloads."""
        return text("SELECT pg_total_relation_size('checkpoints')")

    async def find_weakness(self, connection: AsyncConnection) -> str | None:
        """See `Dialect.find_weakness`."""
        level = (await connection.execute(text("SELECT current_setting('synchronous_commit')"))).scalar_one()
        if level != "off":
            return None
        return "synchronous_commit is off, so that a crash may lose acknowledged checkpoints"

    async def examine(self, settings: Settings, report: Report, look: Look, *, deep: bool) -> None:  # noqa: ARG002 - pages are read by the server alone
        """See `Dialect.examine`; the questions are in `postgresql_health.py`."""
        try:
            await self._examine(settings, report, look)
        except Exception as error:
            if settings.pgbouncer or getattr(root_of(error), "sqlstate", None) != POOLER_REFUSED:
                raise
        else:
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

    def vacuum_statements(self) -> Iterable[str]:
        """Make the space of deleted rows usable again and refresh statistics."""
        return ("VACUUM (ANALYZE) checkpoints",)

    def explain(self, error: Exception) -> Failure | None:
        """See `Dialect.explain`."""
        return explain(error, self.description, self.upgrade_command)


def _server_settings(settings: Settings, *, patient: bool) -> dict[str, str]:
    """What the server is told at connect; PgBouncer refuses what it does not know."""
    if settings.pgbouncer or patient:
        return {}
    milliseconds = str(int(settings.deadline_seconds * 1000))
    return {
        # The server's own end of the deadline, for a client that died or cannot be heard.
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
    }
