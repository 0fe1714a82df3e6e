"""What the database counts, kept for a moment: with many checkpoints it takes a while, and pages ask for it often."""

import asyncio
import time
from dataclasses import dataclass

from workflows_mcp.engine.census import CheckpointCensus
from workflows_mcp.server.services import Services

__all__ = ["Counted", "Counts"]

_FRESH_SECONDS = 15.0


@dataclass(frozen=True)
class Counted:
    """A census, and when it was taken.

    Attributes:
        census: What was counted.
        taken_at: When, in Unix seconds.
    """

    census: CheckpointCensus
    taken_at: float


class Counts:
    """Counts what a store holds, once for all that ask at about the same time.

    Args:
        services: Have the store.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._counting: asyncio.Task[Counted] | None = None

    async def take(self) -> Counted:
        """What there is, as of a moment ago.

        Raises:
            CheckpointStoreError: The store failed.
        """
        if self._counting is None or (self._counting.done() and not _is_fresh(self._counting)):
            self._counting = asyncio.create_task(self._count(), name="count for the pages")
        return await asyncio.shield(self._counting)

    async def _count(self) -> Counted:
        return Counted(await self._services.store.take_census(), time.time())


def _is_fresh(counting: "asyncio.Task[Counted]") -> bool:
    if counting.cancelled() or counting.exception() is not None:
        return False
    return time.time() - counting.result().taken_at < _FRESH_SECONDS
