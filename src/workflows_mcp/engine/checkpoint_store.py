"""The contract of a checkpoint store, and the store in memory that is its executable specification.

`workflows_mcp.testing.CheckpointStoreContract` holds a test for every promise made here.
"""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from workflows_mcp.engine.checkpoint import (
    CheckpointMetadata,
    CheckpointState,
    CheckpointStats,
    CheckpointStatus,
)
from workflows_mcp.engine.filters import (
    CheckpointFilter,
    Position,
    check_age,
    check_columns,
    check_count,
    check_name,
    position_before,
    position_of,
)
from workflows_mcp.engine.state_json import decode_state, encode_state
from workflows_mcp.errors import CheckpointDecodeError

__all__ = ["CheckpointStore", "InMemoryCheckpointStore", "columns_of"]

OnDamaged = Callable[[CheckpointMetadata, CheckpointDecodeError], None]

_PAGE = 100


class CheckpointStore(ABC):
    """Keeps checkpoints. Every store behaves alike; tasks may call one store at the same time.

    Order: checkpoints have one total order, `created_at` and then `checkpoint_id` by code points; listings run
    through it from the newest down.

    Errors: a bad argument is a `ValueError`, raised before anything is stored. Everything else is a
    `CheckpointStoreError`. A call that raises has changed nothing, with one exception: after a
    `StoreUnavailableError` a save or a deletion may have happened, and repeating it is safe.
    """

    @abstractmethod
    async def save_checkpoint(self, state: CheckpointState, *, max_bytes: int | None = None) -> str:
        """Save a state, replacing whole what was saved under its id.

        Once this returns, the checkpoint is durable: as safe as the store is able to make it. The state is not
        referred to afterwards; changing the values in it changes nothing that was saved.

        Args:
            state: What to save.
            max_bytes: The most bytes that its plain JSON may have; None: the store's own limit.

        Returns:
            The checkpoint's id.

        Raises:
            ValueError: An id or name is not fit to be one.
            CheckpointEncodeError: The state holds something that is not plain JSON; the message names its path.
            CheckpointTooLargeError: The plain JSON is larger than the limit.
            StoreUnavailableError: The outcome is unknown; saving again is safe.
            StoreFullError: There is no space left.
        """

    @abstractmethod
    async def load_checkpoint(self, checkpoint_id: str) -> CheckpointState | None:
        """Load exactly what was saved last under this id, types included; None when there is nothing.

        Raises:
            CheckpointDecodeError: The payload is damaged, or newer than this version.
        """

    async def list_checkpoints(
        self,
        workflow_name: str | None = None,
        *,
        run_id: str | None = None,
        status: CheckpointStatus | str | None = None,
        is_paused: bool | None = None,
        heads_only: bool = False,
        created_after: float | None = None,
        created_before: float | None = None,
        limit: int | None = None,
        before: CheckpointMetadata | str | None = None,
    ) -> list[CheckpointMetadata]:
        """List checkpoints, the newest first. Payloads are not read, so a damaged one is listed like the others.

        Args:
            workflow_name: Only this workflow's. `""` is a name, not "all".
            run_id: Only this run's.
            status: Only those saved with this status.
            is_paused: Only those that wait (True), or that do not (False).
            heads_only: Only those that no other checkpoint of their run follows.
            created_after: Only those created at this Unix time, in seconds, or later.
            created_before: Only those created earlier than this Unix time.
            limit: The most to return; None: all.
            before: Go on after a page: its last metadata, or that one's `cursor`.

        Raises:
            ValueError: A filter, the limit or the cursor makes no sense.
        """
        wanted = CheckpointFilter(workflow_name, run_id, status, is_paused, heads_only, created_after, created_before)
        if limit is not None:
            check_count("limit", limit, at_least=0)
        return await self._list(wanted, limit=limit, before=position_before(before))

    async def iter_checkpoints(
        self,
        workflow_name: str | None = None,
        *,
        run_id: str | None = None,
        status: CheckpointStatus | str | None = None,
        is_paused: bool | None = None,
        heads_only: bool = False,
        created_after: float | None = None,
        created_before: float | None = None,
        on_damaged: OnDamaged | None = None,
    ) -> AsyncIterator[CheckpointState]:
        """Stream states, the newest first, in constant memory. The filters are those of `list_checkpoints`.

        A checkpoint that is saved or deleted meanwhile may or may not be among them; each comes at most once.

        Args:
            workflow_name: See `list_checkpoints`.
            run_id: See `list_checkpoints`.
            status: See `list_checkpoints`.
            is_paused: See `list_checkpoints`.
            heads_only: See `list_checkpoints`.
            created_after: See `list_checkpoints`.
            created_before: See `list_checkpoints`.
            on_damaged: Called with a damaged checkpoint's metadata and error, after which the stream goes on;
                None: the error is raised.
        """
        wanted = CheckpointFilter(workflow_name, run_id, status, is_paused, heads_only, created_after, created_before)
        async for state in self._iterate(wanted, on_damaged):
            yield state

    @abstractmethod
    async def _list(
        self, wanted: CheckpointFilter, *, limit: int | None, before: Position | None
    ) -> list[CheckpointMetadata]:
        """What `list_checkpoints` returns, for arguments that were checked.

        Args:
            wanted: What is listed.
            limit: The most to return; None: all.
            before: Only those whose place in the order is before this one.
        """

    async def _iterate(self, wanted: CheckpointFilter, on_damaged: OnDamaged | None) -> AsyncIterator[CheckpointState]:
        """What `iter_checkpoints` streams. A store that can load several at once does it in its own way."""
        last: Position | None = None
        while True:
            page = await self._list(wanted, limit=_PAGE, before=last)
            for metadata in page:
                try:
                    state = await self.load_checkpoint(metadata.checkpoint_id)
                except CheckpointDecodeError as error:
                    if on_damaged is None:
                        raise
                    on_damaged(metadata, error)
                    continue
                if state is not None:
                    yield state
            if len(page) < _PAGE:
                return
            last = position_of(page[-1])

    @abstractmethod
    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint; True when it existed.

        A store that repeats the deletion because the connection was lost may find that it had been done: False.
        """

    @abstractmethod
    async def cleanup_expired(self, max_age_seconds: float, *, keep_paused: bool = True) -> int:
        """Delete the checkpoints that were created longer ago than this; returns how many.

        Args:
            max_age_seconds: Age in seconds, at least 0.
            keep_paused: Whether those that wait for an answer are kept, whatever their age.
        """

    @abstractmethod
    async def trim_per_workflow(self, max_per_workflow: int, *, keep_paused: bool = True) -> int:
        """Delete all but the newest checkpoints of each workflow; returns how many.

        Args:
            max_per_workflow: How many to keep of each workflow, at least 1.
            keep_paused: Whether those that wait for an answer are kept besides; they use up no slot.
        """

    @abstractmethod
    async def get_stats(self) -> CheckpointStats:
        """Count what is stored, without reading a payload."""

    async def vacuum(self) -> None:  # noqa: B027 - a store with nothing to tidy need not override it
        """Give back the space of deleted checkpoints and refresh what the database knows of its indexes.

        Other calls may have to wait for it. Has no deadline.
        """

    async def close(self) -> None:  # noqa: B027 - nor one with nothing to close
        """Finish the saves that were started and let go of all resources. Closing twice is fine."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def columns_of(state: CheckpointState) -> dict[str, Any]:
    """What a listing shows of a state, under the names of `CheckpointMetadata`; its sizes are the store's to add."""
    return {
        "checkpoint_id": state.checkpoint_id,
        "workflow_name": state.workflow_name,
        "created_at": state.created_at,
        "is_paused": state.is_paused,
        # PostgreSQL's text cannot hold U+0000; the payload keeps it.
        "pause_prompt": None if state.pause_prompt is None else state.pause_prompt.replace("\0", "\ufffd"),
        "run_id": state.run_id,
        "status": state.status,
        "parent_checkpoint_id": state.parent_checkpoint_id,
        "current_wave_index": state.current_wave_index,
        "schema_version": state.schema_version,
    }


