"""Copies a whole SQLite database into a new file, while others save."""

import errno
import fcntl
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from workflows_mcp.errors import (
    CheckpointStoreError,
    StoreConfigurationError,
    StoreFullError,
    StoreUnavailableError,
)
from workflows_mcp.persistence.copies import Copying
from workflows_mcp.persistence.dialects.sqlite_errors import explain
from workflows_mcp.persistence.dialects.types import VERSION_TABLE
from workflows_mcp.persistence.sizes import shown_bytes

__all__ = ["BESIDE", "Contents", "connect", "copy_database", "described", "part_file", "sync_folder"]

BESIDE = ("-wal", "-shm", "-journal")
"""What the names of the files end with that SQLite keeps beside a database."""

_PAGES = 256
"""So many pages are copied at a time: a few milliseconds' work."""

_SYNC_BYTES = 16 * 2**20
"""After so many bytes they are brought to the disk: all at once, they held up the commits of others for 0.1 s."""

_GUIDE_COLUMNS = {"checkpoint_id", "workflow_name", "created_at", "is_paused", "checkpoint_data"}
"""By them the guide's table is told from others of its name, such as LangGraph's."""

_MOST_OPENINGS = 5
"""So often a new file is opened, when others finish theirs, of the same name, at that very moment."""

_LOCK_SECONDS = 10.0
"""How long somebody is waited for who keeps readers out: a writer, where the file is not in WAL mode."""

_BUSY_SECONDS = 0.1
"""How long SQLite waits for it in one step, which cannot be interrupted."""


@dataclass(frozen=True)
class Contents:
    """What a database holds.

    Attributes:
        checkpoints: How many.
        revision: Its schema's; None: it is under none.
    """

    checkpoints: int
    revision: str | None


def described(path: Path) -> str:
    """Names a file in messages."""
    return f"SQLite database {str(path)!r}"


