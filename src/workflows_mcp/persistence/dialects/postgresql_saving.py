"""PostgreSQL's statements that save: one for each commit, however many rows it has and whatever they ask for.

Not the driver's `executemany`: cancelled while it sends, it never ends and keeps its locks (asyncpg #873), and it
does not tell which rows were written. Rows come as an array for each column instead.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    case,
    column,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from workflows_mcp.persistence.dialects.base import Replaced
from workflows_mcp.persistence.dialects.fencing import (
    FENCE,
    are_fenced,
    fenced,
    fenced_columns,
    fenced_names,
    is_own,
    is_owners,
    is_repetition,
    may_be_followed,
    new_lease,
    parameters,
    replaced,
    replaced_under_lease,
    saved_columns,
    to_history,
)
from workflows_mcp.persistence.dialects.held import Compiled, Row

__all__ = [
    "Saving",
    "arrays_of",
    "putting",
    "rows_of",
    "save_many",
    "save_many_fenced",
    "save_one",
    "save_one_fenced",
    "those_locked",
]

Place = Mapping[str, ColumnElement[Any]]

_ZERO, _ONE = literal_column("0", Integer), literal_column("1", Integer)

_REPLACED_BY = literal_column("xmax", Integer)
"""0 in a row that was inserted. One that was there is locked before it is replaced, which leaves a transaction's id."""


def rows_of(columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """Any number of rows, as an array for each column, which is a parameter of its name."""
    arrays = [bindparam(name, type_=postgresql.ARRAY(kind)) for name, kind in columns.items()]
    return func.unnest(*arrays).table_valued(*(column(name, kind) for name, kind in columns.items())).render_derived()


def arrays_of(rows: Sequence[Row]) -> Iterable[Row]:
    """The rows' columns. In the order of their keys: two batches that lock rows by these do not deadlock.

    What rows follow is locked in an order that a fenced save sees to itself.
    """
    return zip(*sorted(rows, key=operator.itemgetter(0)), strict=True)


class Saving:
    """Chooses the statement that saves some rows.

    Args:
        saving: What the dialect's saving statements compile to.

    Attributes:
        those_locked: The statement of that name, with an array of ids.
    """

    def __init__(self, saving: Mapping[str, Compiled]) -> None:
        self._sql = {name: statement.sql for name, statement in saving.items()}
        self.those_locked = self._sql["those_locked"]
        given = fenced_names(saving["one"].names)
        # What is used more than once in a statement is one parameter, wherever it stands first.
        self._order_one, self._order_many = (
            operator.itemgetter(*map(given.index, saving[name].names)) for name in ("one_fenced", "many_fenced")
        )

    def of(self, rows: Sequence[Row]) -> tuple[str, Row]:
        """The statement for some rows, and its parameters."""
        if are_fenced(rows):
            if len(rows) == 1:
                return self._sql["one_fenced"], self._order_one(rows[0])
            return self._sql["many_fenced"], self._order_many(tuple(arrays_of([fenced(row) for row in rows])))
        if len(rows) == 1:
            return self._sql["one"], rows[0]
        return self._sql["many"], tuple(arrays_of(rows))


def those_locked(table: Table) -> Executable:
    """The ids, of those in an array, whose rows somebody else has locked so that they cannot be replaced now."""
    is_one = table.c.checkpoint_id == any_(bindparam("checkpoint_ids", type_=postgresql.ARRAY(Text)))
    free = select(table.c.checkpoint_id).where(is_one).with_for_update(skip_locked=True, key_share=True).cte("free")
    return select(table.c.checkpoint_id).where(is_one, table.c.checkpoint_id.not_in(select(free.c.checkpoint_id)))


def save_one(table: Table, place: Place) -> Executable:
    """Insert or replace a row."""
    values = {**parameters(saved_columns(table, place)), **place}
    return _replacing(postgresql.insert(table).values(values), table, place)


def save_many(table: Table, place: Place) -> Executable:
    """Insert or replace some rows."""
    new = rows_of(saved_columns(table, place))
    rows = select(*new.c, *place.values())
    return _replacing(postgresql.insert(table).from_select([*new.c.keys(), *place], rows), table, place)


def _replacing(statement: postgresql.Insert, table: Table, place: Place) -> Executable:
    key = [one.name for one in table.primary_key]
    new = replaced(statement, table, place)
    return statement.on_conflict_do_update(index_elements=key, set_=new).returning(*table.primary_key)


def putting(table: Table, columns: Mapping[str, TypeEngine[Any]], replaced: Replaced | None) -> Executable:
    """Insert some rows with all their columns; see `Dialect.putting`."""
    new = rows_of(columns)
    statement = postgresql.insert(table).from_select(list(columns), select(*new.c))
    if replaced is None:
        return statement
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=replaced(statement))


