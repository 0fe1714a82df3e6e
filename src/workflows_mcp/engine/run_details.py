"""All that is known of a run and its blocks, for whoever looks at it."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from workflows_mcp.engine.block_details import (
    BlockDetails,
    blocks_of,
    foreign_blocks,
    seconds_or_none,
    without_secrets,
)
from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.deep import text_if_shallow
from workflows_mcp.engine.progress import Progress
from workflows_mcp.engine.result import RunSummary
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.engine.stored import listing_of
from workflows_mcp.errors import CheckpointNotFoundError, SecretError, WorkflowsError

__all__ = ["BlockDetails", "RunDetails", "details_at", "run_details"]

_WHEN_ABANDONED: dict[str, Literal["interrupted"]] = {"running": "interrupted"}
"""What is said of a block at work once nobody works on its run."""


@dataclass(frozen=True)
class RunDetails(RunSummary):
    """A run and its blocks, by its newest checkpoint, or as it was at an earlier one.

    Attributes:
        waves: How many waves it has.
        blocks: Its blocks, wave by wave, with their items, and those of the workflows that run in their place. Of a
            block with many items only those that did not succeed, and not too many of these. Where the executor that
            is asked works on the run, as they are by now. Of a run that another program saved, only what its waves
            tell of them.
        flaw: Why no more can be told of the blocks; None: all is told.
        outputs: The workflow's outputs; empty unless it succeeded.
        error: Why it failed; names the blocks.
        pause_metadata: What its question told besides, while it is paused: `choices`, `pattern` and others; `pending`:
            the paths of the blocks that ask after it; `expires_at`: when the default answer is taken.
        started_at: When it began, in Unix seconds; None: another program saved it.
        superseded: Whether another checkpoint of the run follows the one that this tells of: the run was so then.
    """

    waves: int = 0
    blocks: tuple[BlockDetails, ...] = ()
    flaw: str | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    pause_metadata: dict[str, Any] | None = None
    started_at: float | None = None
    superseded: bool = False

    @property
    def is_abandoned(self) -> bool:
        """See `RunSummary.is_abandoned`; of a moment that is past it is not said."""
        return not self.superseded and super().is_abandoned


async def details_at(store: CheckpointStore, checkpoint_id: str, secrets: Secrets) -> RunDetails:
    """All that is known of a run as it was when one of its checkpoints was saved, without secrets.

    Args:
        store: Keeps the checkpoint.
        checkpoint_id: The checkpoint.
        secrets: What must not be shown, should it stand in there.

    Returns:
        The same as of any run, but of what was known then; `run_id` is empty where the checkpoint belongs to no run.

    Raises:
        CheckpointNotFoundError: There is no such checkpoint, or it has been deleted meanwhile.
        CheckpointStoreError: The store failed, or the checkpoint is damaged.
    """
    state = await store.load_checkpoint(checkpoint_id)
    listed = None if state is None else await listing_of(store, state)
    if state is None or listed is None:
        raise CheckpointNotFoundError(
            f"there is no checkpoint {checkpoint_id!r}, or it is not kept any more; list those of its run with run_id"
        )
    return await run_details(listed, state, secrets)


async def run_details(
    head: CheckpointMetadata, state: CheckpointState, secrets: Secrets, live: Progress | None = None
) -> RunDetails:
    """All that is known of a run, without secrets.

    Args:
        head: Its newest checkpoint, as it is listed; of an earlier one, what the run was then is told.
        state: The state of that.
        secrets: What must not be shown, should it stand in there.
        live: How far the run has come since then; None: somebody else may know.
    """
    with contextlib.suppress(SecretError):  # those that are fit to be secrets are known by now
        secrets.values()
    listed = RunSummary.of(head if head.run_id is not None else dataclasses.replace(head, run_id=""))
    summary = {one.name: getattr(listed, one.name) for one in dataclasses.fields(RunSummary)}
    summary["superseded"] = head.superseded
    if live is None:  # the expressions of its workflow are compiled, which takes a while for a large one
        is_abandoned = not head.superseded and listed.is_abandoned
        is_known = head.superseded or state.status is not CheckpointStatus.RUNNING
        blocks, flaw = await asyncio.to_thread(_stored_blocks, state, is_known=is_known, is_abandoned=is_abandoned)
    else:
        blocks, flaw = list(blocks_of(live.root, is_known=True)), None
    return await asyncio.to_thread(_told, summary, state, blocks, flaw, secrets.scrub)  # a state may be large


def _told(
    summary: dict[str, Any],
    state: CheckpointState,
    blocks: Sequence[BlockDetails],
    flaw: str | None,
    scrub: Callable[[Any], Any],
) -> RunDetails:
    """What a state tells of its run, without secrets."""
    saved: object = state.context  # of any kind, where another program saved it
    context = saved if isinstance(saved, dict) else {}
    waves: object = state.execution_waves
    outputs, error = context.get("outputs"), context.get("error")
    return RunDetails(
        **{**summary, "prompt": scrub(summary["prompt"])},
        waves=len(waves) if isinstance(waves, list) else 0,
        blocks=tuple(without_secrets(blocks, scrub)),
        flaw=flaw,
        outputs=scrub(outputs) if isinstance(outputs, dict) else {},
        error=None if error is None else scrub(text_if_shallow(lambda: str(error))),
        pause_metadata=scrub(state.pause_metadata),
        started_at=seconds_or_none(context.get("started_at")),
    )


def _stored_blocks(
    state: CheckpointState, *, is_known: bool, is_abandoned: bool
) -> tuple[list[BlockDetails], str | None]:
    """The blocks of a run by one of its checkpoints, and why no more of them can be told."""
    try:
        blocks = list(blocks_of(Progress.from_state(state, lambda _: None).root, is_known=is_known))
        if is_abandoned:
            blocks = [dataclasses.replace(one, status=_WHEN_ABANDONED.get(one.status, one.status)) for one in blocks]
    except WorkflowsError as error:
        return list(foreign_blocks(state, is_known=is_known)), str(error)
    except (TypeError, ValueError, AttributeError, KeyError):
        flaw = f"the records of the blocks in checkpoint {state.checkpoint_id!r} are not as an executor saves them"
        return list(foreign_blocks(state, is_known=is_known)), flaw
    return blocks, None
