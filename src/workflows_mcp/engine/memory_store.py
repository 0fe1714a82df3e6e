"""The store in memory, which is the executable specification of the contract."""

import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStats
from workflows_mcp.engine.contract import CheckpointStore, OnDeleted, columns_of
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
    not_saved,
)
from workflows_mcp.engine.retention_rules import exemption, is_expired, is_recoverable
from workflows_mcp.engine.state_json import decode_state, encode_state
from workflows_mcp.engine.stored import (
    OnConflict,
    OnUnreadable,
    StoredCheckpoint,
    Writing,
    by_now,
    check_batch,
    judge,
    with_place,
)

__all__ = ["InMemoryCheckpointStore"]


@dataclass(frozen=True)
class _Kept:
    """A checkpoint.

    Attributes:
        metadata: As it is listed. `lease_expires_at` says that it is or was leased; None: it never was, or is history.
        payload: Its JSON.
        owner: Who may save over it and follow it, and saved or claimed it last; None: nobody in particular.
    """

    metadata: CheckpointMetadata
    payload: bytes
    owner: str | None = None

    def with_lease(self, owner: str | None, expires_at: float | None) -> "_Kept":
        """The same, leased otherwise."""
        metadata = dataclasses.replace(self.metadata, lease_expires_at=expires_at)
        return dataclasses.replace(self, metadata=metadata, owner=owner)

    def as_history(self) -> "_Kept":
        """The same, followed by another one."""
        metadata = dataclasses.replace(self.metadata, superseded=True, is_paused=False, lease_expires_at=None)
        return dataclasses.replace(self, metadata=metadata)

    def is_held(self, now: float) -> bool:
        """Whether somebody's lease goes on."""
        ends = self.metadata.lease_expires_at
        return self.owner is not None and ends is not None and ends > now

    def is_leased_to(self, owner: str | None) -> bool:
        """Whether an owner holds it, or held it last and nobody has taken it since."""
        metadata = self.metadata
        return self.owner == owner and metadata.lease_expires_at is not None and not metadata.superseded


