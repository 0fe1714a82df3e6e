"""The contract of a checkpoint store.

The store in memory (`memory_store.py`) is its executable specification, and
`workflows_mcp.testing.CheckpointStoreContract` holds a test for every promise made here.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection
from types import TracebackType
from typing import Any, Self

from workflows_mcp.engine.census import CheckpointCensus, CheckpointPulse, count_census, count_pulse
from workflows_mcp.engine.checkpoint import (
    CheckpointMetadata,
    CheckpointState,
    CheckpointStats,
    CheckpointStatus,
)
from workflows_mcp.engine.filters import (
    CheckpointFilter,
    Position,
    check_count,
    check_name,
    position_before,
    position_of,
)
from workflows_mcp.engine.moving import MovingCheckpoints
from workflows_mcp.engine.observing import StoreActivity, StoreObserver, observe_methods
from workflows_mcp.engine.series import SavedInStep, Steps, count_series
from workflows_mcp.errors import CheckpointDecodeError

__all__ = ["CheckpointStore", "OnDamaged", "OnDeleted", "columns_of"]

OnDamaged = Callable[[CheckpointMetadata, CheckpointDecodeError], None]

OnDeleted = Callable[[int], None]
"""Hears how many were deleted since it heard of it last."""

_PAGE = 100


class CheckpointStore(MovingCheckpoints, ABC):
    """Keeps checkpoints. Every store behaves alike; tasks may call one store at the same time.

    What exports, imports and copies need besides is in `moving.py`, and need not be overridden.

    Order: checkpoints have one total order, `created_at` and then `checkpoint_id` by code points; listings run
    through it from the newest down.

    Errors: a bad argument is a `ValueError`, raised before anything is stored. Everything else is a
    `CheckpointStoreError`. A call that raises has changed nothing, with one exception: after a
    `StoreUnavailableError` a save, a deletion or a claim may have happened. Repeating a save or a deletion is safe;
    a claim is repeated with another owner, when the lease that it may have taken has run out.

    Following: a checkpoint may *follow* another one, which is history from then on (`superseded`), while the last
    one is the *head* of its run. A checkpoint *waits* (`is_paused` in listings, filters, counts and retention) as long
    as it is paused and not followed. Without `follows` each checkpoint is a head.

    Leases: an *owner* holds a checkpoint for some seconds, by a claim or by having saved it so. It is a token that is
    made for one claim, or for one start of a run, and for nothing else. A lease ends when it runs out, is released, or
    its checkpoint is followed; one that ran out still lets its owner save and renew until somebody else claims the
    checkpoint. The time is the database's, where that has a clock of its own.

    Attributes:
        system: What kind of store it is, in a word: `memory`, or the database's name.
        observers: Who is told what it does; see `observe`.
    """

    system: str = "other"
    observers: tuple[StoreObserver, ...] = ()

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401 - a base class's
        """Every store tells its observers what it does, without a line about it in its methods."""
        super().__init_subclass__(**options)
        observe_methods(cls)

    def observe(self, observer: StoreObserver) -> None:
        """Tell one more observer what the store does from now on."""
        self.observers = (*self.observers, observer)

    def unobserve(self, observer: StoreObserver) -> None:
        """Tell an observer nothing any more; one that was told nothing may be named, too."""
        self.observers = tuple(one for one in self.observers if one is not observer)

    def activity(self) -> StoreActivity:
        """What the store is doing at this moment; asks no database, and may be called from any thread."""
        return StoreActivity()

    @abstractmethod
    async def save_checkpoint(
        self,
        state: CheckpointState,
        *,
        follows: str | None = None,
        owner: str | None = None,
        lease_seconds: float | None = None,
        max_bytes: int | None = None,
    ) -> str:
        """Save a state, replacing whole what was saved under its id.

        Once this returns, the checkpoint is durable: as safe as the store is able to make it. The state is not
        referred to afterwards; changing the values in it changes nothing that was saved.

        What is saved again keeps its pin and its place: a checkpoint that was followed stays history. Without `owner`
        its lease is left alone, too; with it, the lease begins anew (`lease_seconds`), or ends.

        Repeating a save succeeds, whether or not it had been done: one with `follows` finds its own id there, and the
        one that it follows already followed (or deleted since).

        Args:
            state: What to save.
            follows: The id of the checkpoint that this one follows, all or nothing: it becomes history and its lease
                ends. It must be there, and not be followed by another one; which run it belongs to is not asked.
            owner: Who saves. `follows` must be leased to this owner; and if the state's own id is there, that, too, was
                saved or claimed by this owner last. None: no lease is asked for, so that anybody can end a run: the
                next save of whoever works on it then raises `LeaseLostError`.
            lease_seconds: For how long the checkpoint is then leased to `owner`: more than 0, at most ten years. None:
                it is not leased.
            max_bytes: The most bytes that its plain JSON may have; None: the store's own limit.

        Returns:
            The checkpoint's id.

        Raises:
            ValueError: An id or name is not fit to be one, `follows` is the state's own id, or `lease_seconds` is out
                of range or without an `owner`.
            LeaseLostError: `follows` or `owner` did not let it pass; nothing was written.
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
        runs_only: bool = False,
        created_after: float | None = None,
        created_before: float | None = None,
        id_contains: str | None = None,
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
            runs_only: Only those that belong to a run.
            created_after: Only those created at this Unix time, in seconds, or later.
            created_before: Only those created earlier than this Unix time.
            id_contains: Only those with this text, by its very characters, somewhere in their id or their run's. 1 to
                512 UTF-8 bytes, as an id has. No index knows it: where few have it, all others are looked through.
            limit: The most to return; None: all.
            before: Go on after a page: its last metadata, or that one's `cursor`.

        Raises:
            ValueError: A filter, the limit or the cursor makes no sense.
        """
        wanted = CheckpointFilter(
            workflow_name=workflow_name,
            run_id=run_id,
            status=status,
            is_paused=is_paused,
            heads_only=heads_only,
            created_after=created_after,
            created_before=created_before,
            id_contains=id_contains,
            runs_only=runs_only,
        )
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
        runs_only: bool = False,
        created_after: float | None = None,
        created_before: float | None = None,
        id_contains: str | None = None,
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
            runs_only: See `list_checkpoints`.
            created_after: See `list_checkpoints`.
            created_before: See `list_checkpoints`.
            id_contains: See `list_checkpoints`.
            on_damaged: Called with a damaged checkpoint's metadata and error, after which the stream goes on;
                None: the error is raised.
        """
        wanted = CheckpointFilter(
            workflow_name=workflow_name,
            run_id=run_id,
            status=status,
            is_paused=is_paused,
            heads_only=heads_only,
            created_after=created_after,
            created_before=created_before,
            id_contains=id_contains,
            runs_only=runs_only,
        )
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
    async def claim_checkpoint(self, checkpoint_id: str, owner: str, lease_seconds: float = 30) -> CheckpointState:
        """Lease a checkpoint and load it: of any number of callers on all servers, one gets it.

        What can be claimed is a head that nobody holds, whatever its status: its lease has run out, was released, or
        there never was one. An unexpired lease is never claimed again, not even by its owner.

        Args:
            checkpoint_id: What to claim.
            owner: A new token, which no other claim ever had, such as `uuid.uuid4().hex`.
            lease_seconds: For how long; more than 0, at most ten years.

        Raises:
            ValueError: An argument is not fit to be one.
            CheckpointNotFoundError: There is no such checkpoint.
            CheckpointAlreadyClaimedError: Somebody holds it, or it was followed.
            CheckpointDecodeError: The payload is damaged, or newer than this version; nobody holds it then.
            StoreUnavailableError: The outcome is unknown; if it was claimed, that lease runs out by itself.
        """

    @abstractmethod
    async def renew_lease(self, checkpoint_id: str, owner: str, lease_seconds: float = 30) -> None:
        """Begin a lease anew, from now on; one that ran out and was not taken by somebody else, too.

        Args:
            checkpoint_id: What is leased.
            owner: Who holds it.
            lease_seconds: For how long; more than 0, at most ten years.

        Raises:
            ValueError: An argument is not fit to be one.
            LeaseLostError: It is not the owner's any more: followed, claimed by another, released, or gone.
            StoreUnavailableError: The outcome is unknown; renewing again is safe.
        """

    @abstractmethod
    async def release_claim(self, checkpoint_id: str, owner: str) -> None:
        """End a lease now: anybody may claim the checkpoint, and if its run was running, it counts as abandoned.

        The owner has no say in it any more. Releasing what was released already is fine.

        Args:
            checkpoint_id: What is leased.
            owner: Who holds it.

        Raises:
            ValueError: An argument is not fit to be one.
            LeaseLostError: It is not the owner's any more: followed, claimed by another, or gone.
            StoreUnavailableError: The outcome is unknown; releasing again is safe.
        """

    @abstractmethod
    async def list_abandoned(self, limit: int | None = None) -> list[CheckpointMetadata]:
        """List the heads of runs that nobody works on any more, the longest abandoned first.

        They are `running`, were leased, and their lease ran out or was released. A checkpoint that was never leased is
        nobody's to recover, and is not among them. Payloads are not read. To take one, claim it: another server may
        have read the same list.

        Args:
            limit: The most to return; None: all.

        Raises:
            ValueError: The limit makes no sense.
        """

    @abstractmethod
    async def pin_checkpoint(self, checkpoint_id: str, pinned: bool = True) -> bool:  # noqa: FBT001, FBT002 - as in "pin it: no"
        """Have retention leave a checkpoint alone, or not any more; True when it exists.

        Args:
            checkpoint_id: What to pin.
            pinned: Whether it is pinned from now on.

        Raises:
            ValueError: An argument is not fit to be one.
        """

    @abstractmethod
    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint; True when it existed.

        A store that repeats the deletion because the connection was lost may find that it had been done: False.

        Raises:
            CheckpointDecodeError: Others are stored as deltas of it, and could never be read again without it, since
                one that they need is damaged or missing (`link`). Put that one back, or delete the others first.
            CheckpointKeyError: Such a delta cannot be opened with the keys of this process.
        """

    @abstractmethod
    async def delete_run(self, run_id: str) -> int:
        """Delete all checkpoints of a run, pinned and leased ones, too; returns how many.

        Heads go first, so that nobody recovers what is half gone, and whoever still works on the run learns of it by
        the next save, which follows a checkpoint that is gone, or history (`LeaseLostError`).

        Raises:
            ValueError: The id is not fit to be one.
        """

    @abstractmethod
    async def cleanup_expired(
        self,
        max_age_seconds: float,
        *,
        keep_paused: bool = True,
        workflow_name: str | None = None,
        except_workflows: Collection[str] = (),
        on_deleted: OnDeleted | None = None,
    ) -> int:
        """Delete the checkpoints that were created longer ago than this; returns how many.

        Pinned and leased ones are kept, and so are the heads of abandoned runs (see `list_abandoned`), whatever their
        age: a clock that jumps ahead makes every run look abandoned long ago. Such a run ends by being recovered,
        cancelled or deleted. The age of any other head that was leased counts from the end of its lease.

        A store may leave what somebody else has locked for the next call, rather than wait for it.

        Args:
            max_age_seconds: Age in seconds, at least 0.
            keep_paused: Whether those that wait for an answer are kept, whatever their age.
            workflow_name: Only this workflow's; None: all workflows'.
            except_workflows: None of these workflows', say since they have a policy of their own.
            on_deleted: Called now and then while it lasts, with the number deleted since the last call.

        Raises:
            ValueError: An argument makes no sense, or both a workflow is named and others are left out.
        """

    @abstractmethod
    async def trim_per_workflow(
        self,
        max_per_workflow: int,
        *,
        keep_paused: bool = True,
        workflow_name: str | None = None,
        except_workflows: Collection[str] = (),
        on_deleted: OnDeleted | None = None,
    ) -> int:
        """Delete all but the newest checkpoints of each workflow; returns how many.

        Pinned ones, leased ones and the heads of abandoned runs (see `list_abandoned`) are kept besides and use up no
        slot. A store may leave what somebody else has locked for the next call, rather than wait for it.

        Args:
            max_per_workflow: How many to keep of each workflow, at least 1.
            keep_paused: Whether those that wait for an answer are kept besides, too.
            workflow_name: See `cleanup_expired`.
            except_workflows: See `cleanup_expired`.
            on_deleted: See `cleanup_expired`.

        Raises:
            ValueError: See `cleanup_expired`.
        """

    async def list_bases(self, checkpoint_id: str) -> list[CheckpointMetadata]:
        """What must be read to load a checkpoint that is stored as a delta, the nearest first; reads no payload.

        Returns:
            What it is a delta of, what that one is a delta of, and so on to one that is stored whole. Empty: it is
            stored whole itself, as all are in a store that makes no deltas, or there is no such checkpoint.

        Raises:
            ValueError: That can be no id.
        """
        check_name("checkpoint_id", checkpoint_id)
        return []

    async def count_needing(self, checkpoint_id: str) -> int:
        """How many checkpoints cannot be loaded without this one, since they are stored as deltas; reads no payload.

        Returns:
            All whose `list_bases` has it. 0 also where there is no such checkpoint.

        Raises:
            ValueError: That can be no id.
        """
        check_name("checkpoint_id", checkpoint_id)
        return 0

    @abstractmethod
    async def get_stats(self) -> CheckpointStats:
        """Count what is stored, without reading a payload."""

    async def check(self) -> None:
        """Make sure that the store can be used at this moment: that it answers, and is as this version needs it.

        Raises:
            CheckpointStoreError: It cannot.
        """
        await self.list_checkpoints(limit=1)

    async def take_pulse(self) -> CheckpointPulse:
        """Count what must be known often: what waits, and what runs have a process. Quick however much is stored."""
        return count_pulse(await self.list_checkpoints(), (await self.get_stats()).database_bytes)

    async def take_census(self) -> CheckpointCensus:
        """Count everything, by workflow and by status, in one pass over all that is stored; reads no payload.

        It takes its time, and has no deadline.
        """
        return count_census(await self.list_checkpoints(), (await self.get_stats()).database_bytes)

    async def take_series(self, since: float, until: float, steps: int) -> list[SavedInStep]:
        """Count what was saved in each of some equal steps of time, by `created_at`, as far as it is still stored.

        Reads no payload. It takes longer the more was saved in that time, and has no deadline.

        Args:
            since: When the first step begins, in Unix seconds.
            until: When the last one ends; what was created at that very time is not counted.
            steps: How many there are, at most 10,000; each lasts at least a millisecond.

        Returns:
            All steps, the earliest first, those in which nothing was saved, too.

        Raises:
            ValueError: An argument makes no sense.
        """
        span = Steps(since, until, steps)
        return count_series(await self.list_checkpoints(created_after=span.since, created_before=span.until), span)

    async def vacuum(self) -> None:
        """Give back the space of deleted checkpoints and refresh what the database knows of its indexes.

        Other calls may have to wait for it. Has no deadline.
        """

    async def close(self) -> None:
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
