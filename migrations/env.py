"""Runs the revisions: for the `alembic` command and, with a connection in its attributes, for `SchemaManager`."""

import asyncio
import sys
from functools import partial
from logging.config import fileConfig

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.schema import SchemaItem

from workflows_mcp.errors import WorkflowsError
from workflows_mcp.persistence.dialects import Dialect, dialect_for
from workflows_mcp.persistence.indexes import indexed_metadata
from workflows_mcp.persistence.models import VERSION_TABLE, Base
from workflows_mcp.persistence.schema import connect_and_run
from workflows_mcp.settings import load_settings

config = context.config


def is_ours(_item: SchemaItem, name: str | None, kind: str, _reflected: bool, _compared: SchemaItem | None) -> bool:  # noqa: FBT001 - Alembic's signature
    """Whether autogenerate looks at a thing: other tables in the database are somebody else's."""
    return kind != "table" or name in Base.metadata.tables


def migrate(connection: Connection, dialect: Dialect, *, is_upward: bool) -> None:
    """Run the revisions in one transaction, alone."""
    # The lock stands before configure(): a transaction that Alembic finds is left alone and spans all revisions;
    # one that was begun later is committed after the first.
    with dialect.schema_change(connection, is_upward=is_upward):
        context.configure(
            connection=connection,
            target_metadata=indexed_metadata(),
            version_table=VERSION_TABLE,
            include_object=is_ours,
            render_as_batch=True,
        )
        with context.begin_transaction():
            context.run_migrations()


def run_from_command_line() -> None:
    """Connect as the settings say, and run the revisions."""
    if config.config_file_name is not None:
        fileConfig(config.config_file_name, disable_existing_loggers=False)
    dialect: Dialect | None = None
    try:
        settings = load_settings()
        dialect = dialect_for(settings.url, settings)
        is_upward = config.cmd_opts is not None and config.cmd_opts.cmd[0].__name__ == "upgrade"
        if is_upward:
            if settings.uses_default_path:
                settings.default_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            dialect.create_database()
        asyncio.run(connect_and_run(dialect, settings, partial(migrate, dialect=dialect, is_upward=is_upward)))
    except Exception as error:
        failure = None if isinstance(error, WorkflowsError) or dialect is None else dialect.explain(error)
        known = failure.error if failure is not None else error
        if not isinstance(known, WorkflowsError):
            raise
        sys.exit(f"error: {known}")


if context.is_offline_mode():
    raise CommandError("revisions look at the database and move its rows: --sql is not supported")
if "connection" in config.attributes:
    given = config.attributes
    migrate(given["connection"], given["dialect"], is_upward=given["is_upward"])
else:
    run_from_command_line()
