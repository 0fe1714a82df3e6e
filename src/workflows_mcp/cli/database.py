"""The store that a command works on, opened and closed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from workflows_mcp import wiring
from workflows_mcp.cli.failures import CommandError
from workflows_mcp.cli.options import Options
from workflows_mcp.cli.page import say

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint_store import CheckpointStore
    from workflows_mcp.persistence.schema import SchemaManager
    from workflows_mcp.settings import Settings

__all__ = ["open_schema", "open_store", "prepare_database"]


@asynccontextmanager
async def open_store(
    options: Options, *, create: bool = False, memory: bool = False, schema: bool = True
) -> AsyncIterator["CheckpointStore"]:
    """The store that the options and the environment name; closed at the end.

    Args:
        options: What was typed.
        create: Whether a database that is new (a file that is missing or empty) is given its schema.
        memory: Whether a store in memory makes sense for the command.
        schema: Whether the schema of the settings is meant for this database.

    Raises:
        CommandError: It is a store in memory, and makes no sense.
        CheckpointStoreError: The URL is wrong, or the database is not there or not fit to be used.
    """
    from workflows_mcp.persistence.store import create_checkpoint_store

    settings = options.settings()
    if not schema:
        settings = settings.model_copy(update={"database_schema": None})
    if wiring.is_in_memory(settings):
        _check_memory(allowed=memory)
    else:
        await prepare_database(settings, create=create)
    async with create_checkpoint_store(settings=settings) as store:
        # A database that cannot be used is found here, before anything has begun.
        await store.list_checkpoints(limit=0)
        yield store


async def prepare_database(settings: "Settings", *, create: bool, quiet: bool = False) -> None:
    """Give a new database its schema, and bring an older one to head if the settings ask for that.

    Args:
        settings: Name the database.
        create: Whether a new one gets its schema.
        quiet: Whether to keep silent about that.

    Raises:
        CommandError: It is a store in memory.
        CheckpointStoreError: The URL is wrong, or the database cannot be created or upgraded.
    """
    if not create and not settings.auto_upgrade and not settings.uses_default_path:
        return  # whatever is wrong with it, the first call says so
    open_schema(settings)
    created = await wiring.prepare_database(settings)
    if created is not None and not settings.uses_default_path and not quiet:
        say(f"created the {created}")


def open_schema(settings: "Settings") -> "SchemaManager":
    """The schema of the database that the settings name. The default path's folder is created, and the path told.

    Raises:
        CommandError: It is a store in memory.
        StoreConfigurationError: The URL names no database that is supported, or the folder cannot be created.
    """
    if wiring.is_in_memory(settings):
        _check_memory(allowed=False)
    schema = wiring.open_schema(settings)
    if settings.uses_default_path:
        say(f"the database is {str(settings.default_path)!r}; set WORKFLOWS_DATABASE_URL to use another one")
    return schema


def _check_memory(*, allowed: bool) -> None:
    if not allowed:
        raise CommandError("memory:// keeps nothing from one command to the next; name a database with --database-url")
