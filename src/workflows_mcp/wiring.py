"""What the settings ask for, put together: a library, an executor, a database that is fit to be used.

The command line and the server both begin here. What is heavy is imported where it is needed: a command that needs no
database loads none.
"""

from typing import TYPE_CHECKING

from workflows_mcp.errors import StoreConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from workflows_mcp.engine.checkpoint_store import CheckpointStore
    from workflows_mcp.engine.events import EventCallback
    from workflows_mcp.engine.executor import WorkflowExecutor
    from workflows_mcp.engine.library import WorkflowLibrary
    from workflows_mcp.persistence.schema import SchemaManager
    from workflows_mcp.settings import Settings

__all__ = ["is_in_memory", "make_executor", "open_library", "open_schema", "prepare_database"]


def is_in_memory(settings: "Settings") -> bool:
    """Whether what is saved ends with this process."""
    from workflows_mcp.settings import MEMORY_URL

    return settings.url == MEMORY_URL


def open_library(settings: "Settings") -> "WorkflowLibrary":
    """The workflows that come along, and those in the folders that the settings name, which override them."""
    from workflows_mcp.engine.library import BUILT_IN, WorkflowLibrary

    return WorkflowLibrary([BUILT_IN, *settings.template_paths])


def make_executor(
    store: "CheckpointStore",
    settings: "Settings",
    *,
    library: "WorkflowLibrary | None" = None,
    on_event: "EventCallback | None" = None,
    recover_every_seconds: float | None = None,
    runs_outlive_callers: bool = False,
) -> "WorkflowExecutor":
    """An executor as the settings want it. Only `async with` makes it do its work in the background.

    Args:
        store: Keeps the checkpoints.
        settings: Say how long they are kept, and the rest.
        library: Where workflows are found by name; None: what the settings name.
        on_event: Is told what happens in its runs.
        recover_every_seconds: How often it looks for runs to recover; None: never.
        runs_outlive_callers: Whether a run goes on when its caller is cancelled.
    """
    from workflows_mcp.engine.checkpoint import CheckpointConfig
    from workflows_mcp.engine.executor import WorkflowExecutor

    executor = WorkflowExecutor(
        store,
        CheckpointConfig.from_settings(settings),
        on_event=on_event,
        library=open_library(settings) if library is None else library,
        lease_seconds=settings.lease_seconds,
        recover_every_seconds=recover_every_seconds,
        runs_outlive_callers=runs_outlive_callers,
        disabled_blocks=settings.disabled_blocks,
    )
    if settings.tracing:
        from workflows_mcp.telemetry import instrument

        instrument(executor, metrics=False, tracing=True)
    return executor


def open_schema(settings: "Settings") -> "SchemaManager":
    """The schema of the database that the settings name. The default path's folder is created.

    Raises:
        StoreConfigurationError: The URL names no database that is supported, or the folder cannot be created.
    """
    from workflows_mcp.persistence.schema import SchemaManager

    if settings.uses_default_path:
        _make_default_folder(settings.default_path.parent)
    return SchemaManager(settings.url, settings=settings)


async def prepare_database(settings: "Settings") -> str | None:
    """Give a new database (a file that is missing or empty) its schema; bring an older one to head if the settings ask.

    Returns:
        What was created; None: it was there.

    Raises:
        CheckpointStoreError: The URL is wrong, or the database cannot be created or upgraded.
    """
    manager = open_schema(settings)
    is_new = manager.is_new
    if is_new or settings.auto_upgrade:
        await manager.upgrade()
    return manager.description if is_new else None


def _make_default_folder(folder: "Path") -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreConfigurationError(
            f"the folder {str(folder)!r} for the database cannot be created: {error.strerror}; "
            "set WORKFLOWS_DATABASE_URL to use another database"
        ) from None
