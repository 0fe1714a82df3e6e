"""Changes of a SQLite file's schema, one process at a time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from workflows_mcp.errors import CheckpointStoreError
from workflows_mcp.persistence.dialects.sqlite_connecting import BEGIN
from workflows_mcp.persistence.dialects.sqlite_errors import explain

__all__ = ["PATIENT_BUSY_SECONDS", "change", "prepare"]

_log = logging.getLogger(__name__)

PATIENT_BUSY_SECONDS = 600.0
"""How long the driver waits for a lock when there is no deadline, as for schema changes, which wait for their turn."""

_SECONDS_UNTIL_TOLD = 2.0
"""After so many of them, whoever waits is told so."""


async def prepare(connection: AsyncConnection) -> None:
    """Keep what refers to the table by its name: rows with foreign keys, and views, while it is made anew."""
    # Without it, renaming the old table turns every view and foreign key to its new name, which then goes.
    await connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
    await connection.exec_driver_sql("PRAGMA foreign_keys = OFF")


@contextmanager
def change(connection: Connection, description: str) -> Iterator[None]:
    """Take the write lock at once. Begun before Alembic looks, it is left alone and spans all revisions."""
    connection.rollback()  # ends what a query has begun
    _wait_for_lock(connection, description)
    connection.execution_options(**{BEGIN: "IMMEDIATE"})
    with connection.begin():
        before = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        yield
        broken = set(connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()) - set(before)
        if broken:
            tables = ", ".join(sorted({str(row[0]) for row in broken}))
            raise CheckpointStoreError(
                f"the change would leave {len(broken)} rows of {tables} without the checkpoint that they refer to; "
                "nothing was changed"
            )


def _wait_for_lock(connection: Connection, description: str) -> None:
    """Tell who waits for how long it may take that somebody else writes."""
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {_SECONDS_UNTIL_TOLD * 1000:.0f}")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except DBAPIError as error:
        failure = explain(error, description)
        if failure is None or not failure.retriable:
            raise
        _log.warning("%s is locked by another process: waiting for it, for up to ten minutes", description)
    else:
        connection.exec_driver_sql("ROLLBACK")
    finally:
        connection.rollback()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {PATIENT_BUSY_SECONDS * 1000:.0f}")
        connection.rollback()
