"""The pages, each with what stands on the stage for it to show."""

from pathlib import Path

from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.server.ui.paths import path_to

__all__ = ["PAGES", "paths_on_stage"]

PAGES = ("runs", "run", "checkpoint", "difference", "waiting", "health", "login")
"""Each is shown in the documents: see `screenshots.py`."""


MORE = ("failed", "abandoned", "running", "nested", "long", "long ago", "question", "fork", "nothing", "no such run")
"""What pages look like with other things to show."""


async def paths_on_stage(database: Path) -> dict[str, str]:
    """The path of each of `PAGES`, and of `MORE`, with something to see.

    Args:
        database: The stage.
    """
    async with SQLAlchemyCheckpointStore(database) as store:
        asked, before = await store.list_checkpoints(run_id="release-4.3.0", limit=2)
        *_, early, _ = await store.list_checkpoints(run_id="ledger-november")
    return {
        "runs": path_to(""),
        "run": path_to("run", id="release-4.3.0"),
        "checkpoint": path_to("state", checkpoint=asked.checkpoint_id),
        "difference": path_to("diff", a=before.checkpoint_id, b=asked.checkpoint_id),
        "waiting": path_to("waiting"),
        "health": path_to("health"),
        "login": path_to("login"),
        "failed": path_to("run", id="backup-orders"),
        "abandoned": path_to("run", id="etl-7741"),
        "running": path_to("run", id="import-today"),
        "nested": path_to("run", id="deploy-4.2.1"),
        "long": path_to("run", id="ledger-november"),
        "long ago": path_to("run", id="ledger-november", at=early.checkpoint_id),
        "question": path_to("answer", checkpoint=asked.checkpoint_id),
        "fork": path_to("fork", checkpoint=asked.checkpoint_id),
        "nothing": path_to("", text="there is none like this"),
        "no such run": path_to("run", id="there is none like this"),
    }
