"""What the table is made of, where the two databases spell it differently."""

from typing import Any

from sqlalchemy import DDL, BindParameter, ColumnElement, Double, Integer, LargeBinary, Table, Text, event, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal

__all__ = [
    "HEADS",
    "LEASED",
    "VERSION_TABLE",
    "WAITING",
    "CheckpointId",
    "Digest",
    "Payload",
    "place_of_text",
    "rows_where",
    "store_payload_uncompressed",
    "stored",
    "stored_value",
    "time_now",
    "time_of_statement",
    "whole_part",
]

VERSION_TABLE = "workflows_alembic_version"
"""Alembic's own table; people who embed the store have an `alembic_version` of theirs."""

CheckpointId = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that sorts by code points everywhere: SQLite always does, PostgreSQL when told so."""

Digest = CheckpointId
"""Characters that tell contents apart; they sort as those of the ids do, with which they make a key."""


class Payload(LargeBinary):
    """Bytes as the driver gives them.

    SQLAlchemy's own type makes bytes of whatever SQLite holds: of a number, so many.
    """

    cache_ok = True

    def result_processor(self, dialect: Any, coltype: object) -> None:  # noqa: ANN401 - as SQLAlchemy has it
        """None: values are left as they are."""


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
    "lease_expires_at IS NOT NULL AND NOT superseded AND status = 'running'",
    sqlite="lease_expires_at IS NOT NULL AND superseded = 0 AND status = 'running'",
)
"""Heads of runs that some executor holds, or held until it died or let go of them."""


class time_now(ColumnElement[float]):  # noqa: N801 - stands in a statement like a function of the database's
    """The database's time, in Unix seconds: when it gets there, also after it has waited for a lock."""

    inherit_cache = True
    _traverse_internals = []  # noqa: RUF012 - SQLAlchemy's; without, each statement that has it is compiled each time
    type = Double()


class time_of_statement(time_now):  # noqa: N801 - as above
    """The same when the statement began: one value, so that it can be looked for in an index."""

    inherit_cache = True


# Time zones do not come in: of a timestamp with one, PostgreSQL's epoch is in UTC, as is SQLite's 'now'.


@compiles(time_now, "postgresql")
def _(_element: time_now, _compiler: object, **_options: object) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"


@compiles(time_of_statement, "postgresql")
def _(_element: time_of_statement, _compiler: object, **_options: object) -> str:
    return "CAST(extract(epoch FROM statement_timestamp()) AS DOUBLE PRECISION)"


@compiles(time_now, "sqlite")
@compiles(time_of_statement, "sqlite")
def _(_element: time_now, _compiler: object, **_options: object) -> str:
    # To the millisecond. unixepoch('now', 'subsec') came with SQLite 3.42.
    return "((julianday('now') - 2440587.5) * 86400.0)"


class stored(ColumnElement[str]):  # noqa: N801 - as above
    """A parameter for text that the database gave: in a SQLite file it may be no UTF-8, and is then sent as bytes."""

    inherit_cache = True
    _traverse_internals = [("parameter", InternalTraversal.dp_clauseelement)]  # noqa: RUF012 - SQLAlchemy's

    def __init__(self, parameter: BindParameter[str]) -> None:
        self.parameter = parameter
        self.type = parameter.type


def stored_value(text: Any) -> Any:  # noqa: ANN401 - what came out of a column
    """The value of such a parameter."""
    if isinstance(text, str) and not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-8", "surrogateescape")
    return text


@compiles(stored, "postgresql")
def _(element: stored, compiler: Any, **options: object) -> str:  # noqa: ANN401 - SQLAlchemy's
    return str(compiler.process(element.parameter, **options))


@compiles(stored, "sqlite")
def _(element: stored, compiler: Any, **options: object) -> str:  # noqa: ANN401 - SQLAlchemy's
    # The + takes away its affinity, with which SQLite would not look for (time, id) in an index by more than the time.
    return f"(+CAST({compiler.process(element.parameter, **options)} AS TEXT))"


class place_of_text(FunctionElement[int]):  # noqa: N801 - as above
    """Where in one text another one begins, compared by their very characters; 0: nowhere."""

    inherit_cache = True
    type = Integer()


class whole_part(FunctionElement[int]):  # noqa: N801 - as above
    """A number of at least 0 without its fraction."""

    inherit_cache = True
    type = Integer()


# No LIKE: in SQLite it takes letters of either case for the same, and in both some characters mean others.


@compiles(place_of_text, "postgresql")
def _(element: place_of_text, compiler: Any, **options: object) -> str:  # noqa: ANN401 - SQLAlchemy's
    return f"strpos({compiler.process(element.clauses, **options)})"


@compiles(place_of_text, "sqlite")
def _(element: place_of_text, compiler: Any, **options: object) -> str:  # noqa: ANN401 - SQLAlchemy's
    return f"instr({compiler.process(element.clauses, **options)})"


@compiles(whole_part, "postgresql")
def _(element: whole_part, compiler: Any, **options: object) -> str:  # noqa: ANN401 - SQLAlchemy's
    return f"CAST(floor({compiler.process(element.clauses, **options)}) AS INTEGER)"


@compiles(whole_part, "sqlite")
def _(element: whole_part, compiler: Any, **options: object) -> str:  # noqa: ANN401 - SQLAlchemy's
    return f"CAST({compiler.process(element.clauses, **options)} AS INTEGER)"  # which cuts off, and does not round


def store_payload_uncompressed(table: Table, column: str) -> None:
    """Tell PostgreSQL not to try and compress a column that is compressed already."""
    statement = DDL(f"ALTER TABLE {table.name} ALTER COLUMN {column} SET STORAGE EXTERNAL")  # type: ignore[no-untyped-call] # SQLAlchemy's
    event.listen(table, "after_create", statement.execute_if(dialect="postgresql"))
