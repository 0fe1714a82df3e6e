"""The checkpoint store over SQLite and PostgreSQL."""

import asyncio
import functools
import math
import operator
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from workflows_mcp.engine.census import CheckpointCensus, CheckpointPulse
from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStats
from workflows_mcp.engine.checkpoint_store import (
    CheckpointStore,
    InMemoryCheckpointStore,
    OnDamaged,
    OnDeleted,
    columns_of,
)
from workflows_mcp.engine.filters import (
    CheckpointFilter,
    Position,
    WorkflowScope,
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
from workflows_mcp.engine.series import SavedInStep, Steps
from workflows_mcp.engine.state_json import damaged, encode_state
from workflows_mcp.engine.stored import OnConflict, OnUnreadable, StoredCheckpoint, Writing
from workflows_mcp.errors import (
    CheckpointDecodeError,
    CheckpointStoreError,
    StoreConfigurationError,
)
from workflows_mcp.persistence import deletions, lease_statements, listing_statements, statements
from workflows_mcp.persistence.census import pulse_queries, read_census, read_pulse, read_series
from workflows_mcp.persistence.database import Database
from workflows_mcp.persistence.deltas import Deltas, Plains, Step, is_large
from workflows_mcp.persistence.dialects import Password, Row, fenced
from workflows_mcp.persistence.renewals import Renewals
from workflows_mcp.persistence.retention import Retention
from workflows_mcp.persistence.row_codec import Contents, RowCodec, open_codec
from workflows_mcp.persistence.rows import is_odd, shown_text
from workflows_mcp.persistence.schema import check_schema
from workflows_mcp.persistence.seals import Seals, check_database
from workflows_mcp.persistence.statements import Query
from workflows_mcp.persistence.storing import Storing
from workflows_mcp.persistence.waiting import Draft
from workflows_mcp.settings import MEMORY_URL, Settings, load_settings

if TYPE_CHECKING:
    from workflows_mcp.persistence.rekeying import Rekeyed

__all__ = ["SQLAlchemyCheckpointStore", "create_checkpoint_store"]

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
        password: A function, or a coroutine function, that returns PostgreSQL's password: called for every new
            connection, so that the password may change meanwhile, and once more when what it said is refused. It has
            four fifths of the deadline. A coroutine function is called in the event loop of whoever calls the store,
            a plain one in a thread. It comes before the URL's and the settings'.

    Raises:
        StoreConfigurationError: The URL names no database that is supported, or the keys cannot be read.
    """

    def __init__(
        self,
        url_or_engine: str | os.PathLike[str] | AsyncEngine,
        *,
        settings: Settings | None = None,
        password: Password | None = None,
    ) -> None:
        settings = settings if settings is not None else load_settings()
        self._codec = codec = open_codec(settings)
        self._deltas = Deltas(round(settings.delta_cache_mb * 2**20))
        self._database = database = Database(
            url_or_engine,
            settings,
            password=password,
            check=functools.partial(check_database, codec=codec),
            codec=codec,
            deltas=self._deltas,
        )
        self.system = database.dialect.system
        self._renewals = Renewals(
            database.fetch_changed,
            lease_statements.renewing(database.dialect, waits=False),
            lease_statements.renewing(database.dialect, waits=True),
            deadline_seconds=database.settings.deadline_seconds,
            spawn=database.calls.start,
        )
        self._pulse = pulse_queries(database.dialect)
        self._retention = Retention(database)
        self._storing = Storing(database, codec, functools.partial(_row, fence=None, codec=codec))

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
        step = self._deltas.step(state)
        await self._database.save(lambda: _draft(state, max_bytes, fence, self._codec, step))
        self._deltas.saved(step)
        return state.checkpoint_id

    async def load_checkpoint(self, checkpoint_id: str) -> CheckpointState | None:
        """See `CheckpointStore.load_checkpoint`."""
        row = await self._database.load(check_name("checkpoint_id", checkpoint_id))
        return None if row is None else (await self._unpacked(row)).state

    async def claim_checkpoint(self, checkpoint_id: str, owner: str, lease_seconds: float = 30) -> CheckpointState:
        """See `CheckpointStore.claim_checkpoint`. A caller who is cancelled lets go of what may have been claimed."""
        check_name("checkpoint_id", checkpoint_id)
        seconds = check_lease(owner, lease_seconds)

        return await self._database.in_time(self._claim(checkpoint_id, owner, seconds))

    async def _claim(self, checkpoint_id: str, owner: str, seconds: float) -> CheckpointState:
        def claim(is_repeated: bool) -> Query:  # noqa: FBT001 - as `fetch_changed` has it
            return lease_statements.claim(checkpoint_id, owner, seconds, is_repeated=is_repeated, loading=codec.loading)

        database, codec = self._database, self._codec
        own = (checkpoint_id,)
        # What to go back to if it turns out to be damaged: claiming it does not tell what was there before.
        before = await database.fetch(lease_statements.holder(checkpoint_id))
        if before:
            await self._require_saving_after(checkpoint_id)
        try:
            claimed = await database.fetch_changed(claim, keys=own)
        except asyncio.CancelledError:
            self._let_go(checkpoint_id, owner)
            raise
        if not claimed:
            found = await database.fetch(lease_statements.holder(checkpoint_id))
            if not found:
                raise not_found(checkpoint_id)
            [[is_superseded, ends, _]] = found
            raise already_claimed(checkpoint_id, is_superseded=is_superseded, lease_expires_at=ends)
        try:
            row, contents = await self._contents_of(claimed[0])
        except asyncio.CancelledError:
            self._let_go(checkpoint_id, owner)
            raise
        except Exception:
            _, ended_at, owner_before = before[0] if before else (None, None, None)
            undo = lease_statements.undo_claim(checkpoint_id, owner, ended_at=ended_at, before=owner_before)
            with suppress(CheckpointStoreError):  # the reason is what the caller must hear of
                await database.change(undo, keys=own)
            raise
        self._deltas.loaded(row, contents.state.run_id, contents.plain)
        return contents.state

    def _let_go(self, checkpoint_id: str, owner: str) -> None:
        """Release what may have been claimed, in the background."""
        release = lease_statements.release(checkpoint_id, owner)
        self._database.calls.start_quietly(self._database.change(release, keys=(checkpoint_id,)))

    async def _contents_of(self, row: Sequence[Any]) -> tuple[Sequence[Any], Contents]:
        """What is in a row that somebody's statement has returned, and the row with all that it took to unpack it."""
        for completed in await self._database.complete([row]):
            return completed, await self._unpacked(completed)
        raise not_found(row[0])

    async def _unpacked(self, row: Sequence[Any]) -> Contents:
        if not is_large(row):
            return self._codec.contents(row)
        return await self._database.threads.run(functools.partial(self._codec.contents, row))

    async def _require_saving_after(self, checkpoint_id: str) -> None:
        """Raise an error when nothing may be saved here.

        A run that was claimed would do its work in vain, and again whenever somebody looks for abandoned ones.
        """
        try:
            self._database.require_saving()
        except StoreConfigurationError:
            await self.load_checkpoint(checkpoint_id)  # that it cannot be opened either says more about it
            raise

    async def renew_lease(self, checkpoint_id: str, owner: str, lease_seconds: float = 30) -> None:
        """See `CheckpointStore.renew_lease`. Those that are asked for at once are one commit.

        What somebody else has locked holds up no other one.
        """
        check_name("checkpoint_id", checkpoint_id)
        self._database.guard.refuse_misuse()  # before it waits for others, of another event loop perhaps
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
        return await self._metadata(query, is_brief=is_brief)

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
        return await deletions.delete_checkpoint(self._database, check_name("checkpoint_id", checkpoint_id))

    async def delete_run(self, run_id: str) -> int:
        """See `CheckpointStore.delete_run`. Goes in batches, each with a deadline of its own."""
        return await self._retention.delete_run(check_name("run_id", run_id))

    async def cleanup_expired(
        self,
        max_age_seconds: float,
        *,
        keep_paused: bool = True,
        workflow_name: str | None = None,
        except_workflows: Collection[str] = (),
        on_deleted: OnDeleted | None = None,
    ) -> int:
        """See `CheckpointStore.cleanup_expired`. Goes in batches, each with a deadline of its own.

        What somebody else has locked is not waited for: it is left for the next call.
        """
        scope = WorkflowScope(workflow_name, except_workflows)
        age = check_age(max_age_seconds)
        return await self._retention.expire(age, scope, keep_paused=keep_paused, on_deleted=on_deleted)

    async def trim_per_workflow(
        self,
        max_per_workflow: int,
        *,
        keep_paused: bool = True,
        workflow_name: str | None = None,
        except_workflows: Collection[str] = (),
        on_deleted: OnDeleted | None = None,
    ) -> int:
        """See `CheckpointStore.trim_per_workflow`. Goes in batches, each with a deadline of its own.

        What somebody else has locked is not waited for: it is left for the next call.
        """
        scope = WorkflowScope(workflow_name, except_workflows)
        most = check_count("max_per_workflow", max_per_workflow, at_least=1)
        return await self._retention.trim(most, scope, keep_paused=keep_paused, on_deleted=on_deleted)

    async def iter_stored(
        self, wanted: CheckpointFilter | None = None, *, on_unreadable: OnUnreadable | None = None
    ) -> AsyncIterator[StoredCheckpoint]:
        """See `CheckpointStore.iter_stored`. Holds no connection between two pages, and a part of one in memory."""
        async for stored in self._storing.iterate(wanted or CheckpointFilter(), on_unreadable):
            yield stored

    async def load_stored(
        self,
        checkpoint_ids: Collection[str],
        *,
        known: Iterable[StoredCheckpoint] = (),
        on_unreadable: OnUnreadable | None = None,
    ) -> dict[str, StoredCheckpoint]:
        """See `CheckpointStore.load_stored`."""
        return await self._storing.load(checkpoint_ids, on_unreadable, known)

    async def write_stored(
        self, checkpoints: Sequence[StoredCheckpoint], *, on_conflict: OnConflict = "fail"
    ) -> dict[str, Writing]:
        """See `CheckpointStore.write_stored`. One commit, in its turn among the saves, with a deadline of its own."""
        return await self._storing.write(checkpoints, on_conflict)

    async def count_stored(self, wanted: CheckpointFilter | None = None) -> int | None:
        """See `CheckpointStore.count_stored`."""
        return await self._storing.count(wanted or CheckpointFilter())

    @property
    def description(self) -> str:
        """See `CheckpointStore.description`."""
        return self._database.description

    async def identity(self) -> object:
        """See `CheckpointStore.identity`: the same by whatever URL."""
        return await self._storing.identity()

    async def list_bases(self, checkpoint_id: str) -> list[CheckpointMetadata]:
        """See `CheckpointStore.list_bases`."""
        query = self._database.chains.listed(check_name("checkpoint_id", checkpoint_id))
        return await self._metadata(query, is_brief=True)

    async def count_needing(self, checkpoint_id: str) -> int:
        """See `CheckpointStore.count_needing`."""
        query = self._database.chains.needing(check_name("checkpoint_id", checkpoint_id))
        rows: Sequence[Sequence[Any]] = await self._database.fetch_long(query)
        return int(rows[0][0])

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

    async def check(self) -> None:
        """See `CheckpointStore.check`: the database answers, and its schema is at head now."""
        database = self._database
        await database.run(lambda connection: connection.run_sync(check_schema, database.dialect))

    async def take_pulse(self) -> CheckpointPulse:
        """See `CheckpointStore.take_pulse`."""
        return await read_pulse(self._database.fetch, self._pulse)

    async def take_census(self) -> CheckpointCensus:
        """See `CheckpointStore.take_census`."""
        return await self._database.run_patiently(lambda connection: read_census(connection, self._pulse))

    async def take_series(self, since: float, until: float, steps: int) -> list[SavedInStep]:
        """See `CheckpointStore.take_series`."""
        span = Steps(since, until, steps)
        return await self._database.run_patiently(lambda connection: read_series(connection, span))

    async def vacuum(self) -> None:
        """See `CheckpointStore.vacuum`."""
        await self._database.run_patiently(self._database.dialect.vacuum)

    async def rekey(
        self, *, decrypt: bool = False, batch: int = 100, on_progress: Callable[[int, int], None] | None = None
    ) -> "Rekeyed":
        """See `rekey_checkpoints`."""
        from workflows_mcp.persistence import rekeying

        return await rekeying.rekey(self._database, self._codec, decrypt=decrypt, batch=batch, on_progress=on_progress)

    async def count_seals(self) -> Seals:
        """How many checkpoints are sealed with which key: one pass by the database, without a deadline."""
        from workflows_mcp.persistence import rekeying

        return await rekeying.count_seals(self._database)

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
        query = listing_statements.listing(wanted, limit=limit, before=before)
        is_brief = limit is not None and limit <= _ITER_PAGE and listing_statements.is_indexed(wanted)
        return await self._metadata(query, is_brief=is_brief)

    async def _metadata(self, query: Query, *, is_brief: bool) -> list[CheckpointMetadata]:
        rows = await (self._database.fetch(query) if is_brief else self._database.fetch_long(query))
        return [self._codec.metadata(row) for row in rows]

    async def _iterate(self, wanted: CheckpointFilter, on_damaged: OnDamaged | None) -> AsyncIterator[CheckpointState]:
        """Holds no connection between two pages, and the payloads of a part of a page at a time."""
        last: Position | None = None
        plains = Plains()
        while True:
            page = await self._list(wanted, limit=_ITER_PAGE, before=last)
            for chunk in _chunks(page):
                rows = await self._payloads_of(chunk, plains)
                for metadata in chunk:
                    if metadata.checkpoint_id not in rows and not is_odd(metadata.checkpoint_id):
                        continue
                    try:
                        state = self._codec.state(rows.get(metadata.checkpoint_id) or _not_found(metadata))
                    except CheckpointDecodeError as error:
                        if on_damaged is None:
                            raise
                        on_damaged(metadata, error)
                    else:
                        yield state
            if len(page) < _ITER_PAGE:
                return
            last = position_of(page[-1])

    async def _payloads_of(self, listed: Sequence[CheckpointMetadata], plains: Plains) -> dict[str, Sequence[Any]]:
        """What loading some checkpoints needs, by their ids, as far as it is found."""
        wanted = [one.checkpoint_id for one in listed]
        odd = [one for one in wanted if is_odd(one)]
        rows = (
            [*await self._database.load_many([one for one in wanted if one not in odd], plains)]
            if len(odd) < len(wanted)
            else []
        )
        for one in odd:
            rows += await self._database.fetch_long(self._codec.loading.odd(one))
        return {row[0]: row for row in rows}


def create_checkpoint_store(
    url: str | os.PathLike[str] | None = None,
    *,
    settings: Settings | None = None,
    password: Password | None = None,
) -> CheckpointStore:
    """The store of a URL, or the one that the settings name.

    Args:
        url: A SQLite file's path, as a text or as a `Path`, a `sqlite:///`, `postgresql://` or `memory://` URL; None:
            as the settings say.
        settings: Read from the environment when None.
        password: See `SQLAlchemyCheckpointStore`.

    Raises:
        StoreConfigurationError: The URL names no database that is supported, or a setting is wrong.
    """
    settings = settings if settings is not None else load_settings()
    url = url if url is not None else settings.url
    if url == MEMORY_URL:
        return InMemoryCheckpointStore()
    return SQLAlchemyCheckpointStore(url, settings=settings, password=password)


def _draft(state: CheckpointState, max_bytes: int | None, fence: Fence | None, codec: RowCodec, step: Step) -> Draft:
    """A row that lacks its payload yet; nothing of it refers to the state any more."""
    plain = encode_state(state, max_bytes=max_bytes)
    columns = {**columns_of(state), "status": state.status._value_}
    finish = functools.partial(_row, columns, plain, fence, codec, step)
    make_whole = None if step.base is None else functools.partial(_whole_row, columns, plain, fence, codec, step)
    return Draft(state.checkpoint_id, len(plain), finish, fence, make_whole)


def _whole_row(columns: dict[str, Any], plain: bytes, fence: Fence | None, codec: RowCodec, step: Step) -> Row:
    """The same row as no delta."""
    step.base = None
    return _row(columns, plain, fence, codec, step)


def _row(columns: dict[str, Any], plain: bytes, fence: Fence | None, codec: RowCodec, step: Step | None) -> Row:
    """The values of `statements.SAVED`, and what is asked for besides."""
    row: Row = _VALUES(codec.filled(columns, plain, step))
    return row if fence is None else fenced(row, fence)


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
