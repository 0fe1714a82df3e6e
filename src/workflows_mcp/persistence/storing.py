"""Reading checkpoints with their places, and writing them so, in bulk."""

import functools
import math
import operator
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Executable, Integer, Text, and_, case, false, func, not_, or_, true, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from workflows_mcp.engine.contract import columns_of
from workflows_mcp.engine.filters import CheckpointFilter, Position
from workflows_mcp.engine.stored import (
    OnConflict,
    OnUnreadable,
    StoredCheckpoint,
    Writing,
    by_now,
    check_batch,
    judge,
)
from workflows_mcp.errors import CheckpointDecodeError, CheckpointKeyError, CheckpointStoreError, StoreUnavailableError
from workflows_mcp.persistence import listing_statements
from workflows_mcp.persistence.arrivals import Arrivals
from workflows_mcp.persistence.database import Database
from workflows_mcp.persistence.deletions import make_whole
from workflows_mcp.persistence.deltas import Plains
from workflows_mcp.persistence.dialects import BrokenBaseError, Dialect, Row, RowsThereError
from workflows_mcp.persistence.dialects.types import time_now
from workflows_mcp.persistence.row_codec import RowCodec
from workflows_mcp.persistence.row_seal import changed
from workflows_mcp.persistence.rows import first_within, is_odd, position_in, shown_text
from workflows_mcp.persistence.statements import PLACED, TABLE, Query

__all__ = ["Storing"]

_PAGE_ROWS = 500
_PAGE_BYTES = 2 * 2**20
"""What is read at a time: so many rows, and about so many bytes of plain JSON; one row alone may have more."""

_LARGE = 256 * 2**10
"""From so many bytes on, rows are made in a thread."""

_MOST_ATTEMPTS = 20
"""How often a batch that meets what others save at the same time is looked at anew."""

_SIZES = ("created_at", "checkpoint_id", "full_bytes")
_READ = tuple(column.name for column in PLACED.columns)
_PLACE = slice(_READ.index("is_paused"), _READ.index("lease_expires_at") + 1)

_WRITTEN = {column.name: column.type for column in TABLE.c if column.name != "lease_owner"}
_VALUES = operator.itemgetter(*_WRITTEN)


