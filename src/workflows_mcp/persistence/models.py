"""The checkpoints table as SQLAlchemy sees it. Alembic revisions own it; nothing here creates it.

Its indexes stand in `indexes.py`.
"""

from sqlalchemy import Boolean, CheckConstraint, Double, ForeignKeyConstraint, Integer, MetaData, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from workflows_mcp.persistence.dialects.types import (
    VERSION_TABLE,
    CheckpointId,
    Digest,
    Payload,
    store_payload_uncompressed,
)

__all__ = ["VERSION_TABLE", "Base", "CheckpointRecord"]

_OF_0002 = "saved by revision 0002"


class Base(DeclarativeBase):
    """What the models share: the names of constraints and indexes."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


class CheckpointRecord(Base):
    """One checkpoint. The payload stands last, so that reading the other columns never touches it.

    A payload may be a delta against that of another row, its base. The foreign key names the base's content too, so
    that a base which is saved again with another one is missed as much as one that is deleted.

    Every save names all columns. A program of revision 0002 does not: what the last one then is by default, no row may
    have, so that such a program can save nothing, where it would give a base another content.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (
        CheckConstraint(f"base_digest <> '{_OF_0002}'", "programs_of_revision_0002_must_be_stopped"),
        UniqueConstraint("checkpoint_id", "state_digest"),
        ForeignKeyConstraint(
            ["base_checkpoint_id", "base_digest"], ["checkpoints.checkpoint_id", "checkpoints.state_digest"]
        ),
    )

    checkpoint_id: Mapped[str] = mapped_column(CheckpointId, primary_key=True)
    run_id: Mapped[str | None] = mapped_column(Text)
    workflow_name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Double)
    status: Mapped[str] = mapped_column(Text)
    is_paused: Mapped[bool] = mapped_column(Boolean)
    pause_prompt: Mapped[str | None] = mapped_column(Text)
    parent_checkpoint_id: Mapped[str | None] = mapped_column(Text)
    superseded: Mapped[bool] = mapped_column(Boolean)
    current_wave_index: Mapped[int] = mapped_column(Integer)
    pinned: Mapped[bool] = mapped_column(Boolean)
    schema_version: Mapped[int] = mapped_column(Integer)
    lease_owner: Mapped[str | None] = mapped_column(Text)
    lease_expires_at: Mapped[float | None] = mapped_column(Double)
    full_bytes: Mapped[int] = mapped_column(Integer)
    stored_bytes: Mapped[int] = mapped_column(Integer)
    state_digest: Mapped[str | None] = mapped_column(Digest)
    base_checkpoint_id: Mapped[str | None] = mapped_column(CheckpointId)
    base_digest: Mapped[str | None] = mapped_column(Digest, server_default=_OF_0002)
    encoding: Mapped[str] = mapped_column(Text)
    payload: Mapped[bytes] = mapped_column(Payload)


store_payload_uncompressed(CheckpointRecord.__table__, "payload")  # type: ignore[arg-type] # it is a Table
