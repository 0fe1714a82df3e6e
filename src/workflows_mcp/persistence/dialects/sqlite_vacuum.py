"""Giving back what a SQLite file takes up and does not need."""

import asyncio
import logging

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from workflows_mcp.persistence.dialects.sqlite_errors import explain

__all__ = ["vacuum"]

_log = logging.getLogger(__name__)

_REWRITING = ("PRAGMA auto_vacuum = INCREMENTAL", "VACUUM", "PRAGMA optimize")
"""Rewrites the file so that it can give back space, and refreshes statistics."""

_BUSY_MILLISECONDS = 50
"""How long the driver waits for a lock. No cancellation ends that wait, so that who is patient asks again instead. And
whoever empties the -wal file keeps others from writing while he waits for those who read: a reader that
stays would hold up every save."""

_PAUSE_SECONDS = 0.05
"""How long the others have their turn between two tries."""

_PATIENT_SECONDS = 600.0
_SECONDS_UNTIL_TOLD = 2.0
"""How long writers are waited for, and how soon whoever waits is told."""

_SECONDS_TO_EMPTY = 10.0
"""For how long it is tried to empty the -wal file while others read it: at each try those who write wait."""

_PAUSE_FOR_READERS_SECONDS = 0.2


async def vacuum(connection: AsyncConnection, description: str) -> None:
    """Rewrite the file, and empty the -wal file unless somebody reads it all the time, of which a warning tells.

    Args:
        connection: One outside a transaction; how long it waits for locks is afterwards as it was.
        description: Names the database in messages.

    Raises:
        DBAPIError: SQLite's error; that somebody writes, when he does so for ten minutes.
    """
    busy = (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar_one()
    await connection.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    try:
        for statement in _REWRITING:
            await _when_it_is_free(connection, statement, description)
        await _empty_log(connection, description)
    finally:
        if not connection.invalidated:
            await connection.exec_driver_sql(f"PRAGMA busy_timeout = {busy}")


async def _when_it_is_free(connection: AsyncConnection, statement: str, description: str) -> None:
    """Run a statement that writes, again for so long as somebody else does."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    is_told = False
    while True:
        try:
            await connection.exec_driver_sql(statement)
        except DBAPIError as error:
            failure = explain(error, description)
            waited = loop.time() - began
            if failure is None or not failure.retriable or waited >= _PATIENT_SECONDS:
                raise
        else:
            return
        if waited >= _SECONDS_UNTIL_TOLD and not is_told:
            _log.warning("%s is locked by another process: waiting for it, for up to ten minutes", description)
            is_told = True
        await asyncio.sleep(_PAUSE_SECONDS)


async def _empty_log(connection: AsyncConnection, description: str) -> None:
    end = asyncio.get_running_loop().time() + _SECONDS_TO_EMPTY
    while True:
        is_busy, *_ = (await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")).one()
        if not is_busy:
            return
        if asyncio.get_running_loop().time() >= end:
            break
        await asyncio.sleep(_PAUSE_FOR_READERS_SECONDS)
    _log.warning(
        "somebody reads %s all the time: its -wal file was not emptied, and may still hold what was deleted; "
        "vacuum it again when they have ended",
        description,
    )
