"""What lets a save pass that follows another checkpoint or has an owner, in terms that both databases share.

Each condition stands on the row that it is about, so that a database that lets others go on meanwhile asks it again
when it has locked that row.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Double,
    FromClause,
    Table,
    Text,
    and_,
    bindparam,
    case,
    false,
    func,
    literal_column,
    not_,
    null,
    or_,
    true,
)
from sqlalchemy.types import TypeEngine

from workflows_mcp.persistence.dialects.held import Row
from workflows_mcp.persistence.dialects.types import time_now

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

    Insert: TypeAlias = postgresql.Insert | sqlite.Insert

__all__ = [
    "FENCE",
    "FencedRow",
    "are_fenced",
    "fenced",
    "fenced_columns",
    "fenced_names",
    "is_own",
    "is_owners",
    "is_repetition",
    "may_be_followed",
    "new_lease",
    "parameters",
    "replaced",
    "replaced_under_lease",
    "saved_columns",
    "to_history",
]

FENCE: Mapping[str, TypeEngine[Any]] = {"follows": Text(), "owner": Text(), "lease_seconds": Double()}
"""What a fenced row holds besides the columns that any save sets; see `FencedRow`."""


class FencedRow(Row):
    """The values of a save that follows another or has an owner: its id, those of `FENCE`, and then the other columns.

    As in every row, the id stands first and the payload last.
    """

    __slots__ = ()


def are_fenced(rows: Sequence[Row]) -> bool:
    """Whether some of the rows are fenced."""
    return any(type(row) is FencedRow for row in rows)


def fenced(row: Row, fence: Row = (None, None, None)) -> FencedRow:
    """A row with its fence; None in all of it: nothing is asked for."""
    return row if type(row) is FencedRow else FencedRow((row[0], *fence, *row[1:]))


def saved_columns(table: Table, place: Mapping[str, ColumnElement[Any]]) -> dict[str, TypeEngine[Any]]:
    """The columns that any save sets and their types, in the order of a row's values."""
    return {one.name: one.type for one in table.c if one.name not in place}


def fenced_columns(table: Table, place: Mapping[str, ColumnElement[Any]]) -> dict[str, TypeEngine[Any]]:
    """The parameters of a fenced save and their types, in the order of the values of a `FencedRow`."""
    columns = {**saved_columns(table, place), **FENCE}
    return {name: columns[name] for name in fenced_names(list(saved_columns(table, place)))}


def fenced_names(names: Sequence[str]) -> list[str]:
    """The names of the values of a `FencedRow`, given those of a row."""
    return [names[0], *FENCE, *names[1:]]


def parameters(columns: Mapping[str, TypeEngine[Any]]) -> dict[str, ColumnElement[Any]]:
    """Each column as a parameter of its name."""
    return {name: bindparam(name, type_=kind) for name, kind in columns.items()}


def new_lease(new: Mapping[str, ColumnElement[Any]]) -> dict[str, ColumnElement[Any]]:
    """The lease of a row that is new: none, where there is no owner or no length."""
    return {"lease_owner": new["owner"], "lease_expires_at": time_now() + new["lease_seconds"]}


def is_own(new: Any, own: FromClause) -> ColumnElement[bool]:  # noqa: ANN401 - a table's columns by name
    """Whether what bears a save's id, if anything does, was saved or claimed last by whoever saves."""
    return or_(own.c.checkpoint_id.is_(None), new.owner.is_(None), own.c.lease_owner == new.owner)


def is_repetition(own: FromClause, previous: FromClause) -> ColumnElement[bool]:
    """Whether a save that follows has been made already."""
    is_history = or_(previous.c.checkpoint_id.is_(None), previous.c.superseded == true())
    return and_(own.c.checkpoint_id.is_not(None), is_history)


def may_be_followed(owner: ColumnElement[Any], previous: FromClause) -> ColumnElement[bool]:
    """Whether a checkpoint is a head, and leased to whoever saves what follows it."""
    is_leased = and_(previous.c.lease_owner == owner, previous.c.lease_expires_at.is_not(None))
    return and_(previous.c.superseded == false(), or_(owner.is_(None), is_leased))


def to_history() -> dict[str, ColumnElement[Any]]:
    """What becomes of a checkpoint that is followed.

    Nothing else changes: a row whose length stays the same is not written anew with its whole payload.
    """
    return {"superseded": true(), "is_paused": false()}


def replaced(statement: "Insert", table: Table, place: Mapping[str, ColumnElement[Any]]) -> dict[str, Any]:
    """What a save sets in a row that bears its id: all but its key and its place. History waits for nobody.

    A delta takes no row's place: what it is a delta of may be one of that row. No state has an empty digest, so that
    the foreign key refuses it, and whoever saves it saves it whole.
    """
    new = statement.excluded
    values = {one.name: new[one.name] for one in table.c if one.name not in place and not one.primary_key}
    is_whole = new.base_checkpoint_id.is_(None)
    return {
        **values,
        "is_paused": and_(new.is_paused, not_(table.c.superseded)),
        "base_digest": case((is_whole, null()), else_=literal_column("''")),
    }


def is_owners(statement: "Insert", table: Table) -> ColumnElement[bool]:
    """Whether a row may be replaced by one that may have an owner."""
    new = statement.excluded
    return or_(new.lease_owner.is_(None), table.c.lease_owner == new.lease_owner)


def replaced_under_lease(statement: "Insert", table: Table, place: Mapping[str, ColumnElement[Any]]) -> dict[str, Any]:
    """The same when the save may have an owner, whose lease begins anew or ends; without, it is left alone."""
    new, old = statement.excluded, table.c
    keeps_lease = or_(new.lease_owner.is_(None), old.superseded == true())
    return {
        **replaced(statement, table, place),
        "lease_owner": func.coalesce(new.lease_owner, old.lease_owner),
        "lease_expires_at": case((keeps_lease, old.lease_expires_at), else_=new.lease_expires_at),
    }
