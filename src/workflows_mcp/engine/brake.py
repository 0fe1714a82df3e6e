"""Brings a run to a stop between two blocks: what is under way goes on to its end, and nothing new is begun."""

import asyncio
import contextlib

__all__ = ["Brake", "HeldBackError"]


class HeldBackError(Exception):
    """A block must not begin any more; it begins where the run goes on."""


class Brake:
    """Is asked before anything begins.

    Attributes:
        has_held: Whether anything was held back, so that the run is not as far as it could be.
    """

    def __init__(self) -> None:
        self.has_held = False
        self._pulled = asyncio.Event()

    @property
    def is_pulled(self) -> bool:
        """Whether the run is to come to a stop."""
        return self._pulled.is_set()

    def pull(self) -> None:
        """From now on nothing begins."""
        self._pulled.set()

    def holds(self) -> bool:
        """Whether what is about to begin must not."""
        self.has_held = self.has_held or self.is_pulled
        return self.is_pulled

    async def sleep(self, seconds: float) -> None:
        """Sleep so long, or until the brake is pulled."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._pulled.wait()
