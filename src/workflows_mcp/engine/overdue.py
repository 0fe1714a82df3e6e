"""Finds the questions that nobody has answered in time, so that their default answers are taken."""

import math
import time

from workflows_mcp.engine.checkpoint import CheckpointMetadata
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.errors import CheckpointDecodeError

__all__ = ["OverdueQuestions"]

_PAGE = 500


class OverdueQuestions:
    """Looks through what waits in a store, again and again. Each checkpoint is loaded once, however often it is seen.

    Args:
        store: Where to look.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._ends: dict[str, float] = {}

    async def find(self) -> list[str]:
        """The ids of the checkpoints that wait for an answer and should have had one by now."""
        ends: dict[str, float] = {}
        last: CheckpointMetadata | None = None
        while True:
            page = await self._store.list_checkpoints(is_paused=True, limit=_PAGE, before=last)
            for metadata in page:
                known = self._ends.get(metadata.checkpoint_id)
                end = await self._end_of(metadata.checkpoint_id) if known is None else known
                ends[metadata.checkpoint_id] = end
            if len(page) < _PAGE:
                break
            last = page[-1]
        self._ends = ends
        now = time.time()
        return [checkpoint_id for checkpoint_id, end in ends.items() if end <= now]

    async def _end_of(self, checkpoint_id: str) -> float:
        try:
            state = await self._store.load_checkpoint(checkpoint_id)
        except (CheckpointDecodeError, ValueError):  # the latter: a table of another origin has such an id
            return math.inf
        end = None if state is None else (state.pause_metadata or {}).get("expires_at")
        return float(end) if isinstance(end, int | float) else math.inf
