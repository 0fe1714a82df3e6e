"""What SQLite's errors mean."""

import sqlite3

from sqlalchemy.exc import DBAPIError

from workflows_mcp.documents import document
from workflows_mcp.errors import (
    CheckpointStoreError,
    StoreConfigurationError,
    StoreFullError,
    StoreUnavailableError,
)
from workflows_mcp.persistence.dialects.errors import BrokenBaseError, Failure, RowsThereError

__all__ = ["explain"]

_DAMAGED = f"is damaged; restore a backup (workflows-mcp db restore), as {document('operations')} says"

_MEANINGS: dict[int, tuple[type[CheckpointStoreError], str]] = {
    sqlite3.SQLITE_BUSY: (StoreUnavailableError, "is locked by another process; try again"),
    sqlite3.SQLITE_LOCKED: (StoreUnavailableError, "is locked; try again"),
    # By ourselves, when a query that was given up still ran; the one behind it may have been struck instead.
    sqlite3.SQLITE_INTERRUPT: (StoreUnavailableError, "gave up a query; try again"),
    sqlite3.SQLITE_IOERR: (StoreUnavailableError, "cannot be read or written; check the disk"),
    sqlite3.SQLITE_FULL: (StoreFullError, "has no space left; free some, then repeat the call"),
    # The index of the -wal file, which the first one who opens the file makes, if only to read.
    sqlite3.SQLITE_IOERR_SHMSIZE: (
        StoreFullError,
        "has no space left for its -shm file; free some, then repeat the call",
    ),
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: (RowsThereError, "holds such a row already"),
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: (
        BrokenBaseError,
        "holds rows that refer to what was to go; try again",
    ),
    # Of two keys that a row meets, the one that was made last speaks: that of a checkpoint and its content.
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: (RowsThereError, "holds such a row already"),
    sqlite3.SQLITE_CORRUPT: (CheckpointStoreError, _DAMAGED),
    sqlite3.SQLITE_TOOBIG: (CheckpointStoreError, "cannot hold a value that large"),
    sqlite3.SQLITE_NOTADB: (StoreConfigurationError, "is no SQLite database at all; check the path"),
    sqlite3.SQLITE_CANTOPEN: (StoreConfigurationError, "cannot be opened; check the path and its permissions"),
    sqlite3.SQLITE_READONLY: (
        StoreConfigurationError,
        "cannot be written; check the permissions of the file and its folder",
    ),
    sqlite3.SQLITE_PERM: (StoreConfigurationError, "may not be accessed; check the permissions"),
    sqlite3.SQLITE_AUTH: (StoreConfigurationError, "may not be accessed; check the permissions"),
}
"""What SQLite's result codes mean to a caller: the extended one where it stands here, or else the primary one."""

_RETRIABLE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT})


def explain(error: Exception, description: str) -> Failure | None:
    """Say what an error means, by SQLite's result code; None: it is none of the database's.

    Args:
        error: The driver's, or SQLAlchemy's around it.
        description: Names the database in messages.
    """
    cause: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, TimeoutError):
        late = StoreUnavailableError(f"{description} did not answer in time; check the disk, and try again")
        return Failure(late, retriable=True)
    if isinstance(cause, OSError):
        return Failure(StoreConfigurationError(f"{description} cannot be reached: {cause.strerror}; check the path"))
    if isinstance(cause, UnicodeDecodeError):
        # SQLite's own message quotes what it has read, and the driver cannot make text of that.
        return Failure(CheckpointStoreError(f"{description} {_DAMAGED}"))
    if isinstance(cause, ValueError):  # what the use of a connection raises that was closed or given up
        closed = StoreUnavailableError(f"the connection to {description} was closed; try again")
        return Failure(closed, retriable=True)
    if not isinstance(cause, sqlite3.Error):
        return None
    # Errors of the driver itself, such as the use of a closed connection, bear no code.
    extended = getattr(cause, "sqlite_errorcode", 0)
    code = extended if extended in _MEANINGS else extended & 0xFF
    name = getattr(cause, "sqlite_errorname", type(cause).__name__)
    kind, meaning = _MEANINGS.get(code, (CheckpointStoreError, "refused a statement"))
    told = kind(f"{description} {meaning} ({name})")
    return Failure(told, retriable=code in _RETRIABLE, is_late=code == sqlite3.SQLITE_INTERRUPT)
