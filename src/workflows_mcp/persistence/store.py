"""The checkpoint store over SQLite and PostgreSQL."""

import asyncio
import functools
import math
import operator
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from workflows_mcp.engine.census import CheckpointCensus, CheckpointPulse
from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStats
from workflows_mcp.engine.checkpoint_store import CheckpointStore, InMemoryCheckpointStore, OnDamaged, columns_of
from workflows_mcp.engine.filters import (
    CheckpointFilter,
    Position,
    check_age,
    check_columns,
    check_count,
    check_flag,
    check_name,
    position_of,
)
from workflows_mcp.engine.leases import (
    Fence,
    already_claimed,
    check_fence,
    check_lease,
    lease_lost,
    not_found,
)
from workflows_mcp.engine.observing import StoreActivity, StoreObserver
from workflows_mcp.engine.state_json import damaged, encode_state
from workflows_mcp.errors import CheckpointDecodeError, CheckpointStoreError
from workflows_mcp.persistence import lease_statements, retention_statements, statements
from workflows_mcp.persistence.census import read_census, read_pulse
from workflows_mcp.persistence.codec import decode_payload, pack
from workflows_mcp.persistence.database import Database
from workflows_mcp.persistence.dialects import Row, fenced
from workflows_mcp.persistence.renewals import Renewals
from workflows_mcp.persistence.retention_statements import Doomed
from workflows_mcp.persistence.rows import first_within, is_odd, metadata_of, position_in, shown_text
from workflows_mcp.persistence.schema import check_schema
from workflows_mcp.persistence.statements import Query
from workflows_mcp.persistence.waiting import Draft
from workflows_mcp.settings import MEMORY_URL, Settings, load_settings

__all__ = ["SQLAlchemyCheckpointStore", "create_checkpoint_store"]

_DELETE_BYTES = 4 * 2**20
"""About the most payload that goes with one deletion; one row alone may have more."""

_ITER_PAGE = 500
_ITER_BYTES = 8 * 2**20
"""What `iter_checkpoints` holds at a time: metadata of so many rows, and about so many bytes of payload."""

_VALUES = operator.itemgetter(*statements.SAVED)