def save_one_fenced(table: Table, place: Place) -> Executable:
    """Insert or replace a row that may follow another and may have an owner."""
    values = parameters(fenced_columns(table, place))
    asked = select(*(values[name].label(name) for name in ("checkpoint_id", *FENCE)))
    return _fenced(table, place, asked, values, select())


def save_many_fenced(table: Table, place: Place) -> Executable:
    """The same for some rows, of which some may ask for nothing."""
    columns = fenced_columns(table, place)
    new = rows_of(columns)
    # Apart from the rows themselves, whose payloads would be copied along with what is asked for.
    asked = rows_of({name: columns[name] for name in ("checkpoint_id", *FENCE)})
    return _fenced(table, place, select(*asked.c), dict(new.c), select().select_from(new))


def _fenced(
    table: Table, place: Place, asked: Select[Any], values: Mapping[str, ColumnElement[Any]], rows: Select[Any]
) -> Executable:
    """One statement that makes history of what is followed, and writes what is thereby let pass.

    Args:
        table: Where to insert.
        place: See `Dialect.saving`.
        asked: Ids and fences.
        values: Each column of the new rows.
        rows: A query of them, without columns.
    """
    own, previous, followed = (table.alias(name) for name in ("own", "previous", "followed"))
    each = asked.subquery("asked")
    # Of other rows, a statement sees what was there when it began. That is enough to tell repetitions and what is
    # somebody else's for good. What else came in between shows at the end, or when the caller asks once more.
    asked_cte = (
        select(
            *each.c,
            is_own(each.c, own).label("is_own"),
            is_repetition(own, previous).label("is_repetition"),
        )
        .select_from(
            each.outerjoin(own, own.c.checkpoint_id == each.c.checkpoint_id).outerjoin(
                previous, previous.c.checkpoint_id == each.c.follows
            )
        )
        # What is followed is locked in this order: that of code points, as `arrays_of` has it, so that batches that
        # lock the same rows, be it to follow or to renew them, do not deadlock.
        .order_by(each.c.follows.collate("C"))
        .cte("fences")
    )
    fences = asked_cte.c
    held = (
        update(followed)  # type: ignore[arg-type] # an alias of a table can be updated, too
        .where(
            followed.c.checkpoint_id == fences.follows,
            fences.is_own,
            # On the row itself: asked again when the row is locked, if somebody else had it.
            may_be_followed(fences.owner, followed),
        )
        .values(to_history())
        .returning(fences.checkpoint_id.label("checkpoint_id"))
        .cte("held")
    )
    passes = or_(
        fences.follows.is_(None),
        fences.is_repetition,
        exists(select(_ONE).where(held.c.checkpoint_id == fences.checkpoint_id)),
    )
    new_row = {name: values[name] for name in saved_columns(table, place)}
    new_place = {**place, **new_lease(values)}
    allowed = exists(select(_ONE).where(fences.checkpoint_id == values["checkpoint_id"], fences.is_own, passes))
    insert = postgresql.insert(table).from_select(
        [*new_row, *new_place], rows.add_columns(*new_row.values(), *new_place.values()).where(allowed)
    )
    written = (
        insert.on_conflict_do_update(
            index_elements=[table.c.checkpoint_id],
            set_=replaced_under_lease(insert, table, place),
            where=is_owners(insert, table),
        )
        .returning(table.c.checkpoint_id, (_REPLACED_BY == _ZERO).label("is_new"))
        .cte("written")
    )
    # What made history of another and then met a row of its own id, which nobody had seen, must not have happened,
    # nor must a repetition whose row was deleted meanwhile, and which brought it back: dividing by zero takes all of
    # it back.
    is_back = and_(
        written.c.is_new,
        exists(select(_ONE).where(fences.checkpoint_id == written.c.checkpoint_id, fences.is_repetition)),
    )
    is_whole = case((or_(written.c.checkpoint_id.is_(None), is_back), _ZERO), else_=_ONE)
    both = written.join(held, held.c.checkpoint_id == written.c.checkpoint_id, full=True)
    return select(written.c.checkpoint_id, _ONE.op("/")(is_whole)).select_from(both)