class Storing:
    """Reads and writes stored checkpoints.

    Args:
        database: Where they are.
        codec: Makes states of rows, and rows of states.
    """

    def __init__(self, database: Database, codec: RowCodec) -> None:
        self._database = database
        self._codec = codec
        self._arrivals = self._no_arrivals()
        self._meets_others = False

    def _no_arrivals(self) -> Arrivals:
        return Arrivals(round(self._database.settings.delta_cache_mb * 2**20))

    # Built when they are needed: most stores never import.

    @functools.cached_property
    def _inserting(self) -> Executable:
        return self._database.dialect.putting(TABLE, _WRITTEN, None)

    @functools.cached_property
    def _replacing(self) -> Executable:
        return self._database.dialect.putting(TABLE, _WRITTEN, _replaced)

    @functools.cached_property
    def _superseding(self) -> Executable:
        return _superseding(self._database.dialect)

    async def iterate(
        self, wanted: CheckpointFilter, on_unreadable: OnUnreadable | None
    ) -> AsyncIterator[StoredCheckpoint]:
        """See `CheckpointStore.iter_stored`. Holds no connection between two pages."""
        database, plains = self._database, Plains()
        last: Position | None = None
        while sizes := await self._list(wanted, last, _PAGE_ROWS, _SIZES):
            while sizes:
                part = first_within(sizes, _PAGE_BYTES)
                sizes = sizes[len(part) :]
                rows = await self._list(wanted, last, len(part), _READ)
                for row in await database.chains.complete(rows, database.fetch_long, plains, loading=PLACED):
                    stored = self._stored(row, on_unreadable)
                    if stored is not None:
                        yield stored
                before, last = last, _place_in(rows[-1]) if rows else None
                if last is None or last == before:
                    return  # there are no more, or none that a listing can tell apart
                if last != position_in(part[-1]):
                    break  # somebody has saved or deleted some meanwhile, so that the sizes are not theirs

    async def _list(
        self, wanted: CheckpointFilter, before: Position | None, limit: int, columns: Sequence[str]
    ) -> Sequence[Sequence[Any]]:
        query = listing_statements.listing(wanted, limit=limit, before=before, columns=columns)
        return await self._database.fetch_long(query)

    def _stored(
        self, row: Sequence[Any], on_unreadable: OnUnreadable | None, known: StoredCheckpoint | None = None
    ) -> StoredCheckpoint | None:
        """The checkpoint of a row; None: it cannot be read."""
        try:
            return self._checked(row, known)
        except CheckpointKeyError:
            raise  # it is not damaged, and nobody may take it for that
        except CheckpointDecodeError as error:
            if on_unreadable is None:
                raise
            on_unreadable(shown_text(row[0]), error)
            return None

    def _checked(self, row: Sequence[Any], known: StoredCheckpoint | None) -> StoredCheckpoint:
        """The checkpoint of a row whose columns say what its payload says.

        Listings, runs and retention go by the columns, which something else may have changed.
        """
        is_paused, pinned, superseded, ended = row[_PLACE]
        # SQLite holds any type in any column.
        has_ended = type(ended) is float and math.isfinite(ended)
        place = (bool(pinned), bool(superseded), by_now(ended if has_ended else None))
        is_known = known is not None and self._has_plain(row, known.plain)
        stored = known.moved(*place) if known and is_known else StoredCheckpoint(self._codec.state(row), *place)
        self._codec.require_same(row, stored.state)
        if bool(is_paused) is not stored.is_waiting:
            raise changed(stored.checkpoint_id, "is_paused")
        return stored

    def _has_plain(self, row: Sequence[Any], plain: bytes) -> bool:
        try:
            return self._codec.plain(row) == plain
        except CheckpointDecodeError:  # or of another encoding; decoding it tells
            return False

    async def load(
        self,
        checkpoint_ids: Collection[str],
        on_unreadable: OnUnreadable | None,
        known: Iterable[StoredCheckpoint] = (),
    ) -> dict[str, StoredCheckpoint]:
        """See `CheckpointStore.load_stored`."""
        known_by_id = {one.checkpoint_id: one for one in known}
        rows = await self._load(checkpoint_ids)
        found = (self._stored(row, on_unreadable, known_by_id.get(row[0])) for row in rows)
        return {one.checkpoint_id: one for one in found if one is not None}

    async def _load(self, checkpoint_ids: Collection[str]) -> Sequence[Sequence[Any]]:
        """The rows with some ids, in no order; all within one deadline."""
        wanted = [one for one in checkpoint_ids if not is_odd(one)]
        return await self._database.load_many(wanted, Plains(), loading=PLACED) if wanted else ()

    async def count(self, wanted: CheckpointFilter) -> int | None:
        """See `CheckpointStore.count_stored`."""
        try:
            [[count]] = await self._database.fetch_long(listing_statements.counting(wanted))
        except StoreUnavailableError:
            return None
        return int(count)

    async def write(self, checkpoints: Sequence[StoredCheckpoint], on_conflict: OnConflict) -> dict[str, Writing]:
        """See `CheckpointStore.write_stored`. What is new is inserted, or nothing is, if one of them is not new.

        So it is the database that decides whether something is there, also when somebody saves it at that moment. It is
        looked at beforehand only where it was so the last time: most imports are into an empty table.
        """
        check_batch(checkpoints, on_conflict)
        # What is in them is durable, or they are forgotten: they are nobody else's meanwhile.
        arrivals, self._arrivals = self._arrivals, self._no_arrivals()
        if not checkpoints:
            return {}  # nothing goes on from the batch before
        arrivals.begin(checkpoints)
        there = await self._look(checkpoints) if self._meets_others else {}
        for attempt in range(_MOST_ATTEMPTS):
            verdicts = judge(checkpoints, {name: one.stored for name, one in there.items()}, on_conflict)
            chosen = [one for one in checkpoints if verdicts[one.checkpoint_id] in {Writing.WRITTEN, Writing.REPLACED}]
            replaces = Writing.REPLACED in verdicts.values()
            may_be_deltas = not attempt and not replaces  # which take no row's place
            try:
                await self._put(
                    self._replacing if replaces else self._inserting, chosen, arrivals if may_be_deltas else None
                )
            except RowsThereError:
                there = await self._look(checkpoints)
                continue
            except BrokenBaseError:
                await make_whole(self._database, [one.checkpoint_id for one in chosen], lets_go=True)
                continue
            self._meets_others = bool(there)
            if may_be_deltas:
                self._arrivals = arrivals
            present = [one for one in checkpoints if verdicts[one.checkpoint_id] is Writing.PRESENT]
            held = await self._supersede(present, there)
            return {**verdicts, **dict.fromkeys(held, Writing.HELD)}
        raise StoreUnavailableError(
            f"others save the same checkpoints in {self._database.description} all the time; try again"
        )

    async def _put(
        self, statement: Executable, checkpoints: Sequence[StoredCheckpoint], arrivals: Arrivals | None
    ) -> None:
        if not checkpoints:
            return
        is_large = sum(len(one.plain) for one in checkpoints) >= _LARGE
        make = functools.partial(self._rows, checkpoints, arrivals)
        rows = await self._database.threads.run(make) if is_large else make()
        written = await self._database.put(statement, rows, keys=[one.checkpoint_id for one in checkpoints])
        if written != len(rows):
            raise CheckpointStoreError(
                f"{self._database.description} wrote {written} of {len(rows)} checkpoints, and said nothing; does "
                "its checkpoints table have a trigger or a rule that drops rows?"
            )

    def _rows(self, checkpoints: Sequence[StoredCheckpoint], arrivals: Arrivals | None) -> list[Row]:
        return [self._row(one, arrivals) for one in checkpoints]

    def _row(self, stored: StoredCheckpoint, arrivals: Arrivals | None) -> Row:
        step = None if arrivals is None else arrivals.step(stored.state)
        columns = {
            **columns_of(stored.state),
            "status": str(stored.state.status),
            "is_paused": stored.is_waiting,
        }
        filled = self._codec.filled(columns, stored.plain, step)
        if arrivals is not None and step is not None:
            arrivals.made(stored.state, step)
        place = {
            "pinned": stored.pinned,
            "superseded": stored.superseded,
            "lease_expires_at": by_now(stored.lease_ended_at),
        }
        row: Row = _VALUES({**filled, **place})
        return row

    async def _look(self, checkpoints: Sequence[StoredCheckpoint]) -> dict[str, "_There"]:
        """What bears the ids of some."""
        known = {one.checkpoint_id: one for one in checkpoints}
        rows = await self._load(list(known))
        return {row[0]: _There(self._stored(row, _ignore, known[row[0]]), _beginning(row[-1])) for row in rows}

    async def _supersede(self, present: Sequence[StoredCheckpoint], there: Mapping[str, "_There"]) -> Sequence[str]:
        """Make history of what is history elsewhere, unless it was changed since it was looked at, or has an owner.

        Returns:
            The ids of those that stayed heads.
        """
        later = [one for one in present if one.superseded and there[one.checkpoint_id].is_head]
        if not later:
            return ()
        rows = [(one.checkpoint_id, len(one.plain), there[one.checkpoint_id].beginning) for one in later]
        values = self._database.dialect.rows_value(list(_SUPERSEDED), rows)
        made = await self._database.change(Query(self._superseding, values), keys=[name for name, *_ in rows])
        if made == len(rows):
            return ()
        return [name for name, one in (await self._look(later)).items() if one.is_head]

    async def identity(self) -> object:
        """See `CheckpointStore.identity`."""

        async def work(connection: AsyncConnection) -> object:
            return await self._database.dialect.identity(connection)

        return await self._database.run(work)