class SQLAlchemyCheckpointStore(CheckpointStore):
    """Keeps checkpoints in a SQLite or PostgreSQL database.

    The schema must be there: create or upgrade it with `workflows-mcp db upgrade`, `alembic upgrade head` or
    `await upgrade_schema(url)`. The first call checks it, once.

    Args:
        url_or_engine: A SQLite file's path, as a text or as a `Path`, a `sqlite:///` or `postgresql://` URL, or an
            `AsyncEngine` of yours, which the store neither configures nor disposes.
        settings: Read from the environment when None; its URL is not used.

    Raises:
        StoreConfigurationError: The URL names no database that is supported.
    """

    def __init__(
        self, url_or_engine: str | os.PathLike[str] | AsyncEngine, *, settings: Settings | None = None
    ) -> None:
        self._database = database = Database(url_or_engine, settings, check=check_schema)
        self.system = database.dialect.system
        self._renewals = Renewals(
            database.fetch_changed,
            lease_statements.renewing(database.dialect, waits=False),
            lease_statements.renewing(database.dialect, waits=True),
            deadline_seconds=database.settings.deadline_seconds,
            spawn=database.calls.start,
        )
        self._remove_range = retention_statements.removing(database.dialect)

    async def save_checkpoint(
        self,
        state: CheckpointState,
        *,
        follows: str | None = None,
        owner: str | None = None,
        lease_seconds: float | None = None,
        max_bytes: int | None = None,
    ) -> str:
        """See `CheckpointStore.save_checkpoint`. Durable: committed to disk by the database's own rules."""
        check_columns(state)
        fence = check_fence(state.checkpoint_id, follows=follows, owner=owner, lease_seconds=lease_seconds)
        await self._database.save(lambda: _draft(state, max_bytes, fence))
        return state.checkpoint_id

    async def load_checkpoint(self, checkpoint_id: str) -> CheckpointState | None:
        """See `CheckpointStore.load_checkpoint`."""
        row = await self._database.load(check_name("checkpoint_id", checkpoint_id))
        return None if row is None else _state(row)

    async def claim_checkpoint(self, checkpoint_id: str, owner: str, lease_seconds: float = 30) -> CheckpointState:
        """See `CheckpointStore.claim_checkpoint`. A caller who is cancelled lets go of what may have been claimed."""
        check_name("checkpoint_id", checkpoint_id)
        seconds = check_lease(owner, lease_seconds)

        return await self._database.in_time(self._claim(checkpoint_id, owner, seconds))

    async def _claim(self, checkpoint_id: str, owner: str, seconds: float) -> CheckpointState:
        def claim(is_repeated: bool) -> Query:  # noqa: FBT001 - as `fetch_changed` has it
            return lease_statements.claim(checkpoint_id, owner, seconds, is_repeated=is_repeated)

        database = self._database
        own = (checkpoint_id,)
        # What to go back to if it turns out to be damaged: claiming it does not tell what was there before.
        before = await database.fetch(lease_statements.holder(checkpoint_id))
        try:
            rows = await database.fetch_changed(claim, keys=own)
        except asyncio.CancelledError:
            database.calls.start_quietly(database.change(lease_statements.release(checkpoint_id, owner), keys=own))
            raise
        if not rows:
            found = await database.fetch(lease_statements.holder(checkpoint_id))
            if not found:
                raise not_found(checkpoint_id)
            [[is_superseded, ends, _]] = found
            raise already_claimed(checkpoint_id, is_superseded=is_superseded, lease_expires_at=ends)
        try:
            return _state(rows[0])
        except CheckpointDecodeError:
            _, ended_at, owner_before = before[0] if before else (None, None, None)
            undo = lease_statements.undo_claim(checkpoint_id, owner, ended_at=ended_at, before=owner_before)
            with suppress(CheckpointStoreError):  # the damage is what the caller must hear of
                await database.change(undo, keys=own)
            raise

    async def renew_lease(self, checkpoint_id: str, owner: str, lease_seconds: float = 30) -> None:
        """See `CheckpointStore.renew_lease`. Those that are asked for at once are one commit.

        What somebody else has locked holds up no other one.
        """
        check_name("checkpoint_id", checkpoint_id)
        self._database.refuse_misuse()  # before it waits for others, of another event loop perhaps
        if not await self._renewals.renew(checkpoint_id, owner, check_lease(owner, lease_seconds)):
            raise lease_lost(checkpoint_id)

    async def release_claim(self, checkpoint_id: str, owner: str) -> None:
        """See `CheckpointStore.release_claim`."""
        query = lease_statements.release(check_name("checkpoint_id", checkpoint_id), check_name("owner", owner))
        if not await self._database.change(query, keys=(checkpoint_id,)):
            raise lease_lost(checkpoint_id)

    async def list_abandoned(self, limit: int | None = None) -> list[CheckpointMetadata]:
        """See `CheckpointStore.list_abandoned`."""
        if limit is not None:
            check_count("limit", limit, at_least=0)
        query = lease_statements.abandoned(limit)
        is_brief = limit is not None and limit <= _ITER_PAGE
        rows = await (self._database.fetch(query) if is_brief else self._database.fetch_long(query))
        return [metadata_of(row) for row in rows]

    async def pin_checkpoint(self, checkpoint_id: str, pinned: bool = True) -> bool:  # noqa: FBT001, FBT002 - as the contract has it
        """See `CheckpointStore.pin_checkpoint`."""
        query = lease_statements.pin(check_name("checkpoint_id", checkpoint_id), pinned=check_flag("pinned", pinned))
        return await self._database.change(query, keys=(checkpoint_id,)) > 0

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """See `CheckpointStore.delete_checkpoint`.

        When the connection was lost during the call, and it was repeated, it may have been this very call that deleted
        what is then found to be absent. The same goes for the numbers that `delete_run`, `cleanup_expired` and
        `trim_per_workflow` return.
        """
        statement = statements.remove(check_name("checkpoint_id", checkpoint_id))
        return await self._database.change(statement, keys=(checkpoint_id,)) > 0

    async def delete_run(self, run_id: str) -> int:
        """See `CheckpointStore.delete_run`. Goes in batches, each with a deadline of its own."""
        check_name("run_id", run_id)
        database = self._database
        total, pace = 0, _Pace()
        for heads_only in (True, False):
            while rows := await database.fetch(
                retention_statements.newest_of_run(run_id, heads_only=heads_only, limit=pace.rows)
            ):
                rows = first_within(rows, _DELETE_BYTES)
                last, ids = position_in(rows[-1]), [checkpoint_id for _, checkpoint_id, *_ in rows]
                with pace.measure():
                    total += await database.change(
                        retention_statements.remove_newest_of_run(run_id, last, heads_only=heads_only),
                        keys=ids,
                    )
                await asyncio.sleep(database.dialect.seconds_between_deletions)
        return total

    async def cleanup_expired(self, max_age_seconds: float, *, keep_paused: bool = True) -> int:
        """See `CheckpointStore.cleanup_expired`. Goes in batches, each with a deadline of its own.

        What somebody else has locked is not waited for: it is left for the next call.
        """
        age = check_age(max_age_seconds)
        expired = retention_statements.expired(time.time() - age, age, keep_paused=keep_paused)
        return await self._remove(expired, _Pace())

    async def trim_per_workflow(self, max_per_workflow: int, *, keep_paused: bool = True) -> int:
        """See `CheckpointStore.trim_per_workflow`. Goes in batches, each with a deadline of its own.

        What somebody else has locked is not waited for: it is left for the next call.
        """
        check_count("max_per_workflow", max_per_workflow, at_least=1)
        database = self._database
        total, pace = 0, _Pace()
        rows = await database.fetch(retention_statements.next_workflow(None))
        while rows:
            [[name]] = rows
            if not isinstance(name, str):
                break  # bytes, which no store has written, and SQLite sorts behind all text
            last_kept = await database.fetch(retention_statements.slot(name, max_per_workflow, keep_paused=keep_paused))
            if last_kept:
                place = position_in(last_kept[0])
                superfluous = retention_statements.superfluous(name, place, keep_paused=keep_paused)
                total += await self._remove(superfluous, pace)
            rows = await database.fetch(retention_statements.next_workflow(name))
        return total

    async def get_stats(self) -> CheckpointStats:
        """See `CheckpointStore.get_stats`. `database_bytes` counts the table and its indexes, or the whole file."""
        database = self._database

        async def work(connection: AsyncConnection) -> tuple[Sequence[Any], int]:
            counts = (await connection.execute(statements.stats().statement)).all()
            return counts, (await connection.execute(database.dialect.database_bytes())).scalar_one()

        rows, size = await database.run(work)
        [everything] = (row for row in rows if row.workflow_name is None)
        workflows = {shown_text(row.workflow_name): row.total for row in rows if row.workflow_name is not None}
        return CheckpointStats(
            total_checkpoints=everything.total,
            paused_checkpoints=everything.paused,
            automatic_checkpoints=everything.total - everything.paused,
            workflows=dict(sorted(workflows.items())),
            oldest_checkpoint=everything.oldest,
            newest_checkpoint=everything.newest,
            full_bytes=_whole(everything.full_bytes),
            stored_bytes=_whole(everything.stored_bytes),
            database_bytes=size,
        )

    async def take_pulse(self) -> CheckpointPulse:
        """See `CheckpointStore.take_pulse`."""
        database = self._database
        return await database.run(lambda connection: read_pulse(connection, database.dialect))

    async def take_census(self) -> CheckpointCensus:
        """See `CheckpointStore.take_census`."""
        database = self._database
        return await database.run_patiently(lambda connection: read_census(connection, database.dialect))

    async def vacuum(self) -> None:
        """See `CheckpointStore.vacuum`."""
        database = self._database

        async def work(connection: AsyncConnection) -> None:
            for statement in database.dialect.vacuum_statements():
                await connection.exec_driver_sql(statement)

        await database.run_patiently(work)

    async def close(self) -> None:
        """See `CheckpointStore.close`. An engine that was passed in is left open."""
        await self._database.close()

    def observe(self, observer: StoreObserver) -> None:
        """See `CheckpointStore.observe`."""
        super().observe(observer)
        self._database.audience.observers = self.observers

    def unobserve(self, observer: StoreObserver) -> None:
        """See `CheckpointStore.unobserve`."""
        super().unobserve(observer)
        self._database.audience.observers = self.observers

    def activity(self) -> StoreActivity:
        """See `CheckpointStore.activity`."""
        return self._database.activity()

    async def _list(
        self, wanted: CheckpointFilter, *, limit: int | None, before: Position | None
    ) -> list[CheckpointMetadata]:
        query = statements.listing(wanted, limit=limit, before=before)
        is_brief = limit is not None and limit <= _ITER_PAGE and statements.is_indexed(wanted)
        rows = await (self._database.fetch(query) if is_brief else self._database.fetch_long(query))
        return [metadata_of(row) for row in rows]

    async def _iterate(self, wanted: CheckpointFilter, on_damaged: OnDamaged | None) -> AsyncIterator[CheckpointState]:
        """Holds no connection between two pages, and the payloads of a part of a page at a time."""
        last: Position | None = None
        while True:
            page = await self._list(wanted, limit=_ITER_PAGE, before=last)
            for chunk in _chunks(page):
                rows = await self._payloads_of(chunk)
                for metadata in chunk:
                    if metadata.checkpoint_id not in rows and not is_odd(metadata.checkpoint_id):
                        continue
                    try:
                        state = _state(rows.get(metadata.checkpoint_id) or _not_found(metadata))
                    except CheckpointDecodeError as error:
                        if on_damaged is None:
                            raise
                        on_damaged(metadata, error)
                    else:
                        yield state
            if len(page) < _ITER_PAGE:
                return
            last = position_of(page[-1])

    async def _payloads_of(self, listed: Sequence[CheckpointMetadata]) -> dict[str, Sequence[Any]]:
        """What loading some checkpoints needs, by their ids, as far as it is found."""
        wanted = [one.checkpoint_id for one in listed]
        odd = [one for one in wanted if is_odd(one)]
        rows = (
            [*await self._database.load_many([one for one in wanted if one not in odd])]
            if len(odd) < len(wanted)
            else []
        )
        for one in odd:
            rows += await self._database.fetch_long(statements.odd_payload(one))
        return {row[0]: row for row in rows}

    async def _remove(self, doomed: Doomed, pace: "_Pace") -> int:
        """Delete what meets a condition, batch by batch, so that saves get their turn in between.

        Each batch begins behind the one before, so that nothing that was left there is met again.
        """
        database = self._database
        total = 0
        last: Position | None = None
        while rows := await database.fetch(retention_statements.oldest(doomed, after=last, limit=pace.rows)):
            rows = first_within(rows, _DELETE_BYTES)
            first, before, last = position_in(rows[0]), last, position_in(rows[-1])
            if last == before:
                break  # an id that is no text, which no store has written, is not behind itself
            with pace.measure():
                # About none that anybody has in mind: a save that waits for a lock may come before or after.
                total += await database.change(self._remove_range(doomed, first, last), keys=())
            await asyncio.sleep(database.dialect.seconds_between_deletions)
        return total


