"""What has become of a run, as its database says."""

import asyncio
from pathlib import Path
from typing import Any

from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowExecutor
from workflows_mcp.engine.run_details import RunDetails

__all__ = ["outputs_of", "until"]

_SECONDS = 10.0


async def until(database: Path | str, run_id: str, status: str) -> RunDetails:
    """Wait until a run has come to something.

    Raises:
        TimeoutError: It has not, in time.
    """
    async with SQLAlchemyCheckpointStore(database) as store, asyncio.timeout(_SECONDS):
        executor = WorkflowExecutor(store)
        while True:
            found = await executor.get_run(run_id)
            if found.status == status:
                return found
            await asyncio.sleep(0.02)


async def outputs_of(database: Path | str, run_id: str) -> dict[str, Any]:
    """The outputs of a run that has succeeded."""
    return (await until(database, run_id, "success")).outputs
