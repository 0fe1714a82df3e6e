"""What happens in a run while it goes on, for whoever wants to watch.

A callback is awaited where it happens, so a slow one slows the run down. One that raises is logged, and the run
goes on. It cannot await the answer to a pause of its own run; a task that it starts can.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from workflows_mcp.engine.checkpoint import CheckpointStatus

__all__ = [
    "BlockFinished",
    "BlockSkipped",
    "BlockStarted",
    "CheckpointSaved",
    "Event",
    "EventCallback",
    "RunEnded",
    "RunPaused",
    "RunStarted",
    "RunStopped",
    "WaveFinished",
    "WaveStarted",
    "send",
    "together",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """Something happened in a run.

    Attributes:
        run_id: Names the run.
        workflow_name: Names the workflow.
    """

    run_id: str
    workflow_name: str


@dataclass(frozen=True)
class RunStarted(Event):
    """A run begins, or goes on.

    Attributes:
        waves: Block ids by wave.
        wave: The wave to run next.
        continued: Whether it goes on from a checkpoint.
    """

    waves: tuple[tuple[str, ...], ...]
    wave: int
    continued: bool


@dataclass(frozen=True)
class WaveStarted(Event):
    """The blocks of a wave are about to run; a wave in which nothing is left to do sends none.

    Attributes:
        wave: Index of the wave.
        block_ids: The paths of those that have not run yet; some may be skipped.
        within: The path of the block in whose place a nested workflow runs; empty: it is the run's own wave.
    """

    wave: int
    block_ids: tuple[str, ...]
    within: str = ""


@dataclass(frozen=True)
class WaveFinished(Event):
    """The blocks of a wave have come as far as they can for now; it ends what `WaveStarted` began.

    Attributes:
        wave: Index of the wave.
        seconds: How long it took.
        waits: Whether something in it waits for an answer, so that the wave is not over.
        within: See `WaveStarted`.
    """

    wave: int
    seconds: float
    waits: bool
    within: str = ""


@dataclass(frozen=True)
class BlockStarted(Event):
    """A block runs.

    Attributes:
        block_id: The block's path: its id; `outer/inner` in a nested workflow, `deploy[eu]` for an item.
        wave: Index of its wave.
    """

    block_id: str
    wave: int


@dataclass(frozen=True)
class BlockFinished(Event):
    """A block has run, or its prompt was answered.

    Attributes:
        block_id: The block's path.
        wave: Index of its wave.
        status: How it ended.
        seconds: How long it took, waiting for an answer included.
        message: Why it failed.
    """

    block_id: str
    wave: int
    status: Literal["succeeded", "failed"]
    seconds: float
    message: str | None


@dataclass(frozen=True)
class BlockSkipped(Event):
    """A block will not run.

    Attributes:
        block_id: The block's path.
        wave: Index of its wave.
        reason: Why not.
    """

    block_id: str
    wave: int
    reason: str


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint is durable.

    Attributes:
        checkpoint_id: Names the checkpoint.
        status: What the run was doing.
        wave: The wave to run next.
    """

    checkpoint_id: str
    status: CheckpointStatus
    wave: int


@dataclass(frozen=True)
class RunPaused(Event):
    """The run waits for an answer.

    Attributes:
        checkpoint_id: What to resume.
        block_id: The path of the block that asks.
        prompt: What it asks.
    """

    checkpoint_id: str
    block_id: str
    prompt: str


@dataclass(frozen=True)
class RunEnded(Event):
    """The run is over.

    Attributes:
        status: How it ended.
        error: Why it failed.
        checkpoint_id: Its last checkpoint; None when none could be saved.
    """

    status: Literal["success", "failure"]
    error: str | None
    checkpoint_id: str | None


@dataclass(frozen=True)
class RunStopped(Event):
    """The run does not go on here, though it is neither over nor waiting; somebody may recover it.

    Attributes:
        reason: `cancelled`: its caller or its process was stopped. `lost`: it was taken over, deleted or ended by
            somebody else. `failed`: a checkpoint could not be saved, or it comes to a block that only others have.
        error: The name of the error's class; None when it was cancelled.
    """

    reason: Literal["cancelled", "lost", "failed"]
    error: str | None


EventCallback = Callable[[Event], Awaitable[None]]


async def send(callback: EventCallback | None, event: Event) -> None:
    """Call the callback, if there is one; what it raises is logged."""
    if callback is None:
        return
    try:
        await callback(event)
    except asyncio.CancelledError:
        # Only a cancellation of the run goes on; one that the callback came upon is its own, and would end a block
        # without a word.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        _log.exception("the event callback was cancelled from within on %s of run %r", *_names(event))
    except Exception:  # noqa: BLE001 - whatever a watcher does wrong, the run goes on
        _log.exception("the event callback failed on %s of run %r", *_names(event))


def together(*callbacks: EventCallback | None) -> EventCallback | None:
    """One callback in place of several, each of which is told in turn, whatever the others do."""
    several = [callback for callback in callbacks if callback is not None]
    if len(several) <= 1:
        return several[0] if several else None

    async def tell_all(event: Event) -> None:
        for callback in several:
            await send(callback, event)

    return tell_all


def _names(event: Event) -> tuple[str, str]:
    return type(event).__name__, event.run_id
