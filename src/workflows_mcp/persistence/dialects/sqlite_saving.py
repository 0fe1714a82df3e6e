"""SQLite's statements that save, and how a connection is made to save rows with them."""

import itertools
import json
import operator
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Executable, FromClause, Table, Text, bindparam, false, or_, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeEngine

from workflows_mcp.persistence.dialects.base import Replaced
from workflows_mcp.persistence.dialects.errors import RowsDroppedError
from workflows_mcp.persistence.dialects.fencing import (
    FENCE,
    FencedRow,
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
    "ASKED",
    "CACHED_STATEMENTS",
    "Fences",
    "SavingRows",
    "follow",
    "follow_one",
    "let_pass",
    "put_rows",
    "putting",
    "require_all",
    "save_one",
    "save_one_fenced",
]

Place = Mapping[str, ColumnElement[Any]]

ASKED: Mapping[str, TypeEngine[Any]] = {"checkpoint_id": Text(), **FENCE}
"""What a fenced row begins with, and all that decides whether it is let pass."""

_TOGETHER_BYTES = 512 * 2**10
"""The most payload of rows that are written by one statement."""

CACHED_STATEMENTS = 16
"""How many prepared statements a connection keeps. Each keeps the values that it was last run with, so that these two
bounds are the most memory that saving leaves behind; there is a statement for each number of rows."""


_TRIGGERS = "SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'checkpoints' COLLATE NOCASE LIMIT 1"


def save_one(table: Table, place: Place) -> Executable:
    """Insert or replace a row."""
    statement = sqlite.insert(table).values({**parameters(saved_columns(table, place)), **place})
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key), set_=replaced(statement, table, place)
    )


def putting(table: Table, columns: Mapping[str, TypeEngine[Any]], replaced: Replaced | None) -> Executable:
    """Insert a row with all its columns; see `Dialect.putting`."""
    statement = sqlite.insert(table).values(parameters(columns))
    if replaced is None:
        return statement
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=replaced(statement))


def save_one_fenced(table: Table, place: Place) -> Executable:
    """Insert a row, or replace one whose owner, if it has to have one, is the row's."""
    values = parameters(fenced_columns(table, place))
    new = {name: values[name] for name in saved_columns(table, place)}
    statement = sqlite.insert(table).values({**new, **place, **new_lease(values)})
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_=replaced_under_lease(statement, table, place),
        where=is_owners(statement, table),
    )


def let_pass(table: Table, asked: FromClause) -> Executable:
    """The ids of the rows that may be written, within a transaction that nobody else writes beside.

    Args:
        table: Where to insert.
        asked: Rows of `ASKED`.
    """
    new, own, previous = asked.c, table.alias("own"), table.alias("previous")
    return (
        select(new.checkpoint_id)
        .select_from(
            asked.outerjoin(own, own.c.checkpoint_id == new.checkpoint_id).outerjoin(
                previous, previous.c.checkpoint_id == new.follows
            )
        )
        .where(
            is_own(new, own),
            or_(new.follows.is_(None), is_repetition(own, previous), may_be_followed(new.owner, previous)),
        )
    )


def follow_one(table: Table) -> Executable:
    """Make history of what one row follows, if it may be followed by that."""
    owner = bindparam("owner", type_=Text)
    is_it = table.c.checkpoint_id == bindparam("follows", type_=Text)
    return update(table).where(is_it, may_be_followed(owner, table)).values(to_history())


def follow(table: Table, is_followed: ColumnElement[bool]) -> Executable:
    """Make history of what is followed."""
    return update(table).where(is_followed, table.c.superseded == false()).values(to_history())


class Fences:
    """What is asked of the database before fenced rows are written, and how they are.

    Args:
        saving: What the dialect's saving statements compile to.
    """

    def __init__(self, saving: Mapping[str, Compiled]) -> None:
        given = fenced_names(saving["one"].names)
        self.inserting, names = saving["one_fenced"]
        self.ordered: Callable[[Row], Row] = operator.itemgetter(*map(given.index, names))
        self._let_pass = saving["let_pass"].sql
        self._follow = saving["follow"].sql
        self.following_one, names = saving["follow_one"]
        self.order_following_one: Callable[[Row], Row] = operator.itemgetter(*map(given.index, names))

    def asking(self, rows: Sequence[Row]) -> tuple[str, Row]:
        """The query of the ids that are let pass."""
        return self._let_pass, (json.dumps([fenced(row)[: len(ASKED)] for row in rows]),)

    def passing(self, rows: Sequence[Row], names: Collection[str]) -> Sequence[FencedRow]:
        """The rows with these ids."""
        return [fenced(row) for row in rows if row[0] in names]

    def following(self, rows: Sequence[FencedRow]) -> tuple[str, Row]:
        """The statement that makes history of what rows follow."""
        return self._follow, (json.dumps([row[1] for row in rows if row[1] is not None]),)


