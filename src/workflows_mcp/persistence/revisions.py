"""The revisions of the schema, and which of them a database is at; without Alembic, which a store need not load."""

from sqlalchemy import Connection, column, inspect, select, table

from workflows_mcp.documents import document
from workflows_mcp.errors import SchemaOutOfDateError, SchemaTooNewError, StoreConfigurationError
from workflows_mcp.persistence.dialects import Dialect
from workflows_mcp.persistence.models import VERSION_TABLE, CheckpointRecord

__all__ = ["HEAD", "REVISIONS", "check_known", "check_schema", "read_revision", "refuse_newer", "refuse_upward"]

REVISIONS = ("0001", "0002", "0003")
"""All revisions, the oldest first. They stand here too so that a store need not load Alembic to check one."""

HEAD = REVISIONS[-1]


def check_schema(connection: Connection, dialect: Dialect) -> None:
    """Make sure that a database is at head.

    Raises:
        SchemaOutOfDateError: It has no schema, or an older one.
        SchemaTooNewError: Its revision is not known to this version.
    """
    has_table = inspect(connection).has_table(CheckpointRecord.__tablename__, schema=dialect.schema)
    _refuse(read_revision(connection, dialect.schema), dialect, has_table=has_table)


def read_revision(connection: Connection, schema: str | None) -> str | None:
    """The revision that a database is at; None when it has no schema of ours.

    Args:
        connection: To the database.
        schema: Where in it the tables are; see `Dialect`.
    """
    if not inspect(connection).has_table(VERSION_TABLE, schema=schema):
        return None
    return connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE, schema=schema)))


def _refuse(revision: str | None, dialect: Dialect, *, has_table: bool) -> None:
    if revision == HEAD and has_table:
        return
    refuse_newer(revision, dialect.description)
    if revision == HEAD:
        raise SchemaOutOfDateError(
            f"{dialect.description} says that it is at revision {HEAD}, but has no checkpoints table; restore a "
            f"backup as {document('operations')} says, or drop {VERSION_TABLE} and run: {dialect.upgrade_command}"
        )
    if revision is not None:
        found = f"has the schema of revision {revision}, and this version needs {HEAD}"
    elif has_table:
        found = "has a checkpoints table that is not under our revisions yet"
    else:
        found = "has no checkpoints table yet"
    raise SchemaOutOfDateError(f"{dialect.description} {found}; run: {dialect.upgrade_command}")


def refuse_newer(revision: str | None, description: str) -> None:
    """Raise a `SchemaTooNewError` when a database is at a revision that this version does not know."""
    if revision is not None and revision not in REVISIONS:
        raise SchemaTooNewError(
            f"{description} has the schema of revision {revision!r}, which is newer than {HEAD}, the newest that this "
            "version knows; upgrade workflows-mcp"
        )


def refuse_upward(current: str | None, revision: str, description: str) -> None:
    """Raise a `StoreConfigurationError` when a revision is above the one that a database is at."""
    if revision != "base" and (current is None or REVISIONS.index(current) < REVISIONS.index(revision)):
        at = "at no revision of ours" if current is None else f"at revision {current}"
        raise StoreConfigurationError(f"{description} is {at}, and {revision} is no way down from there")


def check_known(revision: str, known: tuple[str, ...]) -> None:
    """Raise a `StoreConfigurationError` when a revision is none of those that may be named."""
    if revision not in known:
        raise StoreConfigurationError(f"there is no revision {revision!r}; there are: {', '.join(known)}")
