"""The checkpoint store over SQLite and PostgreSQL."""

import functools
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncEngine

from workflows_mcp.engine.census import CheckpointCensus, CheckpointPulse
from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStats
from workflows_mcp.engine.checkpoint_store import CheckpointStore, InMemoryCheckpointStore, OnDamaged, OnDeleted
from workflows_mcp.engine.filters import (
    CheckpointFilter,
    Position,
    WorkflowScope,
    check_age,
    check_columns,
    check_count,
    check_flag,
    check_name,
)
from workflows_mcp.engine.leases import check_fence, check_lease, lease_lost
from workflows_mcp.engine.observing import StoreActivity, StoreObserver
from workflows_mcp.engine.series import SavedInStep, Steps
from workflows_mcp.engine.stored import OnConflict, OnUnreadable, StoredCheckpoint, Writing
from workflows_mcp.persistence import deletions, lease_statements, listing_statements
from workflows_mcp.persistence.census import pulse_queries, read_census, read_pulse, read_series, read_stats
from workflows_mcp.persistence.claims import Claims
from workflows_mcp.persistence.database import Database
from workflows_mcp.persistence.deltas import Deltas
from workflows_mcp.persistence.dialects import Password
from workflows_mcp.persistence.drafting import draft
from workflows_mcp.persistence.renewals import Renewals
from workflows_mcp.persistence.retention import Retention
from workflows_mcp.persistence.revisions import check_schema
from workflows_mcp.persistence.row_codec import open_codec
from workflows_mcp.persistence.seals import Seals, check_database
from workflows_mcp.persistence.statements import Query
from workflows_mcp.persistence.states import States
from workflows_mcp.persistence.storing import Storing
from workflows_mcp.settings import MEMORY_URL, Settings, load_settings

if TYPE_CHECKING:
    from workflows_mcp.persistence.rekeying import Rekeyed

__all__ = ["SQLAlchemyCheckpointStore", "create_checkpoint_store"]

_BRIEF_ROWS = 500
"""A listing of so many rows, by an index, is over in a moment."""


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
        self._storing = Storing(database, codec)
        self._states = States(database, codec)
        self._claims = Claims(database, self._states, self._deltas, codec.loading)

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
        await self._database.save(lambda: draft(state, max_bytes, fence, self._codec, step))
        self._deltas.saved(step)
        return state.checkpoint_id

    async def load_checkpoint(self, checkpoint_id: str) -> CheckpointState | None:
        """See `CheckpointStore.load_checkpoint`."""
        return await self._states.load(check_name("checkpoint_id", checkpoint_id))

    async def claim_checkpoint(self, checkpoint_id: str, owner: str, lease_seconds: float = 30) -> CheckpointState:
        """See `CheckpointStore.claim_checkpoint`. A caller who is cancelled lets go of what may have been claimed."""
        check_name("checkpoint_id", checkpoint_id)
        seconds = check_lease(owner, lease_seconds)
        return await self._database.in_time(self._claims.claim(checkpoint_id, owner, seconds))

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
        is_brief = limit is not None and limit <= _BRIEF_ROWS
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
        dialect = self._database.dialect
        return await self._database.run(lambda connection: read_stats(connection, dialect))

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
        is_brief = limit is not None and limit <= _BRIEF_ROWS and listing_statements.is_indexed(wanted)
        return await self._metadata(query, is_brief=is_brief)

    async def _metadata(self, query: Query, *, is_brief: bool) -> list[CheckpointMetadata]:
        rows = await (self._database.fetch(query) if is_brief else self._database.fetch_long(query))
        return [self._codec.metadata(row) for row in rows]

    def _iterate(self, wanted: CheckpointFilter, on_damaged: OnDamaged | None) -> AsyncIterator[CheckpointState]:
        return self._states.iterate(functools.partial(self._list, wanted), on_damaged)


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
