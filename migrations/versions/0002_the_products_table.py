"""The product's checkpoints table; the guide's rows move over as they are.

Revision ID: 0002
Revises: 0001

A row's JSON becomes its payload byte for byte, under the encoding `guide-json`; its prompt and wave are copied
into columns. The way down writes every payload as the guide's JSON again.
"""

import json
import logging
import sys
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

from workflows_mcp.errors import CheckpointDecodeError, CheckpointStoreError

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BATCH = 100  # rows in memory at a time; a row may have megabytes
LARGEST_PLAIN = 256 * 2**20
LARGEST_INTEGER = 2**31 - 1
SEALED = "aes-256-gcm:"
"""What the encoding of a sealed payload begins with."""

# What the guide's JSON holds, in its order; the other columns of its table stand beside it.
GUIDE_FIELDS = (
    "runtime_inputs",
    "context",
    "completed_blocks",
    "current_wave_index",
    "execution_waves",
    "block_definitions",
    "workflow_stack",
    "parent_checkpoint_id",
    "paused_block_id",
    "pause_prompt",
    "pause_metadata",
    "child_checkpoint_id",
    "schema_version",
)

# SQLite holds any type in any column.
GUIDE_TYPES: dict[str, tuple[type, ...]] = {
    "checkpoint_id": (str,),
    "workflow_name": (str,),
    "created_at": (float, int),
    "is_paused": (bool, int),
    "checkpoint_data": (str, bytes),
}

logger = logging.getLogger("workflows_mcp.migrations")

GUIDE_COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "checkpoint_id": sa.Text(),
    "workflow_name": sa.Text(),
    "created_at": sa.Double(),
    "is_paused": sa.Boolean(),
    "checkpoint_data": sa.Text(),
}

