"""What runs are doing, shown while they go on."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from workflows_mcp.cli.log import is_json
from workflows_mcp.cli.page import Page
from workflows_mcp.cli.telling import Teller

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from workflows_mcp.engine.events import Event

__all__ = ["STYLES", "Watcher", "watch_run"]

STYLES = {
    "✓": "green",
    "✗": "bold red",
    "-": "dim",
    "…": "dim",
    "○": "dim",
    "●": "cyan",
    "?": "bold yellow",
    "!": "bold red",
}
"""How what begins with a sign looks on a terminal."""

_MOST_AT_WORK = 12
"""So many blocks that are at work are shown at a time: a terminal's screen must hold them."""


class Watcher(Protocol):
    """Takes the events of runs."""

    run_id: str | None
    """The run that it has seen last; None before the first event."""

    async def __call__(self, event: "Event") -> None:
        """Take an event."""


@asynccontextmanager
async def watch_run(page: Page, *, many: bool = False) -> AsyncIterator[Watcher]:
    """Show what happens in a run: live on a terminal, line by line elsewhere, or in the log where that is JSON.

    Args:
        page: Where.
        many: Whether there may be several runs; then each line names its run, and the ends are told, too.
    """
    if is_json():
        yield LoggingWatcher()
        return
    console = page.unbreakable_console()
    if console is None:
        yield PlainWatcher(page, many=many)
        return
    from rich.live import Live

    watcher = LiveWatcher(console, many=many)
    with Live(
        get_renderable=watcher.render, console=console, transient=True, refresh_per_second=8, redirect_stdout=False
    ):
        yield watcher


class LoggingWatcher:
    """A line in the log for each thing that happens, for programs.

    Attributes:
        run_id: The run that it has seen last.
    """

    def __init__(self) -> None:
        from workflows_mcp.telemetry.logs import RunLog

        self.run_id: str | None = None
        self._log = RunLog()

    async def __call__(self, event: "Event") -> None:
        """Take an event."""
        self.run_id = event.run_id
        await self._log.listen(event)


class _Telling:
    """What a watcher has to know to tell of events.

    Attributes:
        run_id: The run that it has seen last.
    """

    def __init__(self, *, many: bool) -> None:
        self.run_id: str | None = None
        self._many = many
        self._tellers: dict[str, Teller] = {}

    def teller(self, run_id: str) -> Teller:
        """Tells of one run."""
        if run_id not in self._tellers:
            self._tellers[run_id] = Teller(tells_end=self._many)
        return self._tellers[run_id]

    def tell(self, event: "Event") -> str | None:
        """A line about an event; None: it is not worth one."""
        from workflows_mcp.engine.events import RunEnded, RunPaused

        self.run_id = event.run_id
        line = self.teller(event.run_id).tell(event)
        if isinstance(event, RunEnded | RunPaused):
            del self._tellers[event.run_id]
        if line is None or not self._many or line.startswith("run "):
            return line
        return f"{event.run_id} {line}"


class PlainWatcher(_Telling):
    """One line for each thing that happens."""

    def __init__(self, page: Page, *, many: bool = False) -> None:
        super().__init__(many=many)
        self._page: Page | None = page

    async def __call__(self, event: "Event") -> None:
        """Take an event."""
        line = self.tell(event)
        if line is None or self._page is None:
            return
        try:
            self._page.line(line)
        except OSError:  # nobody reads it any more, and the run is more than its progress
            self._page = None


class LiveWatcher(_Telling):
    """The same, and below it the blocks that are at work, with their time."""

    def __init__(self, console: "Console", *, many: bool = False) -> None:
        super().__init__(many=many)
        self._console = console
        self._running: dict[tuple[str, str], float] = {}

    async def __call__(self, event: "Event") -> None:
        """Take an event."""
        from workflows_mcp.engine.events import BlockFinished, BlockStarted, RunEnded, RunPaused

        if isinstance(event, BlockStarted):
            self._running[event.run_id, event.block_id] = time.monotonic()
        elif isinstance(event, BlockFinished):
            self._running.pop((event.run_id, event.block_id), None)
        elif isinstance(event, RunPaused | RunEnded):
            self._running = {place: since for place, since in self._running.items() if place[0] != event.run_id}
        line = self.tell(event)
        if line is not None:
            style = STYLES.get(line.removeprefix(f"{event.run_id} ").strip()[0], "bold")
            self._console.print(line, style=style, markup=False, soft_wrap=True)

    def render(self) -> "RenderableType":
        """The blocks that are at work; outer ones began first."""
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        now = time.monotonic()
        shown = list(self._running.items())[:_MOST_AT_WORK]
        more = len(self._running) - len(shown)
        lines: list[RenderableType] = [
            Spinner("dots", text=Text(self._at_work(run_id, path, now - since)), style="cyan")
            for (run_id, path), since in shown
        ]
        return Group(*lines, *([Text(f"  and {more} more", style="cyan")] if more else []))

    def _at_work(self, run_id: str, path: str, seconds: float) -> str:
        items = self.teller(run_id).items_done(path)
        return f" {f'{run_id} ' if self._many else ''}{path} {seconds:.0f} s{f', {items:,} done' if items else ''}"
