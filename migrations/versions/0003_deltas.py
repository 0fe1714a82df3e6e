"""Columns for payloads that are deltas against those of other checkpoints.

Revision ID: 0003
Revises: 0002

The way up decodes nothing: no payload of an older version is a delta. On PostgreSQL it adds columns, which takes no
longer for a large table; they stand behind the payload there, where rows are read by their columns' names anyway. A
SQLite file's table is made anew, since what stands behind a payload is found by reading all of it.

The way down makes every delta self-contained.
"""

import logging
import sys
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from workflows_mcp.errors import CheckpointDecodeError, CheckpointStoreError, StoreConfigurationError

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BATCH = 100  # ids in memory at a time, and no payloads
LARGEST_PLAIN = 256 * 2**20
LEAST_BASE = 8  # of fewer bytes zstd makes no dictionary
LARGEST_WINDOW = 27  # as a power of two
SEALED = "aes-256-gcm:"
"""What the encoding of a sealed payload begins with."""

UNIQUE = "uq_checkpoints_checkpoint_id_state_digest"
FOREIGN_KEY = "fk_checkpoints_base_checkpoint_id_base_digest_checkpoints"
BASES = "ix_checkpoints_base_checkpoint_id"
OLD_PROGRAMS = "ck_checkpoints_programs_of_revision_0002_must_be_stopped"
OF_0002 = "saved by revision 0002"
"""What a column says by default that all saves fill, but for those of programs that do not know it. None may say it: a
program that has looked at the schema before it changed would give a base another content, whatever needs that."""

logger = logging.getLogger("workflows_mcp.migrations")

key_text = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

table = sa.table(
    "checkpoints",
    sa.column("checkpoint_id", key_text),
    sa.column("full_bytes", sa.Integer()),
    sa.column("stored_bytes", sa.Integer()),
    sa.column("state_digest", key_text),
    sa.column("base_checkpoint_id", key_text),
    sa.column("base_digest", key_text),
    sa.column("encoding", sa.Text()),
    sa.column("payload", sa.types.NullType()),
)


def upgrade() -> None:
    """Add the columns, what makes a base stay while a delta needs it, and the index that finds a base's deltas."""
    if op.get_bind().dialect.name == "postgresql":
        for column in new_columns():
            op.add_column("checkpoints", column)
        op.alter_column("checkpoints", "base_digest", server_default=OF_0002)  # for rows to come
        op.create_check_constraint(op.f(OLD_PROGRAMS), "checkpoints", f"base_digest <> '{OF_0002}'")
        op.create_unique_constraint(UNIQUE, "checkpoints", ["checkpoint_id", "state_digest"])
        op.create_foreign_key(
            FOREIGN_KEY,
            "checkpoints",
            "checkpoints",
            ["base_checkpoint_id", "base_digest"],
            ["checkpoint_id", "state_digest"],
        )
    else:
        *first, encoding, payload = old_columns()
        constraints = (
            sa.CheckConstraint(f"base_digest <> '{OF_0002}'", name=op.f(OLD_PROGRAMS)),
            sa.UniqueConstraint("checkpoint_id", "state_digest", name=UNIQUE),
            sa.ForeignKeyConstraint(
                ["base_checkpoint_id", "base_digest"],
                ["checkpoints.checkpoint_id", "checkpoints.state_digest"],
                name=FOREIGN_KEY,
            ),
        )
        columns = [*first, *new_columns(OF_0002), encoding, payload]
        make_anew(old_columns(), columns, constraints, "checkpoints_of_0002")
    is_delta = sa.text("base_checkpoint_id IS NOT NULL")
    op.create_index(BASES, "checkpoints", ["base_checkpoint_id"], sqlite_where=is_delta, postgresql_where=is_delta)


def downgrade() -> None:
    """Make every delta self-contained, and take the columns away."""
    connection = op.get_bind()
    is_postgresql = connection.dialect.name == "postgresql"
    if is_postgresql:
        # Before anything is read: no delta may come that is not seen here, since it would lose its base. A SQLite file
        # is locked already.
        op.execute("LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE")
    refuse_sealed(connection)
    write_deltas_out(connection)
    op.drop_index(BASES, "checkpoints")
    if is_postgresql:
        op.drop_constraint(FOREIGN_KEY, "checkpoints", type_="foreignkey")
        op.drop_constraint(UNIQUE, "checkpoints", type_="unique")
        for column in new_columns():
            op.drop_column("checkpoints", column.name)
    else:
        make_anew([*old_columns(), *new_columns()], old_columns(), (), "checkpoints_of_0003")


def old_columns() -> list[sa.Column[Any]]:
    """Those of revision 0002 on SQLite, in its order."""
    return [
        sa.Column("checkpoint_id", sa.Text(), nullable=False),
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
    ]


