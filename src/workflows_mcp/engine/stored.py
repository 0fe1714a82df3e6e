"""A checkpoint as it is stored: what travels when checkpoints are exported, imported or copied.

A checkpoint is its state and its *place*: whether it is pinned, whether it is history, and when its lease ended. Who
held it does not travel: the lease of what arrives counts as run out, so that nobody is taken for somebody else, and the
runs that were under way can be recovered where they arrive.
"""

import functools
import math
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, get_args

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStatus
from workflows_mcp.engine.filters import CheckpointFilter, check_columns, check_flag, check_seconds
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.errors import (
    CheckpointConflictError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointKeyError,
    CheckpointStoreError,
)

if TYPE_CHECKING:
    from workflows_mcp.engine.contract import CheckpointStore

__all__ = [
    "OnConflict",
    "OnUnreadable",
    "StoredCheckpoint",
    "Writing",
    "by_now",
    "check_batch",
    "check_conflict",
    "judge",
    "listing_of",
    "load_one_by_one",
    "with_place",
    "write_one_by_one",
]

OnConflict = Literal["fail", "skip", "replace"]
"""What becomes of a checkpoint whose id is there already with other content."""

OnUnreadable = Callable[[str, CheckpointStoreError], None]
"""Hears the id of a checkpoint that cannot be read, and why."""

_MOST_NAMED = 3


class Writing(StrEnum):
    """What became of a checkpoint that was to be written.

    Attributes:
        WRITTEN: It was new.
        PRESENT: It was there already.
        HELD: It was there already, and stays a head, though it is history where it comes from: somebody has a lease on
            it, or changed it at that moment.
        REPLACED: It took the place of another one.
        SKIPPED: Another one is there, and was left alone.
        PARTED: The same, and that one stays a head, though this one is history where it comes from.
    """

    WRITTEN = "written"
    PRESENT = "present"
    HELD = "held"
    REPLACED = "replaced"
    SKIPPED = "skipped"
    PARTED = "parted"

    @property
    def is_kept(self) -> bool:
        """Whether the store now has the state."""
        return self not in {Writing.SKIPPED, Writing.PARTED}

    @property
    def stays_head(self) -> bool:
        """Whether it is a head, and another checkpoint follows it elsewhere: its run may go on from both."""
        return self in {Writing.HELD, Writing.PARTED}


@dataclass(frozen=True)
class StoredCheckpoint:
    """A state and its place.

    Attributes:
        state: The state.
        pinned: Whether retention leaves it alone.
        superseded: Whether another checkpoint of its run follows it.
        lease_ended_at: Unix time in seconds at which its lease ended; None: it was never leased, or is history. One
            that goes on where it is read ends with that, and no store takes a time to come.

    Raises:
        ValueError: A value is not fit to be one.
    """

    state: CheckpointState
    pinned: bool = False
    superseded: bool = False
    lease_ended_at: float | None = None

    def __post_init__(self) -> None:
        check_flag("pinned", self.pinned)
        check_flag("superseded", self.superseded)
        if self.lease_ended_at is not None:
            ended = check_seconds("lease_ended_at", self.lease_ended_at)
            object.__setattr__(self, "lease_ended_at", None if self.superseded else ended)

    @property
    def checkpoint_id(self) -> str:
        """Names the checkpoint."""
        return self.state.checkpoint_id

    @property
    def is_waiting(self) -> bool:
        """Whether it is paused and not followed."""
        return self.state.is_paused and not self.superseded

    @functools.cached_property
    def plain(self) -> bytes:
        """The state's plain JSON, made once.

        Raises:
            CheckpointEncodeError: The state holds something that is not plain JSON, as one of another origin may.
            CheckpointTooLargeError: It is larger than any store takes.
        """
        return encode_state(self.state)

    def moved(self, pinned: bool, superseded: bool, lease_ended_at: float | None) -> "StoredCheckpoint":  # noqa: FBT001 - as a row has them
        """The same state in another place; its JSON is not made anew."""
        moved = StoredCheckpoint(self.state, pinned, superseded, lease_ended_at)
        vars(moved)["plain"] = self.plain
        return moved

    def has_state_of(self, other: "StoredCheckpoint") -> bool:
        """Whether both have exactly the same state."""
        try:
            return self.plain == other.plain
        except CheckpointEncodeError:
            return False

    def require_fit(self) -> None:
        """Make sure that every store takes it.

        Raises:
            CheckpointStoreError: One does not; the message says why.
        """
        try:
            check_columns(self.state)
        except ValueError as error:
            reason = str(error)
        else:
            _ = self.plain
            return
        raise CheckpointEncodeError(f"checkpoint {self.checkpoint_id!r} fits into no store: {reason}")