guide_table = sa.table(
    "checkpoints_of_0001",
    sa.column("checkpoint_id", sa.Text()),
    sa.column("workflow_name", sa.Text()),
    # Read as it is, to be checked here: SQLAlchemy's own conversion would fail without naming the row.
    sa.column("created_at", sa.types.NullType()),
    sa.column("is_paused", sa.types.NullType()),
    sa.column("checkpoint_data", sa.Text()),
)
new_table = sa.table(
    "checkpoints",
    sa.column("checkpoint_id", sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")),
    sa.column("run_id", sa.Text()),
    sa.column("workflow_name", sa.Text()),
    sa.column("created_at", sa.Double()),
    sa.column("status", sa.Text()),
    sa.column("is_paused", sa.Boolean()),
    sa.column("pause_prompt", sa.Text()),
    sa.column("parent_checkpoint_id", sa.Text()),
    sa.column("superseded", sa.Boolean()),
    sa.column("current_wave_index", sa.Integer()),
    sa.column("pinned", sa.Boolean()),
    sa.column("schema_version", sa.Integer()),
    sa.column("lease_owner", sa.Text()),
    sa.column("lease_expires_at", sa.Double()),
    sa.column("full_bytes", sa.Integer()),
    sa.column("stored_bytes", sa.Integer()),
    sa.column("encoding", sa.Text()),
    sa.column("payload", sa.LargeBinary()),
)


def upgrade() -> None:
    """Make the product's table, move the guide's rows over in batches, and drop the guide's table."""
    set_aside("checkpoints_of_0001")
    op.create_table(
        "checkpoints",
        sa.Column(
            "checkpoint_id", sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"), nullable=False
        ),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("workflow_name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("pause_prompt", sa.Text(), nullable=True),
        sa.Column("parent_checkpoint_id", sa.Text(), nullable=True),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("current_wave_index", sa.Integer(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.Double(), nullable=True),
        sa.Column("full_bytes", sa.Integer(), nullable=False),
        sa.Column("stored_bytes", sa.Integer(), nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("checkpoint_id", name="pk_checkpoints"),
    )
    if op.get_bind().dialect.name == "postgresql":
        # The payload is compressed already.
        op.execute("ALTER TABLE checkpoints ALTER COLUMN payload SET STORAGE EXTERNAL")
    move_rows(guide_table, new_table, to_product)
    op.drop_table("checkpoints_of_0001")
    create_indexes()


def create_indexes() -> None:
    """Created after the rows are there, which is faster. All ascending: both databases walk them backwards."""
    op.create_index("ix_checkpoints_created_at", "checkpoints", ["created_at", "checkpoint_id"])
    op.create_index("ix_checkpoints_workflow_name", "checkpoints", ["workflow_name", "created_at", "checkpoint_id"])
    partial = (
        ("ix_checkpoints_run_id", ["run_id", "created_at", "checkpoint_id"], "run_id IS NOT NULL", None),
        ("ix_checkpoints_status", ["status", "created_at", "checkpoint_id"], "status <> 'running'", None),
        ("ix_checkpoints_waiting", ["created_at", "checkpoint_id"], "is_paused = 1", "is_paused"),
        ("ix_checkpoints_heads", ["created_at", "checkpoint_id"], "superseded = 0", "NOT superseded"),
        (
            "ix_checkpoints_leases",
            ["lease_expires_at", "checkpoint_id"],
            "lease_expires_at IS NOT NULL AND superseded = 0 AND status = 'running'",
            "lease_expires_at IS NOT NULL AND NOT superseded AND status = 'running'",
        ),
    )
    for name, columns, on_sqlite, on_postgresql in partial:
        op.create_index(
            name,
            "checkpoints",
            columns,
            sqlite_where=sa.text(on_sqlite),
            postgresql_where=sa.text(on_postgresql or on_sqlite),
        )


def downgrade() -> None:
    """Make the guide's table again, with every payload as its JSON. What its table has no place for is lost."""
    set_aside("checkpoints_of_0002")
    op.create_table(
        "checkpoints",
        sa.Column("checkpoint_id", sa.Text(), nullable=False),
        sa.Column("workflow_name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.REAL().with_variant(sa.Double(), "postgresql"), nullable=False),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("checkpoint_data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("checkpoint_id", name="checkpoints_pkey"),
    )
    old = sa.table("checkpoints_of_0002", *(sa.column(one.name, one.type) for one in new_table.columns))
    new = sa.table("checkpoints", *(sa.column(name, kind) for name, kind in GUIDE_COLUMNS.items()))
    of_runs = op.get_bind().scalar(sa.select(sa.func.count()).select_from(old).where(old.c.run_id.is_not(None)))
    # On the way to base, revision 0001 has the word on what is lost.
    if of_runs and context.get_revision_argument():
        logger.warning(
            "%s checkpoints belong to runs. The guide's table has no place for a run's id and status: these runs can "
            "no longer be continued, and their ids no longer keep them from running twice",
            f"{of_runs:,}",
        )
    move_rows(old, new, to_guide)
    op.drop_table("checkpoints_of_0002")
    inspector = sa.inspect(op.get_bind())
    taken = {index["name"] for table in inspector.get_table_names() for index in inspector.get_indexes(table)}
    for name in ("workflow_name", "created_at", "is_paused"):
        if f"idx_{name}" not in taken:
            op.create_index(f"idx_{name}", "checkpoints", [name])


def set_aside(name: str) -> None:
    """Rename the table, and what else of it bears names that its successor will want."""
    op.rename_table("checkpoints", name)
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    # Since PostgreSQL 18, NOT NULL is a constraint with a name, which renaming the table leaves as it is.
    constraints = sa.text(
        "SELECT conname FROM pg_constraint WHERE conrelid = CAST(:name AS regclass) AND contype = 'n'"
    )
    for constraint in connection.scalars(constraints, {"name": name}).all():
        op.execute(f'ALTER TABLE {name} RENAME CONSTRAINT "{constraint}" TO "{constraint}_{name[-4:]}"')


def move_rows(source: sa.TableClause, target: sa.TableClause, convert: Any) -> None:  # noqa: ANN401 - one of the two below
    """Copy all rows, a batch at a time, and make sure that none was left behind."""
    connection = op.get_bind()
    total = connection.scalar(sa.select(sa.func.count()).select_from(source)) or 0
    moved = 0
    for batch in read_batches(connection, source):
        connection.execute(target.insert(), [convert(row) for row in batch])
        moved += len(batch)
        if moved % 50_000 < BATCH:
            logger.info("%s of %s checkpoints converted", f"{moved:,}", f"{total:,}")
    if moved != total:
        raise CheckpointStoreError(
            f"{total - moved} of {total} checkpoints have no id and cannot be kept. Nothing was changed; delete them "
            "(WHERE checkpoint_id IS NULL), then try again"
        )


def read_batches(connection: sa.Connection, source: sa.TableClause) -> Iterator[list[sa.Row[Any]]]:
    """All rows in the order of their ids."""
    key = source.c.checkpoint_id
    statement = sa.select(*source.columns).order_by(key).limit(BATCH)
    batch = list(connection.execute(statement.where(key.is_not(None))))
    while batch:
        yield batch
        batch = list(connection.execute(statement.where(key > batch[-1].checkpoint_id)))


def to_product(row: sa.Row[Any]) -> dict[str, Any]:
    """A row of the guide's table as one of the product's. JSON that is damaged stays as damaged as it is."""
    for name, kinds in GUIDE_TYPES.items():
        if not isinstance(getattr(row, name), kinds):
            raise CheckpointStoreError(
                f"checkpoint {row.checkpoint_id!r} cannot be taken over: its {name} is of a wrong type. Nothing was "
                "changed; mend or delete that row, then try again"
            )
    text = row.checkpoint_data
    payload = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        logger.warning("checkpoint %r holds no JSON object: kept as it is, and cannot be loaded", row.checkpoint_id)
        fields = {}
    return {
        "checkpoint_id": row.checkpoint_id,
        "run_id": None,
        "workflow_name": row.workflow_name,
        "created_at": row.created_at,
        "status": "paused" if row.is_paused else "running",
        "is_paused": bool(row.is_paused),
        "pause_prompt": column_text(fields.get("pause_prompt")),
        "parent_checkpoint_id": column_text(fields.get("parent_checkpoint_id")),
        "superseded": False,
        "current_wave_index": column_integer(fields.get("current_wave_index"), 0),
        "pinned": False,
        "schema_version": column_integer(fields.get("schema_version"), 1),
        "lease_owner": None,
        "lease_expires_at": None,
        "full_bytes": len(payload),
        "stored_bytes": len(payload),
        "encoding": "guide-json",
        "payload": payload,
    }


def column_text(value: object) -> str | None:
    """Text as every database's column can hold it."""
    if not isinstance(value, str):
        return None
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def column_integer(value: object, default: int) -> int:
    """A whole number as the column can hold it."""
    return value if isinstance(value, int) and abs(value) <= LARGEST_INTEGER else default


def to_guide(row: sa.Row[Any]) -> dict[str, Any]:
    """A row of the product's table as one of the guide's. What is sealed is no damage, and a revision has no keys."""
    if str(row.encoding).startswith(SEALED):  # SQLite holds any type in any column
        raise CheckpointStoreError(
            f"checkpoint {row.checkpoint_id!r} is sealed, and the guide's table holds plain text only. Nothing was "
            "changed; take the seals off first: WORKFLOWS_ENCRYPTION=off workflows-mcp checkpoints rekey --decrypt "
            "(what none of the keys opens can only be deleted)"
        )
    if row.encoding == "guide-json":
        text = row.payload.decode("utf-8", "replace")
        if text.encode() != row.payload:
            raise not_writable(row.checkpoint_id)
    else:
        fields = json.loads(plain_json(row.encoding, row.payload, row.checkpoint_id))
        text = json.dumps({name: fields[name] for name in GUIDE_FIELDS})
    return {
        "checkpoint_id": row.checkpoint_id,
        "workflow_name": row.workflow_name,
        "created_at": row.created_at,
        "is_paused": row.status == "paused",
        "checkpoint_data": text,
    }


def plain_json(encoding: str, payload: bytes, checkpoint_id: str) -> bytes:
    """The JSON in a payload as revision 0002's versions of the program wrote it."""
    checksum, body = payload[:4], payload[4:]
    if encoding in {"json", "zstd"} and zlib.crc32(body).to_bytes(4, "big") == checksum:
        if encoding == "json":
            return body
        unpacked = zstd.ZstdDecompressor().decompress(body, max_length=LARGEST_PLAIN)
        return bytes(unpacked)
    raise not_writable(checkpoint_id)


def not_writable(checkpoint_id: str) -> CheckpointDecodeError:
    """The error for a payload that cannot become text."""
    return CheckpointDecodeError(
        f"the payload of checkpoint {checkpoint_id!r} is damaged, so that it cannot be written as the guide's JSON. "
        "Nothing was changed; delete that checkpoint, then try again"
    )
