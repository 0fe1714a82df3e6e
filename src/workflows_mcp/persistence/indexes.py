"""The indexes of the checkpoints table. Whoever makes the table or checks it knows them; the store needs none.

For their `WHERE`s, SQLAlchemy loads what it has for both databases, which would be a twentieth of a store's start.
"""

from functools import cache

from sqlalchemy import Index, MetaData

from workflows_mcp.persistence.dialects.types import HEADS, LEASED, WAITING, rows_where
from workflows_mcp.persistence.models import CheckpointRecord

__all__ = ["indexed_metadata"]


@cache
def indexed_metadata() -> MetaData:
    """The table with its indexes, for Alembic to compare a database with."""
    columns = CheckpointRecord.__table__.c
    newest = columns.created_at, columns.checkpoint_id
    # All ascending: both databases walk an index backwards for "newest first".
    Index("ix_checkpoints_created_at", *newest)
    Index("ix_checkpoints_workflow_name", columns.workflow_name, *newest)
    Index("ix_checkpoints_run_id", columns.run_id, *newest, **rows_where("run_id IS NOT NULL"))
    # Most checkpoints are of running runs, which the index by time finds soon enough.
    Index("ix_checkpoints_status", columns.status, *newest, **rows_where("status <> 'running'"))
    Index("ix_checkpoints_waiting", *newest, **WAITING)
    Index("ix_checkpoints_heads", *newest, **HEADS)
    # By this one the databases look for the deltas of a row that is deleted, or saved again.
    is_delta = rows_where("base_checkpoint_id IS NOT NULL")
    Index("ix_checkpoints_base_checkpoint_id", columns.base_checkpoint_id, **is_delta)
    Index("ix_checkpoints_leases", columns.lease_expires_at, columns.checkpoint_id, **LEASED)
    return CheckpointRecord.metadata