def _place_in(row: Sequence[Any]) -> Position:
    checkpoint_id, _, created_at, *_ = row
    return created_at, checkpoint_id


def _ignore(_checkpoint_id: str, _error: CheckpointStoreError) -> None:
    """What cannot be read is seen to be so."""


class _There(NamedTuple):
    """What bears the id of a checkpoint that is to be written.

    Attributes:
        stored: The checkpoint; None: it cannot be read.
        beginning: How its payload begins.
    """

    stored: StoredCheckpoint | None
    beginning: str

    @property
    def is_head(self) -> bool:
        """Whether nothing follows it, as far as it can be read."""
        return self.stored is not None and not self.stored.superseded


_BEGINNING_BYTES = 64
"""Of a payload, so many bytes tell it from others of its size: its checksum is among them, or what a seal is salted
with, which is another one each time."""


def _beginning(payload: object) -> str:
    return payload[:_BEGINNING_BYTES].hex() if type(payload) is bytes else ""


_SUPERSEDED: Mapping[str, TypeEngine[Any]] = {"checkpoint_id": Text(), "full_bytes": Integer(), "beginning": Text()}


def _superseding(dialect: Dialect) -> Executable:
    """Makes history of heads that nobody has a lease on, if their payloads are still what they were."""
    them = dialect.rows_of(_SUPERSEDED)
    is_as_it_was = and_(
        TABLE.c.checkpoint_id == them.c.checkpoint_id,
        TABLE.c.full_bytes == them.c.full_bytes,
        dialect.beginning(TABLE.c.payload, _BEGINNING_BYTES) == them.c.beginning,
    )
    ends = TABLE.c.lease_expires_at
    is_nobodys = or_(TABLE.c.lease_owner.is_(None), ends.is_(None), ends <= time_now())
    is_head = TABLE.c.superseded == false()
    return update(TABLE).where(is_as_it_was, is_nobodys, is_head).values(superseded=true(), is_paused=false())


def _replaced(statement: Any) -> dict[str, ColumnElement[Any]]:  # noqa: ANN401 - each database has its own INSERT
    """What is set in a row that is replaced. It keeps its lease, and what was followed here stays history."""
    new, old = statement.excluded, TABLE.c
    kept = {"checkpoint_id", "superseded", "is_paused", "lease_expires_at"}
    is_history = or_(old.superseded, new.superseded)
    return {
        **{name: new[name] for name in _WRITTEN if name not in kept},
        "superseded": is_history,
        "is_paused": and_(new.is_paused, not_(is_history)),
        "lease_expires_at": case(
            (is_history, old.lease_expires_at), else_=func.coalesce(old.lease_expires_at, new.lease_expires_at)
        ),
    }
