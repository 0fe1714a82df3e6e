"""PostgreSQL through asyncpg."""

import functools
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import SplitResult, parse_qs, unquote

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
    text,
)
from sqlalchemy.connectors.asyncio import AsyncAdapt_Error
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeEngine

from workflows_mcp.errors import (
    CheckpointStoreError,
    SchemaOutOfDateError,
    StoreConfigurationError,
    StoreFullError,
    StoreUnavailableError,
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
    RowsDroppedError,
)
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
from workflows_mcp.settings import Settings

__all__ = ["PostgreSQLDialect"]

_DRIVER_KEYS = frozenset({
    "application_name", "dbname", "gsslib", "host", "krbsrvname", "options", "passfile", "password", "port",
    "service", "sslcert", "sslcrl", "sslkey", "sslmode", "ssl_max_protocol_version", "ssl_min_protocol_version",
    "sslnegotiation", "sslpassword", "sslrootcert", "target_session_attrs", "user",
})  # fmt: skip
"""Keys of a URL's query that asyncpg reads as libpq does."""

_IGNORED_KEYS = frozenset({"channel_binding", "gssencmode"})
"""Keys that hosting services put into their URLs, and that ask for what asyncpg does anyway or cannot do."""

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

_TAKEN_BACK = "22012"
"""The division by zero with which a fenced save takes itself back; see `postgresql_saving.py`."""

_REPEATS_TAKEN_BACK = 2
"""Who was too late to see what somebody else saved or deleted sees it the next time. What a trigger drops, it drops
again."""

_MEANINGS: tuple[tuple[str, type[CheckpointStoreError], str], ...] = (
    ("08", StoreUnavailableError, "lost the connection; try again"),
    # By no value that was sent: a fenced save says so when it finds at its end that it must not have begun.
    (_TAKEN_BACK, RowsDroppedError, "did not write all of a commit; do triggers or rules of its table drop rows?"),
    ("25006", StoreUnavailableError, "is read-only, as a standby is; try again"),
    ("28", StoreConfigurationError, "refused the login; check user, password and pg_hba.conf"),
    ("3D", StoreConfigurationError, "does not exist; create it, or check the URL"),
    ("3F", StoreConfigurationError, "has no such schema; check search_path"),
    ("40001", StoreUnavailableError, "could not serialize the change; try again"),
    ("40P01", StoreUnavailableError, "found a deadlock; try again"),
    ("42501", StoreConfigurationError, "does not permit it; grant the user rights on the checkpoints table"),
    ("42P01", SchemaOutOfDateError, "lacks the checkpoints table"),
    ("42703", SchemaOutOfDateError, "lacks a column of the checkpoints table"),
    ("53100", StoreFullError, "has no space left; free some, then repeat the call"),
    ("53300", StoreUnavailableError, "takes no more connections; try again, or lower WORKFLOWS_POOL_SIZE"),
    ("53", StoreUnavailableError, "is out of resources; try again later"),
    ("55P03", StoreUnavailableError, "holds a lock for too long; try again"),
    ("57014", StoreUnavailableError, "took too long, so the call was ended; try again"),
    ("57P", StoreUnavailableError, "is stopping or starting; try again"),
)
"""What SQLSTATEs mean to a caller: the first one whose beginning fits."""

_RETRIABLE = ("08", _TAKEN_BACK, "25006", "40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03")


