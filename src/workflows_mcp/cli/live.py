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


def describe_event(event: "Event", number_of_waves: int, *, was_answered: bool = False) -> str | None:
    """One line about an event; None: it is not worth one.

    Args:
        event: What happened.
        number_of_waves: How many waves the run has.
        was_answered: Whether a block that finished was a prompt, the time of which is a human's.
    """
    from workflows_mcp.engine import events

    line = None  # a block that starts was told with its wave, and how the run ends is the command's result
    match event:
        case events.RunStarted():
            line = f"run {event.run_id} of {event.workflow_name}{_how_it_begins(event)}"
        case events.WaveStarted():
            line = f"wave {event.wave + 1} of {number_of_waves}: {', '.join(event.block_ids)}"
        case events.BlockFinished(status="succeeded"):
            line = f"  ✓ {event.block_id}" + (": answered" if was_answered else f" ({event.seconds:.1f} s)")
        case events.BlockFinished():
            line = f"  ✗ {event.block_id} ({event.seconds:.1f} s): {event.message or ''}"
        case events.BlockSkipped():
            line = f"  - {event.block_id} skipped: {event.reason}"
        case events.CheckpointSaved():
            line = f"  ● checkpoint {event.checkpoint_id} saved ({event.status.value})"
    # Names and ids come from files and command lines, and may hold anything.
    return None if line is None else line[: len(line) - len(line.lstrip(" "))] + one_line(line)


def _how_it_begins(event: "Event") -> str:
    from workflows_mcp.engine.events import RunStarted

    assert isinstance(event, RunStarted)
    if event.continued:
        return f" goes on with wave {min(event.wave + 1, len(event.waves))} of {len(event.waves)}"
    return f": {sum(map(len, event.waves))} blocks in {len(event.waves)} waves"


@asynccontextmanager
async def watch_run(page: Page) -> AsyncIterator[Watcher]:
    """Show what happens in a run: live on a terminal, line by line elsewhere."""
    console = page.unbreakable_console()
    if console is None:
        yield PlainWatcher(page)
        return
    from rich.live import Live

    watcher = LiveWatcher(console)
    with Live(
        get_renderable=watcher.render, console=console, transient=True, refresh_per_second=8, redirect_stdout=False
    ):
        yield watcher


class _Describer:
    """What a watcher has to know to describe events.

    Attributes:
        run_id: The run that it has seen.
    """

    def __init__(self) -> None:
        self.run_id: str | None = None
        self._waves = 0
        self._seen_to_start: set[str] = set()

    def describe(self, event: "Event") -> str | None:
        """Write down an event, and describe it."""
        from workflows_mcp.engine.events import BlockFinished, BlockStarted

        self.run_id = event.run_id
        self._waves = len(getattr(event, "waves", ())) or self._waves
        if isinstance(event, BlockStarted):
            self._seen_to_start.add(event.block_id)
        # A block that finishes and was not seen to start has been answered.
        was_answered = isinstance(event, BlockFinished) and event.block_id not in self._seen_to_start
        return describe_event(event, self._waves, was_answered=was_answered)


class PlainWatcher(_Describer):
    """One line for each thing that happens."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page: Page | None = page

    async def __call__(self, event: "Event") -> None:
        """Take an event."""
        line = self.describe(event)
        if line is None or self._page is None:
            return
        try:
            self._page.line(line)
        except OSError:  # nobody reads it any more, and the run is more than its progress
            self._page = None


class LiveWatcher(_Describer):
    """The same, and below it the blocks that are at work, with their time."""

    def __init__(self, console: "Console") -> None:
        super().__init__()
        self._console = console
        self._running: dict[str, float] = {}

    async def __call__(self, event: "Event") -> None:
        """Take an event."""
        from workflows_mcp.engine.events import BlockFinished, BlockStarted, RunPaused

        if isinstance(event, BlockStarted):
            self._running[event.block_id] = time.monotonic()
        elif isinstance(event, BlockFinished | RunPaused):
            self._running.pop(event.block_id, None)
        line = self.describe(event)
        if line is not None:
            style = _STYLES.get(line.strip()[0], "bold")
            self._console.print(line, style=style, markup=False, soft_wrap=True)

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