class SavingRows:
    """Saves rows over a connection; called in the connection's thread.

    Few statements, however many rows there are: each needs Python's lock, and so gets on badly with a busy event loop.

    Args:
        saving: What the dialect's saving statements compile to.
    """

    def __init__(self, saving: Mapping[str, Compiled]) -> None:
        self._fences = Fences(saving)
        self._plain = _Inserting(saving["one"].sql)
        self._fenced = _Inserting(self._fences.inserting)

    def __call__(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> Collection[str]:
        """Save some rows; the ids of those that were written. See `HeldConnection.save`."""
        if are_fenced(rows):
            is_done = len(rows) == 1 and self._save_one_fenced(connection, rows[0])
            return {rows[0][0]} if is_done else self._save_fenced(connection, rows)
        written = self._plain.insert(connection, rows)
        if not written and len(rows) == 1:
            return ()
        require_all(written, rows)
        return {row[0] for row in rows}

    def _save_one_fenced(self, connection: sqlite3.Connection, row: Row) -> bool:
        """Save a row if it is let pass and is no repetition, which is so nearly always; the other way takes longer."""
        fences = self._fences
        _, follows, *_ = row
        connection.execute("BEGIN IMMEDIATE")
        try:
            is_let_pass = (
                follows is None or connection.execute(fences.following_one, fences.order_following_one(row)).rowcount
            )
            if is_let_pass and self._fenced.insert_one(connection, fences.ordered(row)):
                connection.execute("COMMIT")
                return True
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return False

    def _save_fenced(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> Collection[str]:
        fences = self._fences
        with _transaction(connection):
            names = {name for (name,) in connection.execute(*fences.asking(rows)).fetchall()}
            passing = fences.passing(rows, names)
            if passing:
                connection.execute(*fences.following(passing))
                written = self._fenced.insert_within(connection, [fences.ordered(row) for row in passing])
                require_all(written, passing)
        return names


class _Inserting:
    """Inserts any number of rows by a statement of one.

    A row alone is inserted first, and replaced only where its id is there. For a statement that may do either, SQLite
    keeps a journal of its own, since a foreign key's columns may change: a fifth of the time that inserting takes. Not
    where the table has triggers when its first row is inserted here: one that runs before would run twice.

    Args:
        sql: Inserts a row: `INSERT … VALUES (…)`, perhaps with `ON CONFLICT …`.
    """

    def __init__(self, sql: str) -> None:
        self._sql = sql
        new, replaces, _ = sql.partition(" DO UPDATE ")
        self._only_new = f"{new} DO NOTHING" if replaces else None
        self._has_looked = False
        self._before, values, rest = sql.partition(" VALUES ")
        self._row, conflict, self._after = rest.partition(" ON CONFLICT ")
        if not values:
            raise AssertionError("the saving statement has no VALUES")
        self._before, self._after = self._before + values, conflict + self._after

    def insert(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """Insert all or none in a transaction of their own; returns how many there are then."""
        if _fit_together(rows):
            return self.insert_within(connection, rows)
        with _transaction(connection):
            return self.insert_within(connection, rows)

    def insert_within(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """The same in a transaction that has begun, or by one statement, which commits by itself."""
        if len(rows) == 1:
            return self.insert_one(connection, rows[0])
        if not _fit_together(rows):
            return connection.executemany(self._sql, rows).rowcount
        sql = f"{self._before}{', '.join([self._row] * len(rows))}{self._after}"
        return connection.execute(sql, tuple(itertools.chain.from_iterable(rows))).rowcount

    def insert_one(self, connection: sqlite3.Connection, row: Row) -> int:
        """The same of one row."""
        if not self._has_looked:
            if self._only_new is not None and connection.execute(_TRIGGERS).fetchall():
                self._only_new = None
            self._has_looked = True
        if self._only_new is not None and (written := connection.execute(self._only_new, row).rowcount):
            return written
        return connection.execute(self._sql, row).rowcount


def put_rows(connection: sqlite3.Connection, sql: str, rows: Sequence[Row]) -> int:
    """Insert rows by a statement of `putting`, all or none; returns how many there are then."""
    return _Inserting(sql).insert(connection, rows)


def _fit_together(rows: Sequence[Row]) -> bool:
    return len(rows) == 1 or sum(len(row[-1]) for row in rows) <= _TOGETHER_BYTES


def require_all(written: int, rows: Sequence[Row]) -> None:
    """Fail if some rows were dropped, by a trigger perhaps. Which ones is found when each is saved alone."""
    if written != len(rows):
        raise RowsDroppedError("not all rows were written; do triggers of the checkpoints table drop rows?")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that nobody else writes beside; all of it is done, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
