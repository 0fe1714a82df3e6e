"""What a database runs by itself when somebody writes to a table."""

from sqlalchemy import Connection, text

__all__ = ["find_triggers"]

_TRIGGERS = {
    "sqlite": "SELECT 'trigger', name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = :name COLLATE NOCASE",
    "postgresql": (
        "SELECT 'trigger', tgname::text FROM pg_catalog.pg_trigger "
        "WHERE tgrelid = pg_catalog.to_regclass(:name) AND NOT tgisinternal "
        "UNION ALL SELECT 'rule', rulename::text FROM pg_catalog.pg_rewrite "
        "WHERE ev_class = pg_catalog.to_regclass(:name)"
    ),
}
"""By SQLAlchemy's name of the database. Those of a foreign key, which PostgreSQL makes itself, do not count."""

_LONGEST_NAME = 100


def find_triggers(connection: Connection, table: str) -> list[str]:
    """The triggers and rules of a table, in words such as `a trigger too many ('audit')`; only reads."""
    found = connection.execute(text(_TRIGGERS[connection.dialect.name]), {"name": table})
    return sorted(f"a {kind} too many ({str(name)[:_LONGEST_NAME]!r})" for kind, name in found)