class _Pace:
    """How many rows one deletion takes: as many as it can within a time that a save does not mind to wait.

    Rows that lie far apart, in a table larger than the memory, take many times longer than neighbours do.
    """

    fewest, most = 50, 500
    shortest, longest = 0.03, 0.08

    def __init__(self) -> None:
        self.rows = 100

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Time a deletion, and adapt."""
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        if seconds > self.longest:
            self.rows = max(self.rows // 2, self.fewest)
        elif seconds < self.shortest:
            self.rows = min(self.rows * 2, self.most)


def create_checkpoint_store(
    url: str | os.PathLike[str] | None = None, *, settings: Settings | None = None
) -> CheckpointStore:
    """The store of a URL, or the one that the settings name.

    Args:
        url: A SQLite file's path, as a text or as a `Path`, a `sqlite:///`, `postgresql://` or `memory://` URL; None:
            as the settings say.
        settings: Read from the environment when None.

    Raises:
        StoreConfigurationError: The URL names no database that is supported, or a setting is wrong.
    """
    settings = settings if settings is not None else load_settings()
    url = url if url is not None else settings.url
    return InMemoryCheckpointStore() if url == MEMORY_URL else SQLAlchemyCheckpointStore(url, settings=settings)


def _draft(state: CheckpointState, max_bytes: int | None, fence: Fence | None) -> Draft:
    """A row that lacks its payload yet; nothing of it refers to the state any more."""
    plain = encode_state(state, max_bytes=max_bytes)
    columns = {**columns_of(state), "status": state.status._value_}
    return Draft(state.checkpoint_id, len(plain), functools.partial(_row, columns, plain, fence), fence)


def _row(columns: dict[str, Any], plain: bytes, fence: Fence | None) -> Row:
    """The values of `statements.SAVED`, and what is asked for besides."""
    encoding, data, full_bytes = pack(plain)
    columns.update(full_bytes=full_bytes, stored_bytes=len(data), encoding=encoding, payload=data)
    row: Row = _VALUES(columns)
    return row if fence is None else fenced(row, fence)


def _state(row: Sequence[Any]) -> CheckpointState:
    checkpoint_id, workflow_name, created_at, encoding, payload = row
    if type(created_at) is int:
        created_at = float(created_at)  # SQLite's RETURNING gives a REAL that is a whole number as an INTEGER
    return decode_payload(
        encoding, payload, checkpoint_id=checkpoint_id, workflow_name=workflow_name, created_at=created_at
    )


def _not_found(metadata: CheckpointMetadata) -> Sequence[Any]:
    raise damaged(shown_text(metadata.checkpoint_id), "its id is no text, so that it cannot be loaded by it")


def _whole(size: float) -> int:
    """A sum of sizes, whatever they were."""
    return int(size) if math.isfinite(size) else 0


def _chunks(page: list[CheckpointMetadata]) -> Iterator[list[CheckpointMetadata]]:
    """A page in parts whose payloads fit into memory together; one alone may be larger."""
    chunk: list[CheckpointMetadata] = []
    size = 0
    for metadata in page:
        if chunk and size + metadata.full_bytes > _ITER_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(metadata)
        size += max(metadata.full_bytes, 0)
    if chunk:
        yield chunk
