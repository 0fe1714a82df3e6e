"""From one store to another."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.filters import CheckpointFilter
from workflows_mcp.engine.stored import OnConflict, OnUnreadable, StoredCheckpoint, Writing
from workflows_mcp.errors import CheckpointConflictError, CheckpointStoreError, StoreConfigurationError
from workflows_mcp.persistence.batches import OnProgress, batches_of, side_by_side
from workflows_mcp.persistence.transfer_file import Digest, line_of

__all__ = ["Copied", "copy"]

_AHEAD = 1
"""So many batches wait between two steps at the most."""

_MOST_LISTED = 1000


@dataclass(frozen=True)
class Copied:
    """What a copy did.

    Attributes:
        written: How many checkpoints are new in the target.
        present: How many were there already.
        replaced: How many replaced others.
        skipped: How many others were left as they are.
        heads: How many of `present` and `skipped` stayed heads, though others follow them where they come from:
            somebody has a lease on them, or they differ.
        damaged: How many of the source were left out, since they cannot be read.
        differing: The ids of some, at most 1,000, that were not found in the target as they had been copied.
        differing_count: How many these are in all.
        digest: The digest of the lines that an export of what was copied would have.
        seconds: How long it took.
    """

    written: int
    present: int
    replaced: int
    skipped: int
    heads: int
    damaged: int
    differing: Sequence[str]
    differing_count: int
    digest: str
    seconds: float

    @property
    def kept(self) -> int:
        """How many the target now has as the source has them."""
        return self.written + self.present + self.replaced - self.differing_count


class _Copying:
    """A copy under way: one batch is read while another one is written and a third is read back.

    Args:
        source: Where the checkpoints are.
        target: Where they go.
        on_conflict: See `CheckpointStore.write_stored`.
        on_unreadable: See `batches_of`.
        on_progress: Hears how far it is.
    """

    def __init__(
        self,
        source: CheckpointStore,
        target: CheckpointStore,
        on_conflict: OnConflict,
        on_unreadable: OnUnreadable | None,
        on_progress: OnProgress | None,
    ) -> None:
        self._source = source
        self._target = target
        self._on_conflict = on_conflict
        self._on_unreadable = on_unreadable
        self._on_progress = on_progress
        self._to_write: asyncio.Queue[list[StoredCheckpoint] | None] = asyncio.Queue(_AHEAD)
        self._to_verify: asyncio.Queue[tuple[list[StoredCheckpoint], Mapping[str, Writing]] | None] = asyncio.Queue(
            _AHEAD
        )
        self.counts = dict.fromkeys(Writing, 0)
        self.damaged = 0
        self.differing: list[str] = []
        self.differing_count = 0
        self.digest = Digest()
        self.conflict: str | None = None

    async def read(self, wanted: CheckpointFilter) -> None:
        """Read the source."""
        async for batch in batches_of(self._source, wanted, self._count_unreadable):
            await self._to_write.put(batch)
        await self._to_write.put(None)

    async def write(self) -> None:
        """Write what was read to the target."""
        while (batch := await self._to_write.get()) is not None:
            await self._to_verify.put((batch, await self._target.write_stored(batch, on_conflict=self._on_conflict)))
        await self._to_verify.put(None)
        await self._target.write_stored(())  # nothing goes on from the last batch

    async def verify(self, total: int | None) -> None:
        """Read back what was written, and compare."""
        while (written := await self._to_verify.get()) is not None:
            batch, verdicts = written
            copied = [one for one in batch if verdicts[one.checkpoint_id].is_kept]
            # What cannot be read is not found, and so differs.
            found = await self._target.load_stored(
                [one.checkpoint_id for one in copied], known=copied, on_unreadable=lambda _name, _error: None
            )
            for one in copied:
                self.digest.add(line_of(one))
                is_new = verdicts[one.checkpoint_id] in {Writing.WRITTEN, Writing.REPLACED}
                if not _is_as_copied(found.get(one.checkpoint_id), one, is_new=is_new):
                    self.differing_count += 1
                    self.differing += [one.checkpoint_id][: _MOST_LISTED - len(self.differing)]
            for verdict in verdicts.values():
                self.counts[verdict] += 1
            if self._on_progress is not None:
                self._on_progress("copied", sum(self.counts.values()), total)

    def _count_unreadable(self, checkpoint_id: str, error: CheckpointStoreError) -> None:
        if self._on_unreadable is None:
            raise error
        self.damaged += 1
        self._on_unreadable(checkpoint_id, error)


def _is_as_copied(found: StoredCheckpoint | None, copied: StoredCheckpoint, *, is_new: bool) -> bool:
    """Whether the target has what was copied. Of what was there already, the pin and the lease are its own."""
    if found is None or not found.has_state_of(copied) or (copied.superseded and not found.superseded):
        return False
    has_lease = found.superseded or copied.lease_ended_at is None or found.lease_ended_at is not None
    return not is_new or (found.pinned is copied.pinned and has_lease)


async def copy(
    source: CheckpointStore,
    target: CheckpointStore,
    wanted: CheckpointFilter,
    *,
    on_conflict: OnConflict,
    on_unreadable: OnUnreadable | None = None,
    on_progress: OnProgress | None = None,
) -> Copied:
    """Copy checkpoints. See `copy_checkpoints`; what differs in the end is reported, and not raised."""
    started = time.monotonic()
    if await source.identity() == await target.identity():
        raise StoreConfigurationError(f"source and target are the same: {target.description}; name two databases")
    copying = _Copying(source, target, on_conflict, on_unreadable, on_progress)
    conflict: str | None = None
    try:
        await side_by_side(copying.read(wanted), copying.write(), copying.verify(await source.count_stored(wanted)))
    except CheckpointConflictError as error:
        conflict = str(error)
    if conflict is not None:
        raise CheckpointConflictError(
            f"{conflict}. Before it, {sum(copying.counts.values()):,} checkpoints were copied"
        )
    return Copied(
        written=copying.counts[Writing.WRITTEN],
        present=copying.counts[Writing.PRESENT] + copying.counts[Writing.HELD],
        replaced=copying.counts[Writing.REPLACED],
        skipped=copying.counts[Writing.SKIPPED] + copying.counts[Writing.PARTED],
        heads=copying.counts[Writing.HELD] + copying.counts[Writing.PARTED],
        damaged=copying.damaged,
        differing=tuple(copying.differing),
        differing_count=copying.differing_count,
        digest=str(copying.digest),
        seconds=time.monotonic() - started,
    )