def check_conflict(on_conflict: str) -> None:
    """Check what is to be done about conflicts.

    Raises:
        ValueError: It is unknown.
    """
    if on_conflict not in get_args(OnConflict):
        raise ValueError(f"on_conflict must be one of: {', '.join(get_args(OnConflict))}")


def check_batch(checkpoints: Sequence[StoredCheckpoint], on_conflict: str) -> None:
    """Check what is to be written.

    Raises:
        ValueError: An id stands twice, a column does not fit, or `on_conflict` is unknown.
        CheckpointEncodeError: A state holds something that is not plain JSON.
        CheckpointTooLargeError: A state is larger than any store takes.
    """
    check_conflict(on_conflict)
    if len({one.checkpoint_id for one in checkpoints}) < len(checkpoints):
        raise ValueError("a checkpoint's id stands twice in one batch")
    for one in checkpoints:
        check_columns(one.state)
        _ = one.plain


def judge(
    given: Iterable[StoredCheckpoint], there: dict[str, StoredCheckpoint | None], on_conflict: OnConflict
) -> dict[str, Writing]:
    """Decide what becomes of each checkpoint, by id.

    Args:
        given: What is to be written.
        there: What bears their ids; None: something that cannot be read.
        on_conflict: What is done about other content.

    Raises:
        CheckpointConflictError: Some have other content, and nothing may be done about that.
    """
    verdicts = {one.checkpoint_id: _verdict(one, there, on_conflict) for one in given}
    conflicts = [name for name, verdict in verdicts.items() if verdict is None]
    if conflicts:
        raise _conflict(conflicts)
    return {name: verdict for name, verdict in verdicts.items() if verdict is not None}


def _verdict(
    given: StoredCheckpoint, there: dict[str, StoredCheckpoint | None], on_conflict: OnConflict
) -> Writing | None:
    if given.checkpoint_id not in there:
        return Writing.WRITTEN
    old = there[given.checkpoint_id]
    if old is not None and old.has_state_of(given):
        is_same = old.pinned is given.pinned and (given.lease_ended_at is None or _has_had_lease(old))
        if is_same or on_conflict != "replace":
            return Writing.PRESENT
    skipped = Writing.PARTED if given.superseded and old is not None and not old.superseded else Writing.SKIPPED
    return {"skip": skipped, "replace": Writing.REPLACED}.get(on_conflict)


def _has_had_lease(stored: StoredCheckpoint) -> bool:
    return stored.superseded or stored.lease_ended_at is not None


def _conflict(ids: Sequence[str]) -> CheckpointConflictError:
    named = ", ".join(map(repr, ids[:_MOST_NAMED])) + (
        f" and {len(ids) - _MOST_NAMED:,} more" * (len(ids) > _MOST_NAMED)
    )
    return CheckpointConflictError(
        f"{'checkpoint' if len(ids) == 1 else 'checkpoints'} {named} {'is' if len(ids) == 1 else 'are'} there already "
        "with other content, and nothing of this batch was written. Skip what is there, or replace it: on_conflict "
        "(--on-conflict) skip or replace"
    )


# What follows does for any store, by the other methods of the contract, what the stores of this package do in bulk.


