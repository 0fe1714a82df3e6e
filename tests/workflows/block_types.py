"""Block types that the workflows of this folder use besides those that come along."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from workflows_mcp.engine.blocks import BlockContext, BlockFailedError, Pause
from workflows_mcp.engine.blocks.python import FunctionBlock

__all__ = ["block_types"]


async def _give(value: Any = None, fail: str | None = None) -> dict[str, Any]:
    """Gives its input back, or fails."""
    if fail is not None:
        raise BlockFailedError(fail)
    return {"value": value}


async def _ask() -> Pause:
    """Asks, and takes no inputs."""
    return Pause("Sure?", {"why": ["it matters"]})


async def _stuck(seconds: float = 60) -> None:
    """Takes its time."""
    await asyncio.sleep(seconds)


def block_types() -> dict[str, FunctionBlock]:
    """They, by name; made anew for each run."""
    here: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def crowd(context: BlockContext) -> dict[str, int]:
        """Tells how many items of its block have been at work at the same time so far."""
        block_id = context.block_id
        here[block_id] += 1
        most[block_id] = max(most[block_id], here[block_id])
        await asyncio.sleep(0)  # lets all others begin that may
        here[block_id] -= 1
        return {"most": most[block_id]}

    functions: dict[str, Callable[..., Any]] = {"Ask": _ask, "Crowd": crowd, "Give": _give, "Stuck": _stuck}
    return {name: FunctionBlock(name, function) for name, function in functions.items()}
