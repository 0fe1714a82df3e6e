"""Column types and index predicates that the two databases spell differently."""

from typing import Any

from sqlalchemy import DDL, Table, Text, event, text
from sqlalchemy.dialects import postgresql

__all__ = ["CheckpointId", "partial", "store_payload_uncompressed"]

CheckpointId = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Text that sorts by code points everywhere: SQLite always does, PostgreSQL when told so."""


def partial(*, sqlite: str, postgresql: str) -> dict[str, Any]:
    """Arguments that limit an index to some rows.

    The predicate is text because SQLite uses a partial index only for queries that repeat its very terms, and
    SQLAlchemy writes a boolean column in an index (`is_paused`) otherwise than in a query (`is_paused = 1`).
    """
    return {"sqlite_where": text(sqlite), "postgresql_where": text(postgresql)}


def store_payload_uncompressed(table: Table, column: str) -> None:
    """Tell PostgreSQL not to try and compress a column that is compressed already."""
    statement = DDL(f"ALTER TABLE {table.name} ALTER COLUMN {column} SET STORAGE EXTERNAL")  # type: ignore[no-untyped-call] # SQLAlchemy's
    event.listen(table, "after_create", statement.execute_if(dialect="postgresql"))
