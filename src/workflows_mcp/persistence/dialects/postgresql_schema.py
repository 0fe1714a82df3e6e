"""The schema of a PostgreSQL database in which our tables are: its name, and names within it.

Statements name it in front of every table, so that they mean the same whatever `search_path` is: through PgBouncer
that cannot be set at connect, and in somebody else's database another schema may have a table of the same name.
"""

from typing import Any

from sqlalchemy import Connection, text

from workflows_mcp.errors import StoreConfigurationError
from workflows_mcp.persistence.dialects.quoting import identifier

__all__ = ["check_name", "create", "name_problem", "qualified", "search_path", "use"]

_LONGEST = 63
"""Bytes. PostgreSQL cuts off a longer name, and would then know what bears it by another one."""

_RESERVED = "pg_"


def check_name(name: str) -> str:
    """The name, if it can be a schema's.

    Raises:
        StoreConfigurationError: It cannot.
    """
    problem = name_problem(name)
    if problem is None and name == "information_schema":
        problem = "is one of PostgreSQL's own"
    if problem is not None:
        raise StoreConfigurationError(f"the schema name {name!r} {problem}; choose another one")
    return name


def name_problem(name: str) -> str | None:
    """Why a name cannot be that of a schema or a role of somebody's; None: it can."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not UTF-8 text"
    if not name or "\0" in name:
        return "is empty, or holds U+0000"
    if size > _LONGEST:
        return f"has {size} bytes, and PostgreSQL takes {_LONGEST}"
    return "is one of PostgreSQL's own" if name.startswith(_RESERVED) else None


def qualified(table: str, schema: str | None) -> str:
    """A table's name as it stands in SQL."""
    return table if schema is None else f"{identifier(schema)}.{table}"


def search_path(schema: str) -> str:
    """A `search_path` of nothing but the schema, temporary tables last: they would otherwise come before all others."""
    return f"{identifier(schema)}, pg_temp"


def use(connection: Connection, schema: str) -> None:
    """Let names without a schema mean ours, to the end of the transaction that is under way."""
    connection.exec_driver_sql(f"SET LOCAL search_path TO {search_path(schema)}")


def create(connection: Connection, schema: str, description: str) -> None:
    """Create the schema where it is missing.

    Raises:
        StoreConfigurationError: It is, and this user may not create it. The message says what to run.
    """
    known: Any = connection.execute(_KNOWN, {"schema": schema}).one()
    if known.is_there:
        return
    if not known.may_create:
        raise StoreConfigurationError(
            f"{description} has no such schema, and user {known.name!r} may not create it; let the database's owner "
            f"run: CREATE SCHEMA {identifier(schema)} AUTHORIZATION {identifier(known.name)}"
        )
    connection.exec_driver_sql(f"CREATE SCHEMA {identifier(schema)}")


_KNOWN = text("""
    SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :schema) AS is_there,
           pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create,
           current_user AS name
""")