@dataclass(frozen=True)
class _Kept:
    metadata: CheckpointMetadata
    payload: bytes


class InMemoryCheckpointStore(CheckpointStore):
    """Keeps checkpoints in this process, for as long as it lives; for development and tests.

    It encodes what it is given, as the other stores do, so it accepts and refuses the same, and never holds an
    object that the caller may still change.
    """

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    async def save_checkpoint(self, state: CheckpointState, *, max_bytes: int | None = None) -> str:
        """See `CheckpointStore.save_checkpoint`; nothing outlives the process."""
        check_columns(state)
        payload = encode_state(state, max_bytes=max_bytes)
        size = len(payload)
        metadata = CheckpointMetadata(**columns_of(state), full_bytes=size, stored_bytes=size, encoding="json")
        self._kept[state.checkpoint_id] = _Kept(metadata, payload)
        return state.checkpoint_id

    async def load_checkpoint(self, checkpoint_id: str) -> CheckpointState | None:
        """See `CheckpointStore.load_checkpoint`."""
        kept = self._kept.get(check_name("checkpoint_id", checkpoint_id))
        return None if kept is None else decode_state(kept.payload, checkpoint_id)

    async def _list(
        self, wanted: CheckpointFilter, *, limit: int | None, before: Position | None
    ) -> list[CheckpointMetadata]:
        found = [
            kept.metadata
            for kept in self._kept.values()
            if wanted.matches(kept.metadata) and (before is None or position_of(kept.metadata) < before)
        ]
        return sorted(found, key=position_of, reverse=True)[:limit]

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """See `CheckpointStore.delete_checkpoint`."""
        return self._kept.pop(check_name("checkpoint_id", checkpoint_id), None) is not None

    async def cleanup_expired(self, max_age_seconds: float, *, keep_paused: bool = True) -> int:
        """See `CheckpointStore.cleanup_expired`."""
        cutoff = time.time() - check_age(max_age_seconds)
        return self._delete([one for one in self._removable(keep_paused=keep_paused) if one.created_at < cutoff])

    async def trim_per_workflow(self, max_per_workflow: int, *, keep_paused: bool = True) -> int:
        """See `CheckpointStore.trim_per_workflow`."""
        check_count("max_per_workflow", max_per_workflow, at_least=1)
        excess: list[CheckpointMetadata] = []
        seen: Counter[str] = Counter()
        for metadata in sorted(self._removable(keep_paused=keep_paused), key=position_of, reverse=True):
            seen[metadata.workflow_name] += 1
            if seen[metadata.workflow_name] > max_per_workflow:
                excess.append(metadata)
        return self._delete(excess)

    async def get_stats(self) -> CheckpointStats:
        """See `CheckpointStore.get_stats`; `database_bytes` is what the payloads take up."""
        listed = [kept.metadata for kept in self._kept.values()]
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

    def _removable(self, *, keep_paused: bool) -> list[CheckpointMetadata]:
        """What retention may delete."""
        return [kept.metadata for kept in self._kept.values() if not (keep_paused and kept.metadata.is_paused)]

    def _delete(self, doomed: list[CheckpointMetadata]) -> int:
        for metadata in doomed:
            del self._kept[metadata.checkpoint_id]
        return len(doomed)
