"""All that is known of a run and its blocks, for whoever looks at it."""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStatus
from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.progress import Progress
from workflows_mcp.engine.record import BlockRecord, BlockStatus
from workflows_mcp.engine.result import RunSummary
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.errors import SecretError, WorkflowsError

__all__ = ["BlockDetails", "RunDetails", "run_details"]

_MOST_ITEMS = 20

_WHEN_ABANDONED: dict[str, Literal["interrupted"]] = {"running": "interrupted"}
"""What is said of a block at work once nobody works on its run."""


@dataclass(frozen=True)
class BlockDetails:
    """A block of a run, or one of its items.

    Attributes:
        path: Names it within the run: `build`; `outer/inner` in a nested workflow, `deploy[eu]` for an item.
        status: What became of it; `not begun`: its turn has not come. Of a run that another executor works on, or
            that nobody does any more: `may have begun`: it is its turn, and a start alone is not saved; `interrupted`:
            it was under way when its process died or was stopped, and runs again.
        wave: Index of its wave within its workflow.
        started_at: Unix time in seconds.
        seconds: How long it took.
        message: Why it failed or was skipped.
        attempts: How often it was begun.
        items: How many of its items are in which status; None: it has no `for_each`.
    """

    path: str
    status: BlockStatus | Literal["not begun", "may have begun", "interrupted"]
    wave: int
    started_at: float | None = None
    seconds: float | None = None
    message: str | None = None
    attempts: int = 1
    items: Mapping[str, int] | None = None


@dataclass(frozen=True)
class RunDetails(RunSummary):
    """A run and its blocks, by its newest checkpoint.

    Attributes:
        waves: How many waves it has.
        blocks: Its blocks, wave by wave, with their items, and those of the workflows that run in their place. Of a
            block with many items only those that did not succeed, and not too many of these. Where the executor that
            is asked works on the run, as they are by now.
        flaw: Why the blocks cannot be told; None: they can.
        outputs: The workflow's outputs; empty unless it succeeded.
        error: Why it failed; names the blocks.
        pause_metadata: What its question told besides, while it is paused: `choices`, `pattern` and others; `pending`:
            the paths of the blocks that ask after it; `expires_at`: when the default answer is taken.
        started_at: When it began, in Unix seconds; None: another program saved it.
    """

    waves: int = 0
    blocks: tuple[BlockDetails, ...] = ()
    flaw: str | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    pause_metadata: dict[str, Any] | None = None
    started_at: float | None = None


async def run_details(
    head: CheckpointMetadata, state: CheckpointState, secrets: Secrets, live: Progress | None = None
) -> RunDetails:
    """All that is known of a run, without secrets.

    Args:
        head: Its newest checkpoint, as it is listed.
        state: The state of that.
        secrets: What must not be shown, should it stand in there.
        live: How far the run has come since then; None: somebody else may know.
    """
    with contextlib.suppress(SecretError):  # those that are fit to be secrets are known by now
        secrets.values()
    listed = RunSummary.of(head)
    summary = {one.name: getattr(listed, one.name) for one in dataclasses.fields(RunSummary)}
    if live is None:  # the expressions of its workflow are compiled, which takes a while for a large one
        blocks, flaw = await asyncio.to_thread(_stored_blocks, state, is_abandoned=listed.is_abandoned)
    else:
        blocks, flaw = list(_blocks_of(live.root, is_known=True)), None
    context = state.context
    outputs, error, started_at = context.get("outputs"), context.get("error"), context.get("started_at")
    scrub = secrets.scrub
    return RunDetails(
        **{**summary, "prompt": scrub(summary["prompt"])},
        waves=len(state.execution_waves),
        blocks=tuple(dataclasses.replace(one, message=scrub(one.message)) for one in blocks),
        flaw=flaw,
        outputs=scrub(outputs) if isinstance(outputs, dict) else {},
        error=None if error is None else scrub(str(error)),
        pause_metadata=scrub(state.pause_metadata),
        started_at=float(started_at) if isinstance(started_at, int | float) else None,
    )


def _stored_blocks(state: CheckpointState, *, is_abandoned: bool) -> tuple[list[BlockDetails], str | None]:
    """The blocks of a run by its newest checkpoint, or why they cannot be told."""
    try:
        root = Progress.from_state(state, lambda _: None).root
    except WorkflowsError as error:
        return [], str(error)
    blocks = _blocks_of(root, is_known=state.status is not CheckpointStatus.RUNNING)
    if is_abandoned:
        blocks = (dataclasses.replace(one, status=_WHEN_ABANDONED.get(one.status, one.status)) for one in blocks)
    return list(blocks), None


def _blocks_of(frame: Frame, *, is_known: bool) -> Iterator[BlockDetails]:
    turn = frame.wave_index + frame.is_wave_over
    for wave, block_ids in enumerate(frame.plan.waves):
        for block_id in block_ids:
            record = frame.records.get(block_id)
            path = frame.path_of(block_id)
            if record is None:
                yield BlockDetails(path, "not begun" if is_known or wave != turn else "may have begun", wave)
                continue
            yield _details(path, record)
            yield from _inside(frame, block_id, record, is_known=is_known)


def _inside(frame: Frame, block_id: str, record: BlockRecord, *, is_known: bool) -> Iterator[BlockDetails]:
    if record.items is None:
        if record.child is not None:
            yield from _blocks_of(record.child, is_known=is_known)
        return
    items = list(record.items.items())
    if len(items) > _MOST_ITEMS:
        items = [(key, item) for key, item in items if item.status != "succeeded"][:_MOST_ITEMS]
    for key, item in items:
        yield _details(frame.path_of(block_id, key), item)
        if item.child is not None:
            yield from _blocks_of(item.child, is_known=is_known)


def _details(path: str, record: BlockRecord) -> BlockDetails:
    started, completed = record.started_at, record.completed_at
    return BlockDetails(
        path,
        record.status,
        record.wave,
        started_at=started,
        seconds=None if started is None or completed is None else completed - started,
        message=record.message,
        attempts=record.attempts,
        items=None if record.items is None else dict(Counter(item.status for item in record.items.values())),
    )