def new_columns(default: str | None = None) -> list[sa.Column[Any]]:
    """What this revision adds. On PostgreSQL all of them sort as the key does that they are compared with.

    Args:
        default: What the last one is where a statement does not name it.
    """
    *first, last = ("state_digest", "base_checkpoint_id", "base_digest")
    return [
        *(sa.Column(name, key_text, nullable=True) for name in first),
        sa.Column(last, key_text, nullable=True, server_default=default),
    ]


def make_anew(
    before: list[sa.Column[Any]], after: list[sa.Column[Any]], constraints: tuple[sa.Constraint, ...], aside: str
) -> None:
    """Make the table of a SQLite file anew with other columns, and its rows, indexes and triggers as they are.

    Args:
        before: Its columns.
        after: What it will have; those that are new are NULL.
        constraints: What it will have besides its primary key.
        aside: What the old table is called meanwhile.
    """
    connection = op.get_bind()
    refuse_others_columns(connection, [column.name for column in before])
    # Somebody's own as well, as where a column is added in place; but what a column had that goes has gone already.
    beside = connection.execute(
        sa.text(
            "SELECT type, name, sql FROM sqlite_schema WHERE lower(tbl_name) = 'checkpoints' "
            "AND type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY rowid"
        )
    ).all()
    quote = connection.dialect.identifier_preparer.quote_identifier
    for kind, name, _ in beside:
        connection.exec_driver_sql(f"DROP {kind} {quote(name)}")
    op.rename_table("checkpoints", aside)
    op.create_table(
        "checkpoints", *after, sa.PrimaryKeyConstraint("checkpoint_id", name="pk_checkpoints"), *constraints
    )
    move_rows(connection, aside, [column.name for column in after])
    op.drop_table(aside)
    for *_, statement in beside:
        connection.exec_driver_sql(statement)


def refuse_others_columns(connection: sa.Connection, ours: list[str]) -> None:
    """Raise an error if the table of a SQLite file has columns of somebody else's."""
    # With those that are computed.
    found = connection.scalars(sa.text("SELECT name FROM pragma_table_xinfo('checkpoints')")).all()
    others = [name for name in found if name not in ours]
    if others:
        raise StoreConfigurationError(
            f"the checkpoints table has columns that are not ours: {', '.join(map(repr, others))}. SQLite's table is "
            "made anew, and they would be lost. Nothing was changed; copy what they hold into a table of yours, by "
            "checkpoint_id, take them away (ALTER TABLE checkpoints DROP COLUMN …, what needs them first), and try "
            "again"
        )


def move_rows(connection: sa.Connection, source: str, columns: list[str]) -> None:
    """Move all rows into the checkpoints table of a SQLite file.

    What has been moved makes room for what comes next: neither the file nor its -wal grows beside it.
    """
    of_0002 = [column.name for column in old_columns()]
    old = sa.table(source, sa.column("rowid"), *map(sa.column, of_0002))
    values = [old.c[name] if name in of_0002 else sa.null() for name in columns]
    new = sa.table("checkpoints", *map(sa.column, columns))
    some = sa.select(old.c.rowid).order_by(old.c.rowid).limit(BATCH).subquery()
    while (last := connection.scalar(sa.select(sa.func.max(some.c.rowid)))) is not None:
        is_next = old.c.rowid <= last
        connection.execute(new.insert().from_select(columns, sa.select(*values).where(is_next)))
        connection.execute(sa.delete(old).where(is_next))


def refuse_sealed(connection: sa.Connection) -> None:
    """Raise an error if there is a seal of a kind that older versions do not know."""
    sealed = sa.select(table.c.checkpoint_id).where(
        table.c.encoding.startswith(SEALED),
        table.c.state_digest.is_not(None) | table.c.base_checkpoint_id.is_not(None),
    )
    first = connection.scalar(sealed.order_by(table.c.checkpoint_id).limit(1))
    if first is not None:
        raise CheckpointStoreError(
            f"checkpoint {first!r} is sealed in a way that revision 0002 does not know, and a revision has no keys. "
            "Nothing was changed; take the seals off first: WORKFLOWS_ENCRYPTION=off workflows-mcp checkpoints rekey "
            "--decrypt (what none of the keys opens can only be deleted)"
        )


def write_deltas_out(connection: sa.Connection) -> None:
    """Replace every delta by its plain JSON, compressed by itself; each is decoded once."""
    where = table.c.encoding == "zstd-delta"
    total = connection.scalar(sa.select(sa.func.count()).select_from(table).where(where)) or 0
    done = 0
    for checkpoint_id in read_ids(connection, where):
        # What those before it stand on has been written out with them.
        before, done = done, done + write_chain_out(connection, checkpoint_id)
        if done // 10_000 > before // 10_000:
            logger.info("%s of %s deltas written out", f"{done:,}", f"{total:,}")
    left = sa.select(table.c.checkpoint_id).where(table.c.base_checkpoint_id.is_not(None)).limit(1)
    odd = connection.scalar(left)
    if odd is not None:
        raise damaged(odd, "it has a base, and is no delta")


