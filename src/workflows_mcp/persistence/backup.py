"""Backs up a whole database into a file, and puts one back in its place."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from workflows_mcp.errors import SchemaTooNewError, StoreConfigurationError
from workflows_mcp.persistence.copies import Copy, Copying, OnCopied
from workflows_mcp.persistence.dialects import Dialect, dialect_for
from workflows_mcp.persistence.dialects.thread import CallThread
from workflows_mcp.persistence.revisions import HEAD, REVISIONS

__all__ = ["backup_database", "restore_database"]

_SECONDS_BETWEEN_INTERRUPTS = 0.05


async def backup_database(
    url: str | os.PathLike[str],
    file: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    on_copied: OnCopied | None = None,
) -> Copy:
    """Copy a SQLite database into a file while others use it: all that was acknowledged before the call, and whole.

    The copy is for its owner's eyes alone (mode 0600), was read back and examined, and has its name only when it is on
    the disk; until then, what may have been there of that name stays. A call that fails or is cancelled leaves nothing;
    one that is cancelled when all is done already succeeds.

    Args:
        url: The database, of whatever revision.
        file: Where to put the copy. Its folder must exist.
        overwrite: Whether a file of that name is replaced.
        on_copied: Called now and then, in another thread, with the bytes that are copied and those that there are.

    Raises:
        StoreConfigurationError: There is no such database, it is PostgreSQL's (the message names the command that does
            it), there is a file of that name, or it cannot be written.
        StoreFullError: There is no room for the copy.
        StoreUnavailableError: The database is locked.
        CheckpointStoreError: The database is damaged.
    """
    dialect, path = dialect_for(url), Path(file)
    _require_ours(dialect, "backed up", dialect.backup_commands(path))
    return await _copied(lambda copying: dialect.back_up(path, overwrite=overwrite, copying=copying), on_copied)


async def restore_database(
    url: str | os.PathLike[str], file: str | os.PathLike[str], *, on_copied: OnCopied | None = None
) -> Copy:
    """Put a backup in the place of a SQLite database that no process uses.

    The file is examined first, and stays as it is: a copy of it becomes the database. The database that was there is
    kept beside it (`Copy.kept`). Whenever this ends, be it by a power cut, the name stands for the one or the other.
    A backup of an earlier revision is brought up to date by `upgrade_schema`.

    Args:
        url: The database; there may be none yet.
        file: The backup.
        on_copied: Called now and then, in another thread, with the bytes that are copied and those that there are.

    Raises:
        StoreConfigurationError: The file is no backup of ours, or the database is PostgreSQL's (the message names the
            commands that do it).
        SchemaTooNewError: The file's schema is newer than this version knows.
        StoreUnavailableError: A process has the database open.
        StoreFullError: There is no room for the copy.
        CheckpointStoreError: The file is damaged.
    """
    dialect, path = dialect_for(url), Path(file)
    _require_ours(dialect, "restored", dialect.restore_commands(path))

    def refuse(revision: str | None) -> None:
        if revision is not None and revision not in REVISIONS:
            raise SchemaTooNewError(
                f"{str(path)!r} has the schema of revision {revision!r}, which is newer than {HEAD}, the newest that "
                "this version knows; upgrade workflows-mcp. The database was left as it is"
            )

    return await _copied(lambda copying: dialect.restore(path, refuse=refuse, copying=copying), on_copied)


def _require_ours(dialect: Dialect, what: str, commands: list[str]) -> None:
    if commands:
        raise StoreConfigurationError(
            f"{dialect.description} is {what} by the database's own programs: {'; '.join(commands)}"
        )


async def _copied(work: Callable[[Copying], Copy], on_copied: OnCopied | None) -> Copy:
    """Make a copy in a thread. When the caller is cancelled, it is given up, and nothing of it is left."""
    copying = Copying(on_copied)
    # Not one of asyncio's: those are waited for, without a way to end them, when a program is told to stop.
    thread = CallThread("workflows-copying")
    call = thread.call(lambda: work(copying))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        while not call.done():
            copying.stop()
            await asyncio.wait({call}, timeout=_SECONDS_BETWEEN_INTERRUPTS)
        task = asyncio.current_task()
        if call.exception() is not None or task is None:
            raise
        task.uncancel()  # it was done before it could be given up, and whoever asked for it is to know
        return call.result()
    finally:
        thread.stop()
