"""The rows that deltas need: read together with their bases, and made whole when a base is to go.

See `deltas.py` for what is a delta of what.
"""

import functools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import BigInteger, Executable, Text, bindparam, func, literal, not_, select

from workflows_mcp.errors import CheckpointDecodeError
from workflows_mcp.persistence.deltas import Base, Deltas, Fault, Linked, Plains
from workflows_mcp.persistence.dialects import Dialect
from workflows_mcp.persistence.rewriting import Rewriting
from workflows_mcp.persistence.row_codec import RowCodec
from workflows_mcp.persistence.rows import base_of, first_within, is_odd
from workflows_mcp.persistence.statements import METADATA_FIELDS, TABLE, VERIFIED, Loading, Query
from workflows_mcp.persistence.threads import Threads

__all__ = ["Chains", "Fetch", "Rewrite"]

Fetch = Callable[[Query], Awaitable[Sequence[Sequence[Any]]]]
"""All rows of a query."""

Rewrite = Callable[[Query, Collection[str]], Awaitable[Sequence[Sequence[Any]]]]
"""Runs a statement that changes rows with some ids, and returns the ids of those that it has changed."""

_MOST_ATTEMPTS = 4
"""How often rows are read anew whose bases others change at the same time."""

_LONGEST_CHAIN = 1000
"""Bases one after the other that are followed. No store has written more than a few dozen."""

_WHOLE_ROWS, _WHOLE_BYTES = 50, 4 * 2**20
"""What is made whole together: so many rows, and about so many bytes of plain JSON; one row alone may have more."""

_MISSING = "is missing"

_PLAIN_BYTES = 16 * 2**20
"""How much of what is unpacked is kept meanwhile: most have bases in common."""

_C = TABLE.c


