"""What a run is doing, shown while it goes on."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from workflows_mcp.cli.failures import one_line
from workflows_mcp.cli.page import Page

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from workflows_mcp.engine.events import Event

__all__ = ["Watcher", "describe_event", "watch_run"]

_STYLES = {"✓": "green", "✗": "bold red", "-": "dim", "●": "cyan"}


class Watcher(Protocol):
    """Takes the events of a run."""

    run_id: str | None
    """The run that it has seen; None before the first event."""

    async def __call__(self, event: "Event") -> None:
        """Take an event."""


def describe_event(event: "Event", number_of_waves: int) -> str | None:
    """One line about an event; None: it is not worth one."""
    from workflows_mcp.engine import events

    line = None  # a block that starts was told with its wave, and how the run ends is the command's result
    match event:
        case events.RunStarted():
            line = f"run {event.run_id} of {event.workflow_name}{_how_it_begins(event)}"
        case events.WaveStarted():
            line = f"wave {event.wave + 1} of {number_of_waves}: {', '.join(event.block_ids)}"
        case events.BlockFinished(status="succeeded"):
            line = f"  ✓ {event.block_id} ({event.seconds:.1f} s)"
        case events.BlockFinished():
            line = f"  ✗ {event.block_id} ({event.seconds:.1f} s): {one_line(event.message or '')}"
        case events.BlockSkipped():
            line = f"  - {event.block_id} skipped: {one_line(event.reason)}"
        case events.CheckpointSaved():
            line = f"  ● checkpoint {event.checkpoint_id} saved ({event.status.value})"
    return line


def _how_it_begins(event: "Event") -> str:
    from workflows_mcp.engine.events import RunStarted

    assert isinstance(event, RunStarted)
    if event.continued:
        return f" goes on with wave {min(event.wave + 1, len(event.waves))} of {len(event.waves)}"
    return f": {sum(map(len, event.waves))} blocks in {len(event.waves)} waves"


@asynccontextmanager
async def watch_run(page: Page) -> AsyncIterator[Watcher]:
    """Show what happens in a run: live on a terminal, line by line elsewhere."""
    if page.console is None:
        yield PlainWatcher(page)
        return
    from rich.live import Live

    watcher = LiveWatcher(page.console)
    with Live(
        get_renderable=watcher.render, console=page.console, transient=True, refresh_per_second=8, redirect_stdout=False
    ):
        yield watcher


class PlainWatcher:
    """One line for each thing that happens."""

    def __init__(self, page: Page) -> None:
        self.run_id: str | None = None
        self._page: Page | None = page
        self._waves = 0

    async def __call__(self, event: "Event") -> None:
        """Take an event."""
        self.run_id = event.run_id
        self._waves = len(getattr(event, "waves", ())) or self._waves
        line = describe_event(event, self._waves)
        if line is None or self._page is None:
            return
        try:
            self._page.line(line)
        except OSError:  # nobody reads it any more, and the run is more than its progress
            self._page = None


class LiveWatcher:
    """The same, and below it the blocks that are at work, with their time."""

    def __init__(self, console: "Console") -> None:
        self.run_id: str | None = None
        self._console = console
        self._waves = 0
        self._running: dict[str, float] = {}

    async def __call__(self, event: "Event") -> None:
        """Take an event."""
        from workflows_mcp.engine.events import BlockFinished, BlockStarted, RunPaused

        self.run_id = event.run_id
        self._waves = len(getattr(event, "waves", ())) or self._waves
        if isinstance(event, BlockStarted):
            self._running[event.block_id] = time.monotonic()
        elif isinstance(event, BlockFinished | RunPaused):
            self._running.pop(event.block_id, None)
        line = describe_event(event, self._waves)
        if line is not None:
            style = _STYLES.get(line.strip()[0], "bold")
            self._console.print(line, style=style, markup=False, no_wrap=True, overflow="ellipsis")

    def render(self) -> "RenderableType":
        """The blocks that are at work."""
        from rich.console import Group
        from rich.spinner import Spinner

        now = time.monotonic()
        return Group(
            *(
                Spinner("dots", text=f" {block_id} {now - since:.0f} s", style="cyan")
                for block_id, since in self._running.items()
            )
        )