def read_ids(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Iterator[str]:
    """The ids of rows, in their order, read in batches."""
    key = table.c.checkpoint_id
    statement = sa.select(key).where(where).order_by(key).limit(BATCH)
    batch = list(connection.scalars(statement))
    while batch:
        yield from batch
        batch = list(connection.scalars(statement.where(key > batch[-1])))


def write_chain_out(connection: sa.Connection, checkpoint_id: str) -> int:
    """Make a row self-contained, and all that its state is made of; how many rows that were."""
    chain: list[sa.Row[Any]] = []
    row = read_row(connection, checkpoint_id)
    while row is not None and row.encoding == "zstd-delta":
        chain.append(row)
        if len(chain) > 1 and any(row.checkpoint_id == one.checkpoint_id for one in chain[:-1]):
            raise damaged(checkpoint_id, "its bases lead back to themselves")
        base = read_row(connection, row.base_checkpoint_id)
        if base is None or base.state_digest is None or base.state_digest != row.base_digest:
            if row.base_checkpoint_id is None:
                raise damaged(row.checkpoint_id, "it does not say what it is a delta of")
            raise damaged(row.checkpoint_id, f"its base {row.base_checkpoint_id!r} is not there as it was")
        row = base
    if not chain or row is None:
        return 0
    plain = plain_json(row)
    for one in reversed(chain):
        plain = undone(one, plain)
        write_row(connection, one.checkpoint_id, plain)
    return len(chain)


def read_row(connection: sa.Connection, checkpoint_id: str | None) -> sa.Row[Any] | None:
    """A row by its id."""
    return connection.execute(sa.select(*table.columns).where(table.c.checkpoint_id == checkpoint_id)).one_or_none()


def write_row(connection: sa.Connection, checkpoint_id: str, plain: bytes) -> None:
    """Make a row one of revision 0002, with this plain JSON."""
    body = zstd.compress(plain, level=1)
    payload = zlib.crc32(body).to_bytes(4, "big") + body
    changed = {"base_checkpoint_id": None, "base_digest": None, "encoding": "zstd", "stored_bytes": len(payload)}
    statement = sa.update(table).where(table.c.checkpoint_id == checkpoint_id)
    connection.execute(statement.values(**changed, payload=sa.literal(payload, sa.LargeBinary())))


def plain_json(row: sa.Row[Any]) -> bytes:
    """The plain JSON in a self-contained row."""
    if row.encoding not in {"json", "zstd"}:
        raise damaged(row.checkpoint_id, "it is a base, and of no encoding that can be one")
    body = checked(row)
    return body if row.encoding == "json" else unpacked(row, body, None)


def undone(row: sa.Row[Any], base: bytes) -> bytes:
    """The plain JSON of a delta, from that of its base."""
    if len(base) < LEAST_BASE:
        raise damaged(row.checkpoint_id, "it is no delta of what it says that it is")
    return unpacked(row, checked(row), zstd.ZstdDict(base, is_raw=True).as_prefix)


def checked(row: sa.Row[Any]) -> bytes:
    """A payload without its checksum, which is compared."""
    payload = row.payload
    if not isinstance(payload, bytes) or zlib.crc32(payload[4:]).to_bytes(4, "big") != payload[:4]:
        raise damaged(row.checkpoint_id, "its checksum does not match")
    return payload[4:]


def unpacked(row: sa.Row[Any], frame: bytes, prefix: Any) -> bytes:  # noqa: ANN401 - zstd has no name for it
    """What is in a frame: all of it, and as much as the row says."""
    options = {int(zstd.DecompressionParameter.window_log_max): LARGEST_WINDOW}
    plain = None
    try:
        decompressor = zstd.ZstdDecompressor(zstd_dict=prefix, options=options)
        plain = decompressor.decompress(frame, max_length=LARGEST_PLAIN)
    except zstd.ZstdError:
        pass
    # Raised outside the handler: nothing of a payload is to be shown with it.
    if plain is None or not decompressor.eof or decompressor.unused_data or len(plain) != row.full_bytes:
        raise damaged(row.checkpoint_id, "it does not unpack to what was saved")
    return bytes(plain)


def damaged(checkpoint_id: str, why: str) -> CheckpointDecodeError:
    """The error for a row that cannot become one of revision 0002."""
    return CheckpointDecodeError(
        f"the payload of checkpoint {checkpoint_id!r} is damaged ({why}), so that it and the deltas on it cannot be "
        "written out. Nothing was changed; put back what is damaged (workflows-mcp checkpoints import FILE "
        "--on-conflict replace), or delete these checkpoints, the newest first, then try again"
    )
