"""States of a run that differ little from one another; made in the processes that tests start, too."""

from typing import Any

from tests.faults.filler import filler
from workflows_mcp import CheckpointState
from workflows_mcp.testing.values import make_state

__all__ = ["wave"]


def wave(number: int, run_id: str | None = "r", size: int = 5000, **fields: Any) -> CheckpointState:
    """The state of a run after a wave: most of it is what it was before."""
    given = {"context": {"text": filler(0, size), "number": number}, "run_id": run_id, **fields}
    return make_state(f"{run_id} {number}", **given)
