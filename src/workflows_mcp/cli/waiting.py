"""Recovers a run whose process may have died a moment ago: its lease has to run out first."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from workflows_mcp.cli.failures import CommandError

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint import CheckpointMetadata
    from workflows_mcp.engine.checkpoint_store import CheckpointStore
    from workflows_mcp.engine.executor import WorkflowResult

__all__ = ["recover_when_free"]

# The lease ends by the database's clock, and may be released or renewed before.
_LONGEST_WAIT = 1.0
_SHORTEST_WAIT = 0.05


def _seconds_left(head: "CheckpointMetadata") -> float:
    """How long the lease on a run's newest checkpoint still lasts, by this machine's clock; 0: nobody holds it."""
    return 0.0 if head.lease_expires_at is None else max(head.lease_expires_at - time.time(), 0.0)


async def recover_when_free(
    store: "CheckpointStore",
    run_id: str,
    recover: Callable[[str], Awaitable["WorkflowResult"]],
    *,
    tell: Callable[[float], None] = lambda _: None,
) -> "WorkflowResult":
    """Recover a run as soon as nobody holds it any more.

    Args:
        store: Where it is kept.
        run_id: Names the run.
        recover: See `WorkflowExecutor.recover`.
        tell: Is told once for how many seconds the run is held, if it is.

    Raises:
        CommandError: Its process is alive: it renewed its lease, or saved a checkpoint.
        WorkflowsError: See `WorkflowExecutor.recover`.
    """
    from workflows_mcp.errors import CheckpointAlreadyClaimedError

    held: CheckpointMetadata | None = None
    while True:
        try:
            return await recover(run_id)
        except CheckpointAlreadyClaimedError:
            found = await store.list_checkpoints(run_id=run_id, limit=1)
            if not found:
                raise
            head = found[0]
            if held is None:
                held = head
                tell(_seconds_left(head))
            elif (head.checkpoint_id, head.lease_expires_at) != (held.checkpoint_id, held.lease_expires_at):
                raise CommandError(
                    f"run {run_id} is at work in another process, which renewed its lease just now: there is nothing "
                    "to recover"
                ) from None
        await asyncio.sleep(min(max(_seconds_left(held), _SHORTEST_WAIT), _LONGEST_WAIT))
