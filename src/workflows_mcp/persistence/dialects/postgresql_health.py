"""What can be known of a PostgreSQL server, of a database on it, and of what stands in between."""

import statistics
import time
from dataclasses import dataclass
from typing import cast

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from workflows_mcp.persistence.checks import Report
from workflows_mcp.persistence.dialects.base import Look
from workflows_mcp.persistence.dialects.postgresql_wire import look_at_encryption
from workflows_mcp.persistence.dialects.quoting import identifier
from workflows_mcp.settings import Settings

__all__ = ["look_at_server", "tell_of_refusing_pooler"]

_ROUND_TRIPS = 7
_SLOW_MILLISECONDS = 20.0

_HELD_CONNECTIONS = 2
"""What a store opens besides its pool."""

_OLDEST_MAINTAINED = 14
_CLOCK_SECONDS = 1.0

_POOLER_SETTING = "WORKFLOWS_PGBOUNCER"

_FACTS = text("""
    SELECT current_setting('server_version') AS version,
           current_setting('server_version_num')::int / 10000 AS major,
           current_database() AS name,
           pg_is_in_recovery() AS is_standby,
           current_setting('default_transaction_read_only') AS read_only,
           current_setting('server_encoding') AS encoding,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('synchronous_standby_names') <> '' AS has_synchronous_standbys,
           current_setting('fsync') AS fsync,
           current_setting('full_page_writes') AS full_page_writes,
           current_setting('statement_timeout') AS statement_timeout,
           current_setting('lock_timeout') AS lock_timeout,
           current_setting('idle_in_transaction_session_timeout') AS idle_in_transaction,
           coalesce(current_setting('idle_session_timeout', true), '0') AS idle_session,
           coalesce(current_setting('transaction_timeout', true), '0') AS transaction_timeout,
           current_setting('max_connections')::int AS most,
           current_setting('superuser_reserved_connections')::int
               + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved,
           (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS of_database,
           (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS of_role,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())
               AS in_use,
           pg_database_size(current_database()) AS bytes,
           (SELECT CASE WHEN ssl THEN version || ', ' || cipher END FROM pg_stat_ssl WHERE pid = pg_backend_pid())
               AS tls,
           host(inet_client_addr()) AS client
""")


@dataclass(frozen=True)
class _Facts:
    """What `_FACTS` asks, in its order."""

    version: str
    major: int
    name: str
    is_standby: bool
    read_only: str
    encoding: str
    synchronous_commit: str
    has_synchronous_standbys: bool
    fsync: str
    full_page_writes: str
    statement_timeout: str
    lock_timeout: str
    idle_in_transaction: str
    idle_session: str
    transaction_timeout: str
    most: int
    reserved: int
    of_database: int
    of_role: int
    in_use: int
    bytes: int
    tls: str | None
    client: str | None


async def look_at_server(
    connection: AsyncConnection, report: Report, look: Look, settings: Settings, *, has_refused: bool = False
) -> None:
    """Look at everything over one connection. See `Dialect.examine`.

    Args:
        connection: Of an engine made of the settings.
        report: Where to tell.
        look: Looks at what is the same in every database.
        settings: What the database would be used with.
        has_refused: Whether a pooler was found already, and reported, since it refused other settings.
    """
    milliseconds = await _round_trip(connection)
    found = f"in {milliseconds:.1f} ms (median of {_ROUND_TRIPS} round trips)"
    if milliseconds > _SLOW_MILLISECONDS:
        report.notice("answers", found, "each save takes that long at the least: run nearer to the server")
    else:
        report.ok("answers", found)
    facts = _Facts(*(await connection.execute(_FACTS)).one())
    _look_at_version(facts, report)
    _look_at_role(facts, report)
    _look_at_durability(facts, report, settings)
    _look_at_encoding(facts, report)
    _look_at_timeouts(facts, report, settings)
    _look_at_connections(facts, report, settings)
    await look_at_encryption(connection, report, settings, tls=facts.tls, client=facts.client)
    report.ok(
        "size", f"{facts.bytes / 2**20:,.1f} MiB, all tables of the database; its disk's free space cannot be asked"
    )
    if not has_refused:
        await _look_for_pooler(connection, report, settings)
    await _look_at_clock(connection, report)
    await connection.run_sync(look, report)


def tell_of_refusing_pooler(report: Report) -> None:
    """Report that a connection was refused which a pooler would have allowed, had it been known as one."""
    report.problem(
        "PgBouncer",
        "it stands before the server, and refuses a connection that gives settings to the server",
        f"set {_POOLER_SETTING}=true",
    )


async def _round_trip(connection: AsyncConnection) -> float:
    """The median time of a round trip, in milliseconds."""
    times = []
    for _ in range(_ROUND_TRIPS + 1):
        begun = time.perf_counter()
        await connection.exec_driver_sql("SELECT 1")
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times[1:])  # the first one prepares the statement


def _look_at_version(facts: _Facts, report: Report) -> None:
    if facts.major < _OLDEST_MAINTAINED:
        report.notice("PostgreSQL", f"{facts.version}, which gets no corrections any more", "upgrade the server")
    else:
        report.ok("PostgreSQL", facts.version)


def _look_at_role(facts: _Facts, report: Report) -> None:
    """Whether it takes writes."""
    if facts.is_standby:
        report.problem(
            "takes writes",
            "no: the server is a standby",
            "name the primary, or all hosts and target_session_attrs=read-write in the URL",
        )
    elif facts.read_only == "on":
        report.problem(
            "takes writes",
            "no: default_transaction_read_only is on",
            "SET default_transaction_read_only = off; ALTER DATABASE "
            f"{identifier(facts.name)} RESET default_transaction_read_only, or that of the role or the server",
        )
    else:
        report.ok("takes writes", "yes: it is no standby, and not read-only")


