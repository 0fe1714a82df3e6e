"""The pages, each with what stands on the stage for it to show."""

from pathlib import Path

from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.server.ui.paths import path_to

__all__ = ["PAGES", "paths_on_stage"]

PAGES = ("runs", "run", "state", "difference", "waiting", "health", "login")
"""Each is shown in the documents: see `screenshots.py`."""


async def paths_on_stage(database: Path) -> dict[str, str]:
    """The path of each page, with something to see.

    Args:
        database: The stage.
    """
    async with SQLAlchemyCheckpointStore(database) as store:
        asked, before = await store.list_checkpoints(run_id="release-4.3.0", limit=2)
    return {
        "runs": path_to(""),
        "run": path_to("run", id="import-last-night"),
        "state": path_to("state", checkpoint=asked.checkpoint_id),
        "difference": path_to("diff", a=before.checkpoint_id, b=asked.checkpoint_id),
        "waiting": path_to("waiting"),
        "health": path_to("health"),
        "login": path_to("login"),
    }
