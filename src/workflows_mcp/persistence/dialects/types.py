"""What the table is made of, where the two databases spell it differently."""

from typing import Any

from sqlalchemy import DDL, Table, Text, event, text
from sqlalchemy.dialects import postgresql

__all__ = ["HEADS", "LEASED", "VERSION_TABLE", "WAITING", "CheckpointId", "rows_where", "store_payload_uncompressed"]

VERSION_TABLE = "workflows_alembic_version"
"""Alembic's own table; people who embed the store have an `alembic_version` of theirs."""

CheckpointId = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Text that sorts by code points everywhere: SQLite always does, PostgreSQL when told so."""


def rows_where(predicate: str, *, sqlite: str | None = None) -> dict[str, Any]:
    """Arguments that limit an index to some rows.

    The predicate is text because a partial index serves only queries that repeat its very terms, and SQLAlchemy
    writes a boolean column in an index (`is_paused`) otherwise than in a query (`is_paused = 1`).
    """
    return {
        "sqlite_where": text(sqlite or predicate),
        "postgresql_where": text(predicate),
    }


WAITING = rows_where("is_paused", sqlite="is_paused = 1")
"""Checkpoints that wait for an answer."""

HEADS = rows_where("NOT superseded", sqlite="superseded = 0")
"""Checkpoints that no other one follows."""

LEASED = rows_where(
    "lease_owner IS NOT NULL AND NOT superseded AND status = 'running'",
    sqlite="lease_owner IS NOT NULL AND superseded = 0 AND status = 'running'",
)
"""Heads of runs that some executor holds, or held when it died."""


def store_payload_uncompressed(table: Table, column: str) -> None:
    """Tell PostgreSQL not to try and compress a column that is compressed already."""
    statement = DDL(f"ALTER TABLE {table.name} ALTER COLUMN {column} SET STORAGE EXTERNAL")  # type: ignore[no-untyped-call] # SQLAlchemy's
    event.listen(table, "after_create", statement.execute_if(dialect="postgresql"))
