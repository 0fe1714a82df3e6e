"""The guide's checkpoints table, made new or adopted with its rows.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import context, op

from workflows_mcp.errors import CheckpointStoreError, StoreConfigurationError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# People who followed the guide made their table with its CREATE TABLE: REAL is 8 bytes on SQLite, and 4 on
# PostgreSQL, where a table made here has 8.
COLUMNS = {
    "checkpoint_id": {"TEXT"},
    "workflow_name": {"TEXT"},
    "created_at": {"REAL", "DOUBLE PRECISION"},
    "is_paused": {"BOOLEAN"},
    "checkpoint_data": {"TEXT"},
}
INDEXES = {"idx_workflow_name": "workflow_name", "idx_created_at": "created_at", "idx_is_paused": "is_paused"}


def upgrade() -> None:
    """Create the table, or adopt the one that is there if it is the guide's."""
    inspector = sa.inspect(op.get_bind())
    if inspector.has_table("checkpoints"):
        found = {column["name"]: str(column["type"]).upper() for column in inspector.get_columns("checkpoints")}
        refuse_another_products_table(found, inspector.get_pk_constraint("checkpoints")["constrained_columns"])
        there = {index["name"] for index in inspector.get_indexes("checkpoints")}
    else:
        # The primary key bears the name that PostgreSQL gives it in the guide's own statement.
        op.create_table(
            "checkpoints",
            sa.Column("checkpoint_id", sa.Text(), nullable=False),
            sa.Column("workflow_name", sa.Text(), nullable=False),
            sa.Column("created_at", sa.REAL().with_variant(sa.Double(), "postgresql"), nullable=False),
            sa.Column("is_paused", sa.Boolean(), nullable=False),
            sa.Column("checkpoint_data", sa.Text(), nullable=False),
            sa.PrimaryKeyConstraint("checkpoint_id", name="checkpoints_pkey"),
        )
        there = set()
    for name, column in INDEXES.items():
        if name not in there:
            op.create_index(name, "checkpoints", [column])


def refuse_another_products_table(found: dict[str, str], key: list[str]) -> None:
    """Raise an error unless the columns and the primary key are the guide's."""
    same = list(found) == list(COLUMNS) and all(kind in COLUMNS[name] for name, kind in found.items())
    if not same or key != ["checkpoint_id"]:
        raise StoreConfigurationError(
            "the database has a checkpoints table that is not ours (its columns: "
            + ", ".join(found)
            + "). It was left "
            "as it is; name another database"
        )


def downgrade() -> None:
    """Drop the table, if it is empty or its loss was asked for."""
    drop_data = context.config.attributes.get("drop_data") or "drop_data" in context.get_x_argument(as_dictionary=True)
    rows = op.get_bind().scalar(sa.text("SELECT count(*) FROM checkpoints"))
    if rows and not drop_data:
        raise CheckpointStoreError(
            f"the checkpoints table holds {rows:,} checkpoints, which would be lost. Nothing was changed. If you mean "
            "it: workflows-mcp db downgrade base --drop-data, or alembic -x drop_data downgrade base"
        )
    op.drop_table("checkpoints")