class PostgreSQLDialect(Dialect):
    """A PostgreSQL database, or one of several hosts of a cluster."""

    is_bound_to_loop = True

    def __init__(self, url: SplitResult) -> None:
        options = _read_query(url)
        options.setdefault("application_name", "workflows-mcp")
        timeout = options.pop("connect_timeout", None)
        self._connect_timeout = None if timeout is None else _positive_seconds("connect_timeout", timeout)
        self._urls = urls_of_hosts(url, options)
        self.description = _describe(url, options)
        self.upgrade_command = f"workflows-mcp db upgrade --database-url {shlex.quote(_without_password(url))}"

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
            if settings.pgbouncer or getattr(_root(error), "sqlstate", None) != POOLER_REFUSED:
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
        """See `Dialect.explain`; by SQLSTATE, and by type where the server said nothing."""
        cause = _root(error)
        if isinstance(cause, asyncpg.exceptions.InvalidCachedStatementError):
            # Somebody has changed the table's columns. SQLAlchemy now forgets the statements that it had prepared, on
            # all connections, and so the second attempt succeeds.
            changed = StoreUnavailableError(
                f"the checkpoints table of {self.description} was changed by another process; try again"
            )
            return Failure(changed, retriable=True, most_repeats=1)
        state = getattr(cause, "sqlstate", None)
        if isinstance(state, str):
            return self._explain_state(state)
        found = self._explain_silence(cause)
        if found is None and isinstance(error, DBAPIError):
            return Failure(CheckpointStoreError(f"{self.description} refused a statement ({type(cause).__name__})"))
        return found

    def _explain_silence(self, cause: BaseException) -> Failure | None:
        where = self.description
        if isinstance(cause, asyncpg.exceptions.ClientConfigurationError | ValueError):
            return Failure(StoreConfigurationError(f"the URL of {where} holds a setting that the driver refuses"))
        if isinstance(cause, asyncpg.exceptions.TargetServerAttributeNotMatched):
            return Failure(
                StoreUnavailableError(f"no host of {where} is of the kind that target_session_attrs names; try again"),
                retriable=True,
            )
        if isinstance(cause, OSError | TimeoutError):
            reason = getattr(cause, "strerror", None) or "timed out"
            return Failure(
                StoreUnavailableError(f"{where} does not answer ({reason}); check that it runs and can be reached"),
                retriable=True,
            )
        if isinstance(cause, asyncpg.InterfaceError | asyncpg.InternalClientError):
            return Failure(StoreUnavailableError(f"the connection to {where} was lost; try again"), retriable=True)
        return None

    def _explain_state(self, state: str) -> Failure:
        for beginning, kind, meaning in _MEANINGS:
            if state.startswith(beginning):
                next_step = f"; run: {self.upgrade_command}" if kind is SchemaOutOfDateError else ""
                error = kind(f"{self.description} {meaning} ({state}){next_step}")
                most_repeats = _REPEATS_TAKEN_BACK if state == _TAKEN_BACK else None
                return Failure(error, retriable=state.startswith(_RETRIABLE), most_repeats=most_repeats)
        return Failure(CheckpointStoreError(f"{self.description} refused a statement ({state})"))


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


def _read_query(url: SplitResult) -> dict[str, str]:
    """The query's keys as asyncpg takes them.

    Raises:
        StoreConfigurationError: A key is unknown. Values are not shown: one may be a password.
    """
    options: dict[str, str] = {}
    for key, values in parse_qs(url.query, keep_blank_values=True).items():
        if key in _IGNORED_KEYS or not any(values):
            continue
        if key == "host":
            # SQLAlchemy repeats `host=a:5432&host=b:5432`; libpq joins with commas.
            options["host"] = ",".join(values)
        elif key == "ssl":
            options["sslmode"] = values[-1]
        elif key in _DRIVER_KEYS or key == "connect_timeout":
            options[key] = values[-1]
        else:
            known = ", ".join(sorted(_DRIVER_KEYS | {"connect_timeout"}))
            raise StoreConfigurationError(f"the database URL has an unknown key {key!r}; known are: {known}")
    return options


def _positive_seconds(key: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise StoreConfigurationError(f"{key} in the database URL must be a positive number of seconds")
    return seconds


def _describe(url: SplitResult, options: dict[str, str]) -> str:
    """`PostgreSQL database 'db' at host:5432`, without user and password."""
    hosts = url.netloc.rpartition("@")[2] or options.get("host", "") or "the default host"
    name = unquote(url.path.lstrip("/")) or options.get("dbname", "")
    return f"PostgreSQL database {name!r} at {unquote(hosts)}"


def _without_password(url: SplitResult) -> str:
    """The URL, with a word in place of a password that it holds."""
    login, at, hosts = url.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    query = "&".join(
        f"{pair.partition('=')[0]}=PASSWORD" if "password" in pair.partition("=")[0] else pair
        for pair in url.query.split("&")
    )
    return url._replace(netloc=f"{user}{':PASSWORD' if colon else ''}{at}{hosts}", query=query).geturl()


def _root(error: BaseException) -> BaseException:
    """The driver's own error beneath SQLAlchemy's."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    # SQLAlchemy's stand-in for it, which comes bare when a connection is opened outside of its engine's own calls.
    if isinstance(error, AsyncAdapt_Error) and error.__cause__ is not None:
        return error.__cause__
    return error
