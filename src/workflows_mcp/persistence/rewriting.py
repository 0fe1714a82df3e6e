"""The statement that changes how rows are stored, and not what: only those that still hold what was read."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Column, Executable, Integer, LargeBinary, Text, bindparam, update, values
from sqlalchemy.types import TypeEngine

from workflows_mcp.persistence.dialects import Dialect
from workflows_mcp.persistence.statements import TABLE, Query

__all__ = ["Rewriting"]

_FEW = 10  # changes for which there is a smaller statement

_MOST_ROWS = 3_200
"""For more than that, a driver has no room for what is filled up."""

_CHANGED: dict[str, TypeEngine[Any]] = {
    "encoding": Text(),
    "payload": LargeBinary(),
    "stored_bytes": Integer(),
    "pause_prompt": Text(),
    "state_digest": Text(),
    "base_checkpoint_id": Text(),
    "base_digest": Text(),
}
_GIVEN: dict[str, TypeEngine[Any]] = {
    "checkpoint_id": Text(),
    "old_encoding": Text(),
    "old_payload": LargeBinary(),
    **_CHANGED,
}

_NOBODYS: Mapping[str, Any] = dict.fromkeys(_GIVEN)

_C = TABLE.c


class Rewriting:
    """Makes such statements.

    Args:
        dialect: The database's.
        most_rows: Of one statement.
    """

    def __init__(self, dialect: Dialect, most_rows: int) -> None:
        self._dialect = dialect
        self._sizes = sorted({1, min(_FEW, most_rows), most_rows})
        self._statement = cache(self._changing)

    def query(self, changes: Sequence[Mapping[str, Any]]) -> Query:
        """Change some rows, but for those that somebody else has locked or changed; returns the ids of the others.

        Args:
            changes: Of each row its id, the encoding and the payload that were read (`old_encoding`, `old_payload`),
                and what is changed as it is to be.
        """
        count = self._count(len(changes))
        filled = [*changes, *[_NOBODYS] * (count - len(changes))]
        given = {f"{name}_{number}": one[name] for number, one in enumerate(filled) for name in _GIVEN}
        return Query(self._statement(count), given)

    def _count(self, changes: int) -> int:
        """How many rows the statement for so many changes has, which is filled up with such as are nobody's.

        Compiled, each takes a megabyte or more, and is kept: there are few, however many changes there may be.
        """
        found = next((size for size in self._sizes if size >= changes), self._sizes[-1])
        while found < changes:
            found *= 2
        return found if found <= _MOST_ROWS else changes

    def _changing(self, count: int) -> Executable:
        numbered = [
            tuple(bindparam(f"{name}_{number}", type_=kind) for name, kind in _GIVEN.items()) for number in range(count)
        ]
        rows = values(*(Column(name, kind) for name, kind in _GIVEN.items()), name="given").data(numbered)
        # SQLite names the columns of such rows in this form alone.
        new = self._dialect.those_unlocked(_C.checkpoint_id, rows.cte("given"))
        return (
            update(TABLE)
            .where(
                _C.checkpoint_id == new.c.checkpoint_id,
                _C.encoding == new.c.old_encoding,
                _C.payload == new.c.old_payload,
            )
            .values({name: new.c[name] for name in _CHANGED})
            .returning(_C.checkpoint_id)
        )
