"""A process that upgrades a database, and may be killed on the way."""

import asyncio
import os
import signal
import traceback
from pathlib import Path

from sqlalchemy import Engine, event

from tests.faults.crew import append
from workflows_mcp import upgrade_schema

__all__ = ["OPEN", "upgrade"]

OPEN = "open"
"""The file that opens a gate."""


async def upgrade(url: str, last_step: int, told: Path, gate: Path | None = None, delay: float = 0.0) -> None:
    """Upgrade a database, or be killed on the way.

    Args:
        url: The database.
        last_step: After how many statements, or at which commit, this process is killed; 0: never. -1: never, but all
            of them are written down.
        told: A file for what went wrong, or for the steps.
        gate: A folder where each process says that it is ready, and then waits until it is open.
        delay: How many seconds it waits then.
    """
    steps = 0

    def step(*_arguments: object) -> None:
        nonlocal steps
        steps += 1
        if last_step < 0:
            append(told, str(steps))
        if steps == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "after_cursor_execute", step)
    event.listen(Engine, "commit", step)  # before it is done
    if gate is not None:
        (gate / str(os.getpid())).touch()
        while not (gate / OPEN).exists():
            await asyncio.sleep(0.001)
        await asyncio.sleep(delay)
    try:
        await upgrade_schema(url)
    except Exception:
        append(told, traceback.format_exc())
        raise