def connect(path: Path, *, busy_seconds: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """Open a file that exists, for the use of any thread; nothing begins a transaction by itself."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=busy_seconds,
        check_same_thread=False,
    )


@contextmanager
def part_file(final: Path, purpose: str) -> Iterator[tuple[Path, int]]:
    """A new file beside another one that is going to have its name: its path and descriptor. It is gone afterwards.

    What is left of one by a process that was killed is used again.

    Raises:
        StoreUnavailableError: Another process makes such a file.
        StoreConfigurationError: It cannot be made.
    """
    path = final.with_name(f".{final.name}.workflows-{purpose}")
    descriptor = _open_locked(path, final)
    try:
        if os.fstat(descriptor).st_nlink != 1 or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreConfigurationError(f"{str(path)!r} is in the way; remove it")
        try:
            os.fchmod(descriptor, 0o600)
            os.ftruncate(descriptor, 0)
            yield path, descriptor
        finally:
            if _is_named(path, descriptor):  # else it has its final name, and what is here may be another process's
                for name in (*(Path(f"{path}{suffix}") for suffix in BESIDE), path):
                    with suppress(OSError):
                        name.unlink()
    finally:
        os.close(descriptor)


def _open_locked(path: Path, final: Path) -> int:
    """Open a file for nobody else, and make it if need be. What bears the name then is the file that is locked."""
    for _ in range(_MOST_OPENINGS):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            reason = error.strerror
        else:
            reason = ""
        if reason:
            raise StoreConfigurationError(
                f"{str(path)!r} cannot be made: {reason}; check the folder and its permissions"
            )
        # Whoever had it locked may have given it its final name in between: then it is whole, and not to be touched.
        is_locked = _lock(descriptor)
        if is_locked and _is_named(path, descriptor):
            return descriptor
        os.close(descriptor)
        if not is_locked:
            break
    raise StoreUnavailableError(
        f"another process is about to make {str(final)!r}, and writes {str(path)!r}; wait for it"
    )


def _is_named(path: Path, descriptor: int) -> bool:
    """Whether a name is that of an open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _lock(descriptor: int) -> bool:
    """Lock a file against others who make the same one; False when one does. Some file systems know no such locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def copy_database(source: Path, part: tuple[Path, int], copying: Copying) -> Contents:
    """Copy what a database holds at one moment into an empty file, bring it to the disk, and read it back.

    The pages are copied in steps, within one reading transaction: what others save meanwhile goes into the -wal file,
    and neither side waits for the other. Without it SQLite would begin anew whenever somebody has saved.

    Args:
        source: The database.
        part: Where to copy it: see `part_file`.
        copying: Is told how far it is.

    Raises:
        StoreFullError: There is no room for the copy.
        StoreConfigurationError: The source is no database of ours.
        StoreUnavailableError: It is locked.
        CheckpointStoreError: It is damaged.
    """
    path, descriptor = part
    _require_room(source, path.parent)
    failure: CheckpointStoreError | None = None
    try:
        with closing(connect(source)) as old, closing(connect(path)) as new:
            for connection in (old, new):
                copying.uses(connection)
            _begin_reading(old, copying)
            contents = _contents_of(old, source)
            _copy_pages(old, new, descriptor, copying)
            _require_whole(new, source, contents)
            copying.require_wanted()
        os.fsync(descriptor)
    except (sqlite3.Error, OSError) as error:
        copying.require_wanted()  # it is what interrupted a statement
        failure = _explained(error, source, path.parent)
    if failure is not None:
        raise failure  # outside the handler: no chained error can show what is stored
    return contents


def _begin_reading(connection: sqlite3.Connection, copying: Copying) -> None:
    """Begin a transaction that sees the database as it is now. Who waits for a lock may be stopped meanwhile."""
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        connection.execute("BEGIN")
        try:
            connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            connection.execute("ROLLBACK")
            copying.require_wanted()
        else:
            return


def _require_room(source: Path, folder: Path) -> None:
    needed = sum(file.stat().st_size for file in (source, Path(f"{source}-wal")) if file.exists())
    with suppress(OSError):
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise _no_room(folder, f"{shown_bytes(free)} of about {shown_bytes(needed)} are free")


def _copy_pages(old: sqlite3.Connection, new: sqlite3.Connection, descriptor: int, copying: Copying) -> None:
    [[size]] = old.execute("PRAGMA page_size").fetchall()
    # Nobody else knows the file yet, and if this is not finished it goes.
    new.execute("PRAGMA journal_mode = OFF")
    new.execute("PRAGMA synchronous = OFF")
    synced = 0

    def step(_status: int, remaining: int, total: int) -> None:
        nonlocal synced
        done = (total - remaining) * size
        if done - synced >= _SYNC_BYTES:
            os.fsync(descriptor)
            synced = done
        copying.tell(done, total * size)

    old.backup(new, pages=_PAGES, progress=step)
    # The header says WAL as that of the source does; a file by itself is to be readable where nothing can be written.
    new.execute("PRAGMA journal_mode = DELETE")


def _contents_of(connection: sqlite3.Connection, path: Path) -> Contents:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if "checkpoints" not in tables:
        raise StoreConfigurationError(f"{described(path)} holds no checkpoints of ours; check the path")
    revision = None
    if VERSION_TABLE in tables:
        rows = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall()  # noqa: S608 - our own name
        revision = str(rows[0][0]) if rows else None
    if revision is None:  # then it is the guide's table, or that of somebody else, whose word for it is the same
        columns = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('checkpoints')")}
        if not columns >= _GUIDE_COLUMNS:
            raise StoreConfigurationError(
                f"{described(path)} has a checkpoints table that is not ours, and holds no checkpoints of ours; check "
                "the path"
            )
    [[count]] = connection.execute("SELECT count(*) FROM checkpoints").fetchall()
    return Contents(count, revision)


def _require_whole(new: sqlite3.Connection, source: Path, contents: Contents) -> None:
    """Make sure that the copy holds what was there, and that nothing in it is damaged."""
    [[verdict], *_] = new.execute("PRAGMA integrity_check(1)").fetchall()
    if verdict != "ok" or _contents_of(new, source) != contents:
        raise CheckpointStoreError(
            f"{described(source)} is damaged, and so would be its copy, which was not kept; see what is wrong with it: "
            "workflows-mcp doctor --deep"
        )


def _explained(error: sqlite3.Error | OSError, source: Path, folder: Path) -> CheckpointStoreError:
    if isinstance(error, OSError):  # of the copy: SQLite alone reads the source
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return _no_room(folder, f"{error.strerror}")
        return StoreConfigurationError(f"the copy in {str(folder)!r} cannot be written: {error.strerror}")
    found = explain(error, described(source))
    assert found is not None
    return _no_room(folder, "the disk is full") if isinstance(found.error, StoreFullError) else found.error


def _no_room(folder: Path, why: str) -> StoreFullError:
    return StoreFullError(
        f"there is no room for the copy in {str(folder)!r}: {why}; make room, or name another folder. "
        "Nothing of it was left"
    )


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the file system can: some of a network's cannot."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)
