"""One checkpoint in a store: what is known of it, and whether somebody still needs it."""

import time
from collections.abc import Callable

from workflows_mcp.engine.checkpoint import CheckpointMetadata
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.retention_rules import Exemption, exemption
from workflows_mcp.engine.stored import listing_of
from workflows_mcp.errors import CheckpointDecodeError

__all__ = ["find_metadata", "run_of", "why_needed"]

_PAGE = 500


async def find_metadata(store: CheckpointStore, checkpoint_id: str) -> CheckpointMetadata | None:
    """What is known of a checkpoint; one that is damaged is looked for among all. None: there is none of this id."""
    try:
        state = await store.load_checkpoint(checkpoint_id)
    except CheckpointDecodeError:
        page = await store.list_checkpoints(limit=_PAGE)
        while page:
            for one in page:
                if one.checkpoint_id == checkpoint_id:
                    return one
            page = await store.list_checkpoints(limit=_PAGE, before=page[-1])
        return None
    return None if state is None else await listing_of(store, state)


def why_needed(found: CheckpointMetadata, when: Callable[[float], str]) -> str | None:
    """Why a checkpoint should not be deleted; None: nobody needs it.

    Args:
        found: The checkpoint.
        when: Writes a Unix time in the way of whoever asks.
    """
    reason = exemption(found, time.time(), keep_paused=True)
    if reason is None:
        return None
    return {
        Exemption.PINNED: "it is pinned",
        Exemption.WAITING: f"{run_of(found)} waits there for an answer, and could not go on",
        Exemption.LEASED: f"a process holds it until {when(found.lease_expires_at or 0.0)}, and works on "
        f"{run_of(found)}",
        Exemption.UNFINISHED: f"{run_of(found)} can be recovered from there alone",
    }[reason]


def run_of(found: CheckpointMetadata) -> str:
    """The run that a checkpoint belongs to, or its workflow when there is none, for people."""
    return f"workflow {found.workflow_name}" if found.run_id is None else f"run {found.run_id}"