async def listing_of(store: "CheckpointStore", state: CheckpointState) -> CheckpointMetadata | None:
    """How a checkpoint that was loaded is listed; None: it was deleted, or saved anew, meanwhile."""
    at_that_time = CheckpointFilter(
        created_after=state.created_at, created_before=math.nextafter(state.created_at, math.inf)
    )
    # Nothing stands between an id and the same with this character behind it.
    found = await store._list(at_that_time, limit=1, before=(state.created_at, f"{state.checkpoint_id}\x01"))  # noqa: SLF001 - a part of the contract
    return found[0] if found and found[0].checkpoint_id == state.checkpoint_id else None


def by_now(lease_ended_at: float | None) -> float | None:
    """The end of a lease, which is now if it would be later."""
    return None if lease_ended_at is None else min(lease_ended_at, time.time())


def with_place(state: CheckpointState, metadata: CheckpointMetadata) -> StoredCheckpoint:
    """A state in the place that a listing shows."""
    return StoredCheckpoint(state, metadata.pinned, metadata.superseded, by_now(metadata.lease_expires_at))


async def load_one_by_one(
    store: "CheckpointStore", checkpoint_ids: Collection[str], on_unreadable: OnUnreadable | None
) -> dict[str, StoredCheckpoint]:
    """What `load_stored` returns."""
    found: dict[str, StoredCheckpoint] = {}
    for name in checkpoint_ids:
        try:
            state = await store.load_checkpoint(name)
        except CheckpointKeyError:
            raise  # it is not damaged, and nobody may take it for that
        except CheckpointDecodeError as error:
            if on_unreadable is None:
                raise
            on_unreadable(name, error)
            continue
        metadata = None if state is None else await listing_of(store, state)
        if state is not None and metadata is not None:
            found[name] = with_place(state, metadata)
    return found


async def write_one_by_one(
    store: "CheckpointStore", checkpoints: Sequence[StoredCheckpoint], on_conflict: OnConflict
) -> dict[str, Writing]:
    """What `write_stored` does, checkpoint after checkpoint. A lease ends when it is written, and not when it did."""
    unreadable: dict[str, StoredCheckpoint | None] = {}
    there = await store.load_stored(
        [one.checkpoint_id for one in checkpoints], on_unreadable=lambda name, _: unreadable.update({name: None})
    )
    verdicts = judge(checkpoints, {**there, **unreadable}, on_conflict)
    for one in checkpoints:
        name = one.checkpoint_id
        old = there.get(name)
        if verdicts[name] in {Writing.WRITTEN, Writing.REPLACED}:
            await store.save_checkpoint(one.state)
            await store.pin_checkpoint(name, one.pinned)
            if one.lease_ended_at is not None and (old is None or not _has_had_lease(old)):
                await _lease_and_let_go(store, name)
        becomes_history = one.superseded and verdicts[name].is_kept and (old is None or not old.superseded)
        if becomes_history and verdicts[name] is Writing.PRESENT and await _is_leased(store, one.state):
            verdicts[name] = Writing.HELD
        elif becomes_history:
            await _make_history(store, one.state)
    return verdicts


async def _lease_and_let_go(store: "CheckpointStore", checkpoint_id: str) -> None:
    token = uuid.uuid4().hex
    await store.claim_checkpoint(checkpoint_id, token, 1)
    await store.release_claim(checkpoint_id, token)


async def _is_leased(store: "CheckpointStore", state: CheckpointState) -> bool:
    metadata = await listing_of(store, state)
    return metadata is not None and (metadata.lease_expires_at or 0.0) > time.time()


async def _make_history(store: "CheckpointStore", state: CheckpointState) -> None:
    """Have a checkpoint followed by one that is then deleted: what was followed stays history."""
    marker = replace(
        state,
        checkpoint_id=f"history-{uuid.uuid4().hex}",
        run_id=None,
        status=CheckpointStatus.CANCELLED,
        paused_block_id=None,
    )
    await store.save_checkpoint(marker, follows=state.checkpoint_id)
    await store.delete_checkpoint(marker.checkpoint_id)
