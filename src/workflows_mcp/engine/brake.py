"""Brings a run to a stop between two blocks: what is under way goes on to its end, and nothing new is begun."""

import asyncio

from workflows_mcp.errors import BlockTypeDisabledError

__all__ = ["Brake", "HeldBackError"]


class HeldBackError(Exception):
    """A block must not begin any more; it begins where the run goes on."""


class Brake:
    """Is asked before anything begins.

    Attributes:
        is_pulled: Whether the run is to come to a stop.
        has_held: Whether anything was held back, so that the run is not as far as it could be.
        refusal: Why something cannot be done on this server at all; None: all can.
    """

    def __init__(self) -> None:
        self.has_held = False
        self.is_pulled = False
        self.refusal: BlockTypeDisabledError | None = None
        self._sleepers: set[asyncio.Event] = set()

    def pull(self) -> None:
        """From now on nothing begins."""
        self.is_pulled = True
        for woken in self._sleepers:
            woken.set()

    def refuse(self, error: BlockTypeDisabledError) -> None:
        """Hold back something that only other servers can do, and with it all that would begin."""
        self.refusal = error
        self.has_held = True
        self.pull()

    def holds(self) -> bool:
        """Whether what is about to begin must not."""
        if self.is_pulled:
            self.has_held = True
        return self.is_pulled

    async def sleep(self, seconds: float) -> None:
        """Sleep so long, or until the brake is pulled."""
        woken = asyncio.Event()
        self._sleepers.add(woken)
        try:
            if not self.is_pulled:
                async with asyncio.timeout(seconds):
                    await woken.wait()
        except TimeoutError:
            pass
        finally:
            self._sleepers.discard(woken)
