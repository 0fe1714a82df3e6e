"""Tells a client how far the run has come that its call waits for. No client, however slow, slows the run down."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from workflows_mcp.engine import events

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context

    from workflows_mcp.server.services import Services

__all__ = ["listen", "telling_progress"]

_MOST_UNSENT = 100
"""How many waves a client may lag behind before the oldest are left out."""

_SECONDS_TO_SEND_THE_LAST = 1.0
_MOST_NAMES = 5


@asynccontextmanager
async def telling_progress(call: "Context[Services, Any]") -> AsyncIterator[None]:
    """Tell the client of a call about the waves of the run that is begun, or gone on with, inside.

    The progress is the number of waves that are done; the waves of nested workflows lie between two such numbers.
    """
    watch = _Watch(call)
    token = _watching.set(watch)
    try:
        yield
        await watch.send_the_last()
    finally:
        _watching.reset(token)
        watch.close()


async def listen(event: events.Event) -> None:
    """Pass an event on to the call that its run was begun in; an executor is told to call this for all of them."""
    watch = _watching.get()
    if watch is not None:
        watch.note(event)


class _Watch:
    """A call that waits for a run, from its beginning to its end."""

    def __init__(self, call: "Context[Services, Any]") -> None:
        # None once the call is over: the run may go on for long, and would keep all of it in memory.
        self._call: Context[Services, Any] | None = call
        self._run_id: str | None = None
        self._waves = 0
        self._nested = 0
        self._told = -1.0
        self._unsent: deque[tuple[float, str]] = deque(maxlen=_MOST_UNSENT)
        self._sending: asyncio.Task[None] | None = None

    def note(self, event: events.Event) -> None:
        """Note what has happened, and go on at once."""
        if self._call is None or event.run_id != (self._run_id or event.run_id):
            return
        match event:
            case events.RunStarted():
                self._run_id, self._waves = event.run_id, len(event.waves)
            case events.WaveStarted(within=""):
                self._nested = 0
                self._tell(event.wave, f"wave {event.wave + 1} of {self._waves}: {_listed(event.block_ids)}")
            case events.WaveStarted():
                self._nested += 1
                between = int(self._told) + self._nested / (self._nested + 1)
                if self._unsent and self._unsent[-1][0] % 1:  # loops make thousands of them: the newest will do
                    self._unsent.pop()
                names = tuple(path.removeprefix(f"{event.within}/") for path in event.block_ids)
                self._tell(between, f"{event.within}, wave {event.wave + 1}: {_listed(names)}")
            case events.RunEnded(status="success"):
                self._tell(self._waves, "all waves are done")

    def _tell(self, progress: float, message: str) -> None:
        if progress <= self._told:
            return
        self._told = progress
        self._unsent.append((progress, message))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(), name="tell a client of progress")

    async def _send(self) -> None:
        while self._unsent and self._call is not None:
            progress, message = self._unsent.popleft()
            try:
                await self._call.report_progress(progress, self._waves, message)
            except Exception:  # noqa: BLE001 - a client that is gone needs to be told nothing
                self.close()

    async def send_the_last(self) -> None:
        """Give a client that is quick enough all that it was not sent yet, before the answer."""
        if self._sending is not None and not self._sending.done():
            await asyncio.wait([self._sending], timeout=_SECONDS_TO_SEND_THE_LAST)

    def close(self) -> None:
        """Tell nothing any more."""
        self._call = None
        self._unsent.clear()
        if self._sending is not None and self._sending is not asyncio.current_task():
            self._sending.cancel()


_watching: ContextVar[_Watch | None] = ContextVar("watching", default=None)
"""The call that began what runs here: tasks inherit it from whoever makes them."""


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
