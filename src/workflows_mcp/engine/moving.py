"""What a store does with checkpoints as a whole, state and place, when they are exported, imported or copied.

All of it is done here by the other methods of the contract, so that any store can do it; one that can do better in bulk
overrides it.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, cast

from workflows_mcp.engine.filters import CheckpointFilter, Position, position_of
from workflows_mcp.engine.stored import (
    OnConflict,
    OnUnreadable,
    StoredCheckpoint,
    Writing,
    check_batch,
    load_one_by_one,
    with_place,
    write_one_by_one,
)
from workflows_mcp.errors import CheckpointDecodeError, CheckpointKeyError

if TYPE_CHECKING:
    from workflows_mcp.engine.contract import CheckpointStore

__all__ = ["MovingCheckpoints"]

_PAGE = 100


class MovingCheckpoints:
    """The part of `CheckpointStore` that reads and writes checkpoints with their places."""

    async def iter_stored(
        self, wanted: CheckpointFilter | None = None, *, on_unreadable: OnUnreadable | None = None
    ) -> AsyncIterator[StoredCheckpoint]:
        """Stream checkpoints with their places, the newest first, each in another place than the one before.

        Args:
            wanted: Which ones; None: all.
            on_unreadable: Called with the id of a damaged checkpoint and the error, after which the stream goes on;
                None: the error is raised.

        Raises:
            CheckpointKeyError: The keys of this process do not fit a checkpoint, which is not to be taken for damaged.
        """
        store = _store(self)
        last: Position | None = None
        while page := await store._list(wanted or CheckpointFilter(), limit=_PAGE, before=last):  # noqa: SLF001 - a part of the contract
            for metadata in page:
                try:
                    state = await store.load_checkpoint(metadata.checkpoint_id)
                except CheckpointKeyError:
                    raise  # it is not damaged, and nobody may take it for that
                except CheckpointDecodeError as error:
                    if on_unreadable is None:
                        raise
                    on_unreadable(metadata.checkpoint_id, error)
                else:
                    if state is not None and state.created_at == metadata.created_at:  # or else saved anew meanwhile
                        yield with_place(state, metadata)
            last = position_of(page[-1])

    async def load_stored(
        self,
        checkpoint_ids: Collection[str],
        *,
        known: Iterable[StoredCheckpoint] = (),  # noqa: ARG002 - for those that can make use of it
        on_unreadable: OnUnreadable | None = None,
    ) -> dict[str, StoredCheckpoint]:
        """Load some checkpoints with their places, by id; those that are absent are left out.

        Args:
            checkpoint_ids: Which ones. All that are found are in memory together.
            known: What may have the same states: one whose very JSON is found need not be decoded again.
            on_unreadable: See `iter_stored`.

        Raises:
            CheckpointKeyError: See `iter_stored`.
        """
        return await load_one_by_one(_store(self), checkpoint_ids, on_unreadable)

    async def write_stored(
        self, checkpoints: Sequence[StoredCheckpoint], *, on_conflict: OnConflict = "fail"
    ) -> dict[str, Writing]:
        """Write checkpoints as they were stored elsewhere, in their places, durably.

        Nobody holds a lease on what is written. What is there already with the same state stays as it is, but becomes
        history if it is history elsewhere, unless somebody has a lease on it that has not run out: a run that has gone
        on must not go on from there once more. For the same reason what is history here never becomes a head again,
        and what is replaced by history is history, whoever has a lease on it.

        A store of this package writes all of it or nothing, and never over what somebody else saves meanwhile, unless
        it is to be replaced. What does not override this method checks all of it, writes it one by one, and has
        leases end when they are written.

        Args:
            checkpoints: What to write; each id once. None at all ends an import or a copy: what a store keeps of the
                batches before, to store the next one the smaller for it, it need not keep any more.
            on_conflict: What to do about a checkpoint that is there with another state: `fail`, `skip` it, or
                `replace` its state and its pin; its lease is left alone, as in any save.

        Returns:
            What became of each, by id.

        Raises:
            ValueError: An argument is not fit to be one.
            CheckpointConflictError: Another state is there, and `on_conflict` is `fail`; nothing was written.
            CheckpointEncodeError: A state holds something that is not plain JSON.
            CheckpointTooLargeError: A state is larger than any store takes.
            StoreUnavailableError: The outcome is unknown; writing again is safe.
            StoreFullError: There is no space left.
        """
        check_batch(checkpoints, on_conflict)
        return await write_one_by_one(_store(self), checkpoints, on_conflict)

    async def count_stored(self, wanted: CheckpointFilter | None = None) -> int | None:  # noqa: ARG002 - for those that can
        """How many checkpoints pass a filter; None: it would take too long to know."""
        return None

    @property
    def description(self) -> str:
        """Names what keeps the checkpoints, for people; holds no password."""
        return f"a {type(self).__name__}"

    async def identity(self) -> object:
        """Tells what keeps the checkpoints from anything else that does: equal for two stores over one table."""
        return id(self)


def _store(store: MovingCheckpoints) -> "CheckpointStore":
    return cast("CheckpointStore", store)