class InMemoryCheckpointStore(CheckpointStore):
    """Keeps checkpoints in this process, for as long as it lives; for development and tests.

    It encodes what it is given, as the other stores do, so it accepts and refuses the same, and never holds an
    object that the caller may still change.
    """

    system = "memory"

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    async def save_checkpoint(
        self,
        state: CheckpointState,
        *,
        follows: str | None = None,
        owner: str | None = None,
        lease_seconds: float | None = None,
        max_bytes: int | None = None,
    ) -> str:
        """See `CheckpointStore.save_checkpoint`; nothing outlives the process."""
        check_columns(state)
        fence = check_fence(state.checkpoint_id, follows=follows, owner=owner, lease_seconds=lease_seconds)
        payload = encode_state(state, max_bytes=max_bytes)
        if fence is not None and not self._lets_pass(fence, state.checkpoint_id):
            raise not_saved(state.checkpoint_id, fence)
        size = len(payload)
        metadata = CheckpointMetadata(**columns_of(state), full_bytes=size, stored_bytes=size, encoding="json")
        self._put(_Kept(metadata, payload))
        if owner is not None:
            kept = self._kept[state.checkpoint_id]
            is_unleased = lease_seconds is None or kept.metadata.superseded
            ends = None if is_unleased else time.time() + (lease_seconds or 0.0)
            self._kept[state.checkpoint_id] = kept.with_lease(owner, ends)
        if follows is not None and follows in self._kept:
            self._kept[follows] = self._kept[follows].as_history()
        return state.checkpoint_id

    def _lets_pass(self, fence: Fence, checkpoint_id: str) -> bool:
        """Whether a save may be made."""
        own = self._kept.get(checkpoint_id)
        if own is not None and fence.owner is not None and own.owner != fence.owner:
            return False
        if fence.follows is None:
            return True
        previous = self._kept.get(fence.follows)
        if previous is None or previous.metadata.superseded:
            return own is not None  # a repetition
        return fence.owner is None or previous.is_leased_to(fence.owner)

    def _put(self, new: _Kept) -> None:
        """Keep a checkpoint, in the place of the one with its id."""
        name = new.metadata.checkpoint_id
        old = self._kept.get(name)
        if old is not None:
            new = dataclasses.replace(
                new,
                owner=old.owner,
                metadata=dataclasses.replace(
                    new.metadata,
                    is_paused=new.metadata.is_paused and not old.metadata.superseded,
                    superseded=old.metadata.superseded,
                    pinned=old.metadata.pinned,
                    lease_expires_at=old.metadata.lease_expires_at,
                ),
            )
        self._kept[name] = new

    async def load_checkpoint(self, checkpoint_id: str) -> CheckpointState | None:
        """See `CheckpointStore.load_checkpoint`."""
        kept = self._kept.get(check_name("checkpoint_id", checkpoint_id))
        return None if kept is None else decode_state(kept.payload, checkpoint_id)

    async def _list(
        self, wanted: CheckpointFilter, *, limit: int | None, before: Position | None
    ) -> list[CheckpointMetadata]:
        found = [
            metadata
            for metadata in self._listed()
            if wanted.matches(metadata) and (before is None or position_of(metadata) < before)
        ]
        return sorted(found, key=position_of, reverse=True)[:limit]

    async def iter_stored(
        self,
        wanted: CheckpointFilter | None = None,
        *,
        on_unreadable: OnUnreadable | None = None,  # noqa: ARG002 - nothing is ever damaged here
    ) -> AsyncIterator[StoredCheckpoint]:
        """See `CheckpointStore.iter_stored`: what is there at the beginning, unless it is deleted or saved anew."""
        listed = await self._list(wanted or CheckpointFilter(), limit=None, before=None)
        for place in map(position_of, listed):
            kept = self._kept.get(place[1])
            if kept is not None and position_of(kept.metadata) == place:
                yield _stored(kept)

    async def load_stored(
        self,
        checkpoint_ids: Collection[str],
        *,
        known: Iterable[StoredCheckpoint] = (),  # noqa: ARG002 - decoding is quick enough
        on_unreadable: OnUnreadable | None = None,  # noqa: ARG002 - nothing is ever damaged here
    ) -> dict[str, StoredCheckpoint]:
        """See `CheckpointStore.load_stored`."""
        return {name: _stored(self._kept[name]) for name in checkpoint_ids if name in self._kept}

    async def write_stored(
        self, checkpoints: Sequence[StoredCheckpoint], *, on_conflict: OnConflict = "fail"
    ) -> dict[str, Writing]:
        """See `CheckpointStore.write_stored`."""
        check_batch(checkpoints, on_conflict)
        there = await self.load_stored([one.checkpoint_id for one in checkpoints])
        verdicts = judge(checkpoints, {**there}, on_conflict)
        for one in checkpoints:
            verdict, old = verdicts[one.checkpoint_id], self._kept.get(one.checkpoint_id)
            if verdict in {Writing.WRITTEN, Writing.REPLACED}:
                self._put_stored(one)
            elif verdict is Writing.PRESENT and one.superseded and old is not None and not old.metadata.superseded:
                if old.is_held(time.time()):
                    verdicts[one.checkpoint_id] = Writing.HELD
                else:
                    self._kept[one.checkpoint_id] = old.as_history()
        return verdicts

    def _put_stored(self, new: StoredCheckpoint) -> None:
        """Keep a checkpoint in its place; one that is there keeps its lease, and stays history."""
        size = len(new.plain)
        metadata = CheckpointMetadata(
            **columns_of(new.state), full_bytes=size, stored_bytes=size, encoding="json", pinned=new.pinned
        )
        old = self._kept.get(new.checkpoint_id)
        self._put(_Kept(metadata, new.plain))
        kept = self._kept[new.checkpoint_id]
        kept = dataclasses.replace(kept, metadata=dataclasses.replace(kept.metadata, pinned=new.pinned))
        if old is None or old.metadata.lease_expires_at is None:
            kept = kept.with_lease(kept.owner, None if kept.metadata.superseded else by_now(new.lease_ended_at))
        self._kept[new.checkpoint_id] = kept.as_history() if new.superseded else kept

    @property
    def description(self) -> str:
        """See `CheckpointStore.description`."""
        return "a store in memory"

    async def count_stored(self, wanted: CheckpointFilter | None = None) -> int:
        """See `CheckpointStore.count_stored`."""
        return sum(map((wanted or CheckpointFilter()).matches, self._listed()))

    async def claim_checkpoint(self, checkpoint_id: str, owner: str, lease_seconds: float = 30) -> CheckpointState:
        """See `CheckpointStore.claim_checkpoint`."""
        kept = self._kept.get(check_name("checkpoint_id", checkpoint_id))
        seconds = check_lease(owner, lease_seconds)
        if kept is None:
            raise not_found(checkpoint_id)
        ends, now = kept.metadata.lease_expires_at, time.time()
        if kept.is_held(now) or kept.metadata.superseded:
            raise already_claimed(checkpoint_id, is_superseded=kept.metadata.superseded, lease_expires_at=ends)
        state = decode_state(kept.payload, checkpoint_id)
        self._kept[checkpoint_id] = kept.with_lease(owner, now + seconds)
        return state

    async def renew_lease(self, checkpoint_id: str, owner: str, lease_seconds: float = 30) -> None:
        """See `CheckpointStore.renew_lease`."""
        kept = self._kept.get(check_name("checkpoint_id", checkpoint_id))
        seconds = check_lease(owner, lease_seconds)
        if kept is None or not kept.is_leased_to(owner):
            raise lease_lost(checkpoint_id)
        self._kept[checkpoint_id] = kept.with_lease(owner, time.time() + seconds)

    async def release_claim(self, checkpoint_id: str, owner: str) -> None:
        """See `CheckpointStore.release_claim`."""
        kept = self._kept.get(check_name("checkpoint_id", checkpoint_id))
        check_name("owner", owner)
        if kept is None or not (kept.is_leased_to(owner) or kept.is_leased_to(None)):
            raise lease_lost(checkpoint_id)
        ends = kept.metadata.lease_expires_at
        self._kept[checkpoint_id] = kept.with_lease(None, min(ends or 0.0, time.time()))

    async def list_abandoned(self, limit: int | None = None) -> list[CheckpointMetadata]:
        """See `CheckpointStore.list_abandoned`."""
        if limit is not None:
            check_count("limit", limit, at_least=0)
        now = time.time()
        found = [
            (metadata.lease_expires_at, metadata.checkpoint_id, metadata)
            for metadata in self._listed()
            if is_recoverable(metadata) and metadata.lease_expires_at is not None and metadata.lease_expires_at <= now
        ]
        return [metadata for *_, metadata in sorted(found, key=lambda one: one[:2])[:limit]]

    async def pin_checkpoint(self, checkpoint_id: str, pinned: bool = True) -> bool:  # noqa: FBT001, FBT002 - as the contract has it
        """See `CheckpointStore.pin_checkpoint`."""
        kept = self._kept.get(check_name("checkpoint_id", checkpoint_id))
        check_flag("pinned", pinned)
        if kept is None:
            return False
        metadata = dataclasses.replace(kept.metadata, pinned=pinned)
        self._kept[checkpoint_id] = dataclasses.replace(kept, metadata=metadata)
        return True

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """See `CheckpointStore.delete_checkpoint`."""
        return self._kept.pop(check_name("checkpoint_id", checkpoint_id), None) is not None

    async def delete_run(self, run_id: str) -> int:
        """See `CheckpointStore.delete_run`."""
        check_name("run_id", run_id)
        return self._delete([metadata for metadata in self._listed() if metadata.run_id == run_id])

    async def cleanup_expired(
        self,
        max_age_seconds: float,
        *,
        keep_paused: bool = True,
        workflow_name: str | None = None,
        except_workflows: Collection[str] = (),
        on_deleted: OnDeleted | None = None,
    ) -> int:
        """See `CheckpointStore.cleanup_expired`."""
        scope = WorkflowScope(workflow_name, except_workflows)
        now = time.time()
        cutoff = now - check_age(max_age_seconds)
        old = [one for one in self._removable(scope, now, keep_paused=keep_paused) if is_expired(one, cutoff)]
        return self._delete(old, on_deleted)

    async def trim_per_workflow(
        self,
        max_per_workflow: int,
        *,
        keep_paused: bool = True,
        workflow_name: str | None = None,
        except_workflows: Collection[str] = (),
        on_deleted: OnDeleted | None = None,
    ) -> int:
        """See `CheckpointStore.trim_per_workflow`."""
        check_count("max_per_workflow", max_per_workflow, at_least=1)
        scope = WorkflowScope(workflow_name, except_workflows)
        removable = self._removable(scope, time.time(), keep_paused=keep_paused)
        excess: list[CheckpointMetadata] = []
        seen: Counter[str] = Counter()
        for metadata in sorted(removable, key=position_of, reverse=True):
            seen[metadata.workflow_name] += 1
            if seen[metadata.workflow_name] > max_per_workflow:
                excess.append(metadata)
        return self._delete(excess, on_deleted)

    async def get_stats(self) -> CheckpointStats:
        """See `CheckpointStore.get_stats`; `database_bytes` is what the payloads take up."""
        listed = list(self._listed())
        paused = sum(metadata.is_paused for metadata in listed)
        times = [metadata.created_at for metadata in listed]
        stored = sum(metadata.stored_bytes for metadata in listed)
        return CheckpointStats(
            total_checkpoints=len(listed),
            paused_checkpoints=paused,
            automatic_checkpoints=len(listed) - paused,
            workflows=dict(sorted(Counter(metadata.workflow_name for metadata in listed).items())),
            oldest_checkpoint=min(times, default=None),
            newest_checkpoint=max(times, default=None),
            full_bytes=sum(metadata.full_bytes for metadata in listed),
            stored_bytes=stored,
            database_bytes=stored,
        )

    def _listed(self) -> Iterable[CheckpointMetadata]:
        return (kept.metadata for kept in self._kept.values())

    def _removable(self, scope: WorkflowScope, now: float, *, keep_paused: bool) -> list[CheckpointMetadata]:
        """What retention may delete."""
        return [
            one
            for one in self._listed()
            if scope.takes(one.workflow_name) and exemption(one, now, keep_paused=keep_paused) is None
        ]

    def _delete(self, doomed: list[CheckpointMetadata], on_deleted: OnDeleted | None = None) -> int:
        for metadata in doomed:
            del self._kept[metadata.checkpoint_id]
        if on_deleted is not None and doomed:
            on_deleted(len(doomed))
        return len(doomed)


def _stored(kept: _Kept) -> StoredCheckpoint:
    return with_place(decode_state(kept.payload, kept.metadata.checkpoint_id), kept.metadata)
