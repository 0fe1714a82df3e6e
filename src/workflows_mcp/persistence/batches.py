"""Checkpoints in batches: as many as fit into one commit, and into memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.filters import CheckpointFilter
from workflows_mcp.engine.stored import OnUnreadable, StoredCheckpoint
from workflows_mcp.errors import CheckpointStoreError

__all__ = ["Batch", "OnProgress", "batches_of", "side_by_side"]

OnProgress = Callable[[str, int, int | None], None]
"""Hears what is done (`exported`, `checked`, `imported`, `copied`), to how many so far, and of how many; None: nobody
has counted them."""

_ROWS = 500
_BYTES = 2**20
"""What a batch holds at the most. Saves that come meanwhile wait for its commit, for some hundredths of a second."""


class Batch:
    """Checkpoints with different ids; of two with one id, the later one."""

    def __init__(self) -> None:
        self._by_id: dict[str, StoredCheckpoint] = {}
        self._bytes = 0

    def add(self, stored: StoredCheckpoint) -> bool:
        """Take another one; True when the batch is full."""
        self._by_id.pop(stored.checkpoint_id, None)  # or the later one would stand in the place of the earlier one
        self._by_id[stored.checkpoint_id] = stored
        self._bytes += len(stored.plain)
        return len(self._by_id) >= _ROWS or self._bytes >= _BYTES

    def take(self) -> list[StoredCheckpoint]:
        """What the batch holds, which is empty afterwards."""
        taken = list(self._by_id.values())
        self._by_id, self._bytes = {}, 0
        return taken


async def batches_of(
    store: CheckpointStore, wanted: CheckpointFilter, on_unreadable: OnUnreadable | None
) -> AsyncIterator[list[StoredCheckpoint]]:
    """Stream a store's checkpoints in batches, the newest first.

    Args:
        store: Where they are.
        wanted: Which ones.
        on_unreadable: Called with the id of a checkpoint that is damaged, or that no store would take, and why; it is
            left out then. None: that is raised.
    """
    batch = Batch()
    async for stored in store.iter_stored(wanted, on_unreadable=on_unreadable):
        try:
            stored.require_fit()
        except CheckpointStoreError as error:
            if on_unreadable is None:
                raise
            on_unreadable(stored.checkpoint_id, error)
            continue
        if batch.add(stored):
            yield batch.take()
    if last := batch.take():
        yield last


async def side_by_side(*calls: Coroutine[Any, Any, None]) -> None:
    """Do several things at the same time; when one fails, the others are cancelled, and its error is raised alone."""
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(call)
    except BaseExceptionGroup as failures:
        failure = failures.exceptions[0]
    if failure is not None:
        raise failure
