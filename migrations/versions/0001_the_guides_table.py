"""The guide's checkpoints table, made new or adopted with its rows.

Revision ID: 0001
"""

from urllib.parse import quote

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
    connection = op.get_bind()
    inspector = sa.inspect(connection)
    # An embedder's own index may bear one of our names; revision 0002 does without them anyway.
    taken = {index["name"] for table in inspector.get_table_names() for index in inspector.get_indexes(table)}
    if inspector.has_table("checkpoints"):
        refuse_another_schema(connection)
        found = {column["name"]: str(column["type"]).upper() for column in inspector.get_columns("checkpoints")}
        refuse_another_products_table(found, inspector.get_pk_constraint("checkpoints")["constrained_columns"])
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
    for name, column in INDEXES.items():
        if name not in taken:
            op.create_index(name, "checkpoints", [column])


def refuse_another_schema(connection: sa.Connection) -> None:
    """Raise an error if the table is found by search_path, in another schema than the one where ours would be made."""
    if connection.dialect.name != "postgresql":
        return
    where = sa.text(
        "SELECT nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.oid = to_regclass('checkpoints')"
    )
    there, here = connection.scalar(where), connection.scalar(sa.text("SELECT current_schema()"))
    if there not in {here, None}:
        raise StoreConfigurationError(
            f"the checkpoints table is in schema {there!r}, and new tables would be made in {here!r}. Nothing was "
            f"changed; name its schema in the URL (?schema={quote(there, safe='')}) or by WORKFLOWS_DATABASE_SCHEMA"
        )


def refuse_another_products_table(found: dict[str, str], key: list[str]) -> None:
    """Raise an error unless the columns and the primary key are the guide's."""
    same = list(found) == list(COLUMNS) and all(kind in COLUMNS[name] for name, kind in found.items())
    if not same or key != ["checkpoint_id"]:
        has = ", ".join(f"{name} {kind}" for name, kind in found.items())
        wanted = ", ".join(f"{name} {' or '.join(sorted(kinds))}" for name, kinds in COLUMNS.items())
        raise StoreConfigurationError(
            f"the database has a checkpoints table that is not ours: {has}, primary key ({', '.join(key)}). It was "
            f"left as it is; name another database. (The guide's table, which is taken over, is: {wanted}, primary key "
            "(checkpoint_id).)"
        )


def downgrade() -> None:
    """Drop the table, if it is empty or its loss was asked for."""
    rows = op.get_bind().scalar(sa.text("SELECT count(*) FROM checkpoints"))
    if rows and not is_loss_asked_for():
        raise CheckpointStoreError(
            f"the checkpoints table holds {rows:,} checkpoints, which would be lost. Nothing was changed. If you mean "
            "it, add --drop-data to the command (with alembic: -x drop_data=true)"
        )
    op.drop_table("checkpoints")


def is_loss_asked_for() -> bool:
    """Whether `--drop-data` was given, or `-x drop_data`."""
    given = context.get_x_argument(as_dictionary=True).get("drop_data", "false")
    if given not in {"", "true", "false"}:
        raise StoreConfigurationError("-x drop_data takes true or false")
    return bool(context.config.attributes.get("drop_data")) or given in {"", "true"}
