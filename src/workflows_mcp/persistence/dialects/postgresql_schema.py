"""The schema of a PostgreSQL database in which our tables are: its name, and names within it.

Statements name it in front of every table, so that they mean the same whatever `search_path` is: through PgBouncer
that cannot be set at connect, and in somebody else's database another schema may have a table of the same name.
"""

from typing import Any

from sqlalchemy import Connection, text

from workflows_mcp.errors import StoreConfigurationError
from workflows_mcp.persistence.dialects.quoting import identifier

__all__ = ["check_name", "create", "qualified", "search_path", "use"]

_LONGEST = 63
"""Bytes. PostgreSQL cuts off a longer name, and would then know the schema by another one."""

_RESERVED = ("pg_",)


def check_name(name: str) -> str:
    """The name, if it can be a schema's.

    Raises:
        StoreConfigurationError: It cannot.
    """
    problem = None
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        problem = "is not UTF-8 text"
    else:
        if not name or "\0" in name:
            problem = "is empty, or holds U+0000"
        elif size > _LONGEST:
            problem = f"has {size} bytes, and PostgreSQL takes {_LONGEST}"
        elif name.startswith(_RESERVED) or name == "information_schema":
            problem = "is one of PostgreSQL's own"
    if problem is not None:
        raise StoreConfigurationError(f"the schema name {name!r} {problem}; choose another one")
    return name


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
    SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = :schema) AS is_there,
           pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create,
           current_user AS name
""")