def _look_at_durability(facts: _Facts, report: Report, settings: Settings) -> None:
    commit = facts.synchronous_commit
    name = identifier(facts.name)
    if commit == "off":
        advice = f"ALTER DATABASE {name} SET synchronous_commit = on, or that of the role or the server"
        if settings.pgbouncer:
            loss = "off, also for what is saved through PgBouncer: a crash loses the last acknowledged checkpoints"
            report.problem("synchronous_commit", loss, advice)
        else:
            kept = "off: a store saves with on all the same, but not on an engine that is passed in"
            report.notice("synchronous_commit", kept, advice)
    elif facts.has_synchronous_standbys and commit in {"local", "remote_write"}:
        report.notice(
            "synchronous_commit",
            f"{commit}: a checkpoint is acknowledged before a standby has it on its disk, and may be missing after a "
            "failover",
            f"ALTER DATABASE {name} SET synchronous_commit = on",
        )
    else:
        report.ok("synchronous_commit", f"{commit}: what is acknowledged outlives a crash")
    if facts.fsync == "on":
        report.ok("fsync", "on")
    else:
        report.problem("fsync", "off: a power cut may destroy the whole cluster", "set fsync = on in postgresql.conf")
    if facts.full_page_writes == "on":
        report.ok("full_page_writes", "on")
    else:
        report.notice(
            "full_page_writes",
            "off: a power cut may leave torn pages, unless the file system writes none",
            "set full_page_writes = on in postgresql.conf",
        )


def _look_at_encoding(facts: _Facts, report: Report) -> None:
    if facts.encoding == "UTF8":
        report.ok("encoding", "UTF8")
    else:
        report.problem(
            "encoding", f"{facts.encoding}, which cannot hold all text", "create a database with ENCODING 'UTF8'"
        )


def _look_at_timeouts(facts: _Facts, report: Report, settings: Settings) -> None:
    """What ends statements and sessions, as it is for our connections."""
    found = ", ".join(
        f"{name} {value}"
        for name, value in {
            "statement": facts.statement_timeout,
            "lock": facts.lock_timeout,
            "idle in transaction": facts.idle_in_transaction,
            "idle session": facts.idle_session,
            "transaction": facts.transaction_timeout,
        }.items()
        if value != "0"
    )
    if facts.idle_session != "0":
        report.notice(
            "timeouts",
            found,
            "nothing need be done; after idle_session_timeout the first call opens a new connection, and is slower",
        )
    elif settings.pgbouncer and facts.statement_timeout == "0":
        report.notice(
            "timeouts",
            found or "none",
            "a PgBouncer takes no settings at connect: ALTER ROLE … SET statement_timeout lets the server end what a "
            "client that died has begun",
        )
    else:
        report.ok("timeouts", found or "none")


def _look_at_connections(facts: _Facts, report: Report, settings: Settings) -> None:
    """Whether a store finds the connections that its settings allow it."""
    wanted = settings.pool_size + _HELD_CONNECTIONS
    limits = [facts.most - facts.reserved, *(limit for limit in (facts.of_database, facts.of_role) if limit >= 0)]
    most = min(limits)
    found = (
        f"a store opens up to {wanted} (WORKFLOWS_POOL_SIZE and {_HELD_CONNECTIONS}); the server gives out {most}, of "
        f"which {facts.in_use} are in use"
    )
    if wanted > most:
        report.problem(
            "connections", found, "lower WORKFLOWS_POOL_SIZE, or raise max_connections or the limit that is set"
        )
    elif wanted > most - facts.in_use:
        report.notice("connections", found, "lower WORKFLOWS_POOL_SIZE, or see who holds them: pg_stat_activity")
    elif settings.pool_size == 1:
        report.notice("connections", found, "raise WORKFLOWS_POOL_SIZE: one long query holds up the others")
    else:
        report.ok("connections", found)


async def _look_for_pooler(connection: AsyncConnection, report: Report, settings: Settings) -> None:
    """Whether what answers is the server itself.

    A pooler gives a client a key of its own at connect, in which the server's process id would stand: the two differ.
    """
    driver = cast("asyncpg.Connection", (await connection.get_raw_connection()).driver_connection)
    pids = {(await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one() for _ in range(_ROUND_TRIPS)}
    is_pooled = pids != {driver.get_server_pid()}
    if is_pooled and not settings.pgbouncer:
        report.problem(
            "PgBouncer",
            "a pooler stands before the server, and is taken for the server",
            f"set {_POOLER_SETTING}=true, unless it pools whole sessions",
        )
    elif settings.pgbouncer and not is_pooled:
        report.notice(
            "PgBouncer",
            "none stands before the server, though the settings say so",
            f"unset {_POOLER_SETTING}: statements are then prepared once, and the server ends those that take too long",
        )
    else:
        report.ok("PgBouncer", "it stands before the server, as the settings say" if is_pooled else "none")


async def _look_at_clock(connection: AsyncConnection, report: Report) -> None:
    """How far this machine's clock is from the server's; the answer was on its way for half of the round trip."""
    begun, clock = time.time(), time.perf_counter()
    server = (await connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8")).scalar_one()
    halfway = (time.perf_counter() - clock) / 2
    ahead = begun + halfway - server
    found = (
        f"this machine's is {abs(ahead):.3f} s {'ahead of' if ahead > 0 else 'behind'} the server's, ± {halfway:.3f} s"
    )
    if abs(ahead) - halfway > _CLOCK_SECONDS:
        report.notice(
            "clock", found, "let both be set by NTP: checkpoints bear this machine's time, leases end by the server's"
        )
    else:
        report.ok("clock", found)