class Chains:
    """Reads the bases of deltas, and makes deltas whole.

    Args:
        dialect: The database's.
        codec: Makes states of rows. Its `loading` is how bases are loaded.
        deltas: The states that are in memory.

    Attributes:
        rewriting: Changes how rows are stored; its statements stay compiled.
    """

    def __init__(self, dialect: Dialect, codec: RowCodec, deltas: Deltas) -> None:
        self._dialect = dialect
        self._codec = codec
        self._any_codec = codec.taking_plain()
        self._deltas = deltas
        self.rewriting = Rewriting(dialect, _WHOLE_ROWS)
        self._payloads = functools.cache(lambda loading: loading.many(dialect))

    # Built when they are needed: most stores never meet a delta that is not in memory.

    @cached_property
    def _bases(self) -> Executable:
        return self._with_bases(self._codec.loading)

    @cached_property
    def _rows(self) -> Executable:
        return self._with_bases(VERIFIED)

    def _with_bases(self, loading: Loading) -> Executable:
        """The rows with some ids, and all that they are deltas of, in one snapshot."""
        ours = select(_C.checkpoint_id, _C.base_checkpoint_id).where(
            self._dialect.matches_any(_C.checkpoint_id, "checkpoint_ids")
        )
        chain = ours.cte("chain", recursive=True)
        base = TABLE.alias("base")
        # No join: one of many chains may be made by a scan of the whole table for each of their links.
        base_of_base = select(base.c.base_checkpoint_id).where(base.c.checkpoint_id == chain.c.base_checkpoint_id)
        chain = chain.union(
            select(chain.c.base_checkpoint_id, base_of_base.scalar_subquery()).where(
                chain.c.base_checkpoint_id.is_not(None)
            )
        )
        found = select(chain.c.checkpoint_id)
        return select(*loading.columns).where(self._dialect.is_among(_C.checkpoint_id, found))

    @cached_property
    def _dependents(self) -> Executable:
        """The ids and sizes of what is a delta of one of some checkpoints, and is none of them itself."""
        is_of_one = self._dialect.matches_any(_C.base_checkpoint_id, "checkpoint_ids")
        is_one = self._dialect.matches_any(_C.checkpoint_id, "checkpoint_ids")
        found = select(_C.checkpoint_id, _C.full_bytes).where(is_of_one, not_(is_one))
        return found.limit(bindparam("limit", type_=BigInteger))

    def dependents(self, checkpoint_ids: Collection[str], most: int) -> Query:
        """The ids and sizes, so many at the most, of what is a delta of one of some checkpoints, and none of them."""
        wanted = self._dialect.any_value([one for one in checkpoint_ids if not is_odd(one)])
        return Query(self._dependents, {"checkpoint_ids": wanted, "limit": most})

    @cached_property
    def _listed(self) -> Executable:
        """What there is of the bases of a checkpoint but their payloads, the nearest first."""
        ours = select(_C.base_checkpoint_id, literal(1).label("place"))
        chain = ours.where(_C.checkpoint_id == bindparam("checkpoint_id")).cte("chain", recursive=True)
        base = TABLE.alias("base")
        chain = chain.union_all(
            select(base.c.base_checkpoint_id, chain.c.place + 1).where(
                base.c.checkpoint_id == chain.c.base_checkpoint_id, chain.c.place < _LONGEST_CHAIN
            )
        )
        listed = select(*(_C[name] for name in METADATA_FIELDS))
        return listed.where(_C.checkpoint_id == chain.c.base_checkpoint_id).order_by(chain.c.place)

    def listed(self, checkpoint_id: str) -> Query:
        """The columns of a listing of all that a checkpoint is a delta of, the nearest first."""
        return Query(self._listed, {"checkpoint_id": checkpoint_id})

    @cached_property
    def _deltas_of(self) -> Executable:
        """The rows of what is a delta of one of some checkpoints, and is none of them itself."""
        is_of_one = self._dialect.matches_any(_C.base_checkpoint_id, "checkpoint_ids")
        is_one = self._dialect.matches_any(_C.checkpoint_id, "checkpoint_ids")
        return select(*VERIFIED.columns).where(is_of_one, not_(is_one))

    def deltas_of(self, checkpoint_ids: Collection[str]) -> Query:
        """The rows of what is a delta of one of some checkpoints, and is none of them itself."""
        return Query(self._deltas_of, {"checkpoint_ids": self._dialect.any_value(checkpoint_ids)})

    @cached_property
    def _needing(self) -> Executable:
        """How many checkpoints cannot be unpacked without one, and the first of their ids."""
        wanted = bindparam("checkpoint_id", type_=Text)
        chain = select(_C.checkpoint_id).where(_C.base_checkpoint_id == wanted).cte("chain", recursive=True)
        delta = TABLE.alias("delta")
        # A union without repetitions: it ends in a circle, too, which nobody but a hand can make.
        chain = chain.union(select(delta.c.checkpoint_id).where(delta.c.base_checkpoint_id == chain.c.checkpoint_id))
        found = select(func.count(), func.min(chain.c.checkpoint_id))
        return found.where(chain.c.checkpoint_id != wanted)

    def needing(self, checkpoint_id: str) -> Query:
        """How many checkpoints cannot be unpacked without one, and the first of their ids."""
        return Query(self._needing, {"checkpoint_id": checkpoint_id})

    def payloads(self, checkpoint_ids: Collection[str], loading: Loading | None = None) -> Query:
        """The rows with some ids, in no order and not completed; see `complete`."""
        loading = loading or self._codec.loading
        if len(checkpoint_ids) == 1:
            return loading.one(*checkpoint_ids)  # PostgreSQL plans it once, and `= ANY` at every call
        return Query(self._payloads(loading), {"checkpoint_ids": self._dialect.any_value(checkpoint_ids)})

    async def complete(
        self,
        rows: Sequence[Sequence[Any]],
        fetch: Fetch,
        plains: Plains | None = None,
        *,
        loading: Loading | None = None,
    ) -> Sequence[Sequence[Any]]:
        """The same rows, each delta together with what it takes to unpack it.

        Those are read anew whose bases others have changed in between, and left out when they are gone by then.

        Args:
            rows: As `loading` loads them.
            fetch: Reads.
            plains: Keeps what is unpacked, for rows that have bases in common.
            loading: How rows are loaded; None: as the codec takes them.
        """
        for attempt in range(_MOST_ATTEMPTS):
            deltas = [row for row in rows if base_of(row) is not None and type(row) is not Linked]
            if not deltas:
                break
            wanted = self.missing(deltas)
            bases = await fetch(self.bases(wanted)) if wanted else ()
            linked = self.link(deltas, bases, plains, at_any_rate=attempt == _MOST_ATTEMPTS - 1)
            # What has an odd id cannot be looked for by it, and is linked in the end, at any rate.
            changed = [row[0] for row in deltas if row[0] not in linked and not is_odd(row[0])]
            anew = {row[0]: row for row in await fetch(self.payloads(changed, loading))} if changed else {}
            left = set(changed) - set(anew)
            rows = [linked.get(row[0], anew.get(row[0], row)) for row in rows if row[0] not in left]
        return rows

    def bases(self, checkpoint_ids: Collection[str]) -> Query:
        """The rows with some ids, and all that they are deltas of."""
        return Query(self._bases, {"checkpoint_ids": self._dialect.any_value(checkpoint_ids)})

    def missing(self, rows: Iterable[Sequence[Any]]) -> set[str]:
        """The ids of those bases of rows that are not in memory."""
        named = ((base, row[-3], row) for row in rows if (base := base_of(row)) is not None)
        return {
            base
            for base, digest, row in named
            if isinstance(base, str)  # SQLite holds any type in any column
            and self._deltas.known(row[0], row[-5]) is None
            and self._deltas.known(base, digest) is None
        }

    def link(
        self,
        rows: Iterable[Sequence[Any]],
        bases: Iterable[Sequence[Any]],
        plains: Plains | None = None,
        *,
        at_any_rate: bool = False,
    ) -> dict[str, Linked]:
        """Rows together with their bases, by their ids; those whose bases are not all there are left out.

        Args:
            rows: Deltas.
            bases: What was found of their bases.
            plains: See `complete`.
            at_any_rate: Whether such are not left out: that they cannot be unpacked will be seen.
        """
        by_id = {base[0]: base for base in bases}
        linked = (self._linked(row, by_id, plains) for row in rows)
        return {row[0]: row for row in linked if row.fault is None or at_any_rate}

    def _linked(self, row: Sequence[Any], by_id: Mapping[str, Sequence[Any]], plains: Plains | None) -> Linked:
        own = self._deltas.known(row[0], row[-5])
        if own is not None:
            return Linked(row, own=own)
        links: list[Sequence[Any]] = []
        known: Base | None = None
        base_id, digest = base_of(row), row[-3]
        while base_id is not None:
            known = self._deltas.known(base_id, digest)
            if known is not None:
                break
            link = by_id.get(base_id)
            why = _fault_of(link, digest, row, links)
            if link is None or why is not None:
                return Linked(row, fault=Fault(base_id, why or _MISSING))
            links.append(link)
            base_id, digest = base_of(link), link[-3]
        return Linked(row, known=known, links=links[::-1], plains=plains)

    async def make_whole(
        self,
        bases: Collection[str],
        fetch: Fetch,
        rewrite: Rewrite,
        threads: Threads,
        *,
        lets_go: bool = False,
    ) -> bool:
        """Store whole what is a delta of some checkpoints, and is none of them, so that these may go.

        Args:
            bases: Their ids.
            fetch: Reads.
            rewrite: Writes.
            threads: Unpack and pack.
            lets_go: Whether those go, too, that cannot be unpacked without a checkpoint that is damaged or missing.

        Returns:
            Whether nothing is left to do; if not, somebody has locked what is.

        Raises:
            CheckpointKeyError: One of them cannot be opened with the keys of this process.
            CheckpointDecodeError: One of them lacks another one, and is not let go; `link` is that one's id.
        """
        query = self.dependents(bases, _WHOLE_ROWS + 1)
        plains = Plains(_PLAIN_BYTES)
        while found := await fetch(query):
            ids = [checkpoint_id for checkpoint_id, _ in first_within(found[:_WHOLE_ROWS], _WHOLE_BYTES)]
            # All of one moment: what is missing then is missing, and was not just made whole or sealed anew.
            every = await fetch(Query(self._rows, {"checkpoint_ids": self._dialect.any_value(ids)}))
            deltas = (row for row in every if row[0] in ids and base_of(row) is not None)
            rows = self.link(deltas, every, plains, at_any_rate=True).values()
            changes = await threads.run(functools.partial(self._changes, rows, lets_go=lets_go))
            changed = await rewrite(self.rewriting.query(changes), ids) if changes else ()
            if not changed:
                return False
            if len(changed) == len(found):
                break  # those were all; of what has come since, the foreign key tells
        return True

    def _changes(self, rows: Iterable[Sequence[Any]], *, lets_go: bool) -> list[dict[str, Any]]:
        changes = []
        for row in rows:
            old = {"checkpoint_id": row[0], "old_encoding": row[-2], "old_payload": row[-1]}
            try:
                changes.append({**old, **self._any_codec.made_whole(row, lets_go=lets_go)})
            except CheckpointDecodeError as error:
                failure = error
            else:
                continue
            told = type(failure)(
                f"checkpoint {row[0]!r} is stored as a delta of one that was to be deleted or replaced, and cannot be "
                f"stored whole before: {failure}"
            )
            told.link, told.reason = failure.link, failure.reason
            raise told
        return changes


def _fault_of(
    link: Sequence[Any] | None, digest: object, row: Sequence[Any], links: Sequence[Sequence[Any]]
) -> str | None:
    """Why a link is none; None: it is one."""
    if link is None:
        return _MISSING
    if link[-5] != digest:
        return "is not the state any more that it was"
    if link[0] == row[0] or (len(links) == _LONGEST_CHAIN and any(one[0] == link[0] for one in links)):
        return "is a delta of itself by way of others"
    if len(links) == _LONGEST_CHAIN:
        return f"is one of more than {_LONGEST_CHAIN:,} that would have to be read one after the other"
    return None
