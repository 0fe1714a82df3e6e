"""What PostgreSQL is told for the time of a connection."""

from workflows_mcp.persistence.dialects.postgresql_schema import search_path
from workflows_mcp.settings import Settings

__all__ = ["said_to_held", "server_settings"]

_BY_INDEX = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
"""What is said to a held connection: all its statements name the rows that they want.

Without these ways to join, it fetches what a batch names row by row, and so locks it in the batch's order; joined by
hash, the rows of a small table came, and were locked, as they lay there.
"""

_DURABLE = (
    "SELECT pg_catalog.set_config('synchronous_commit', 'on', false) "
    "WHERE pg_catalog.current_setting('synchronous_commit') = 'off'"
)
"""Acknowledged means durable, whatever a database's or a user's default is. What waits for less than a standby, or for
more, stays as somebody has chosen it."""

_LOCK_SECONDS = 0.1
"""How long a commit waits for a row that somebody else has locked, before the other rows go on without it. Other
savers' commits, which lock rows too, are over sooner."""


def server_settings(settings: Settings, schema: str | None, *, patient: bool) -> dict[str, str]:
    """What is said at connect; nothing through PgBouncer, which refuses what it does not know.

    Args:
        settings: Whose deadline is also the server's.
        schema: Where the tables are, if that was said.
        patient: See `Dialect.create_engine`.
    """
    if settings.pgbouncer:
        return {}
    # Tables are named with their schema; functions and operators are not, and a stranger may have made some that fit
    # better than PostgreSQL's own in a schema of the path (CVE-2018-1058).
    path = {} if schema is None else {"search_path": search_path(schema)}
    if patient:
        return path
    milliseconds = str(int(settings.deadline_seconds * 1000))
    return {
        **path,
        # The server's own end of the deadline, for a client that died or cannot be heard.
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
    }


def said_to_held(settings: Settings, *, is_shared: bool) -> str:
    """What is said on a connection that is held; not through PgBouncer, which would hand it on to others.

    A prepared statement keeps the plan of its first calls, made when the table may have been all but empty, until the
    table is analyzed; until then every commit would read the whole table.
    """
    wanted = [_BY_INDEX, _DURABLE]
    if is_shared:
        wanted.append(f"SET lock_timeout = {round(min(_LOCK_SECONDS, settings.deadline_seconds) * 1000)}")
    return "; ".join(wanted)
