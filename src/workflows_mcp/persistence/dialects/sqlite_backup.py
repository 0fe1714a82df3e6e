"""Backs up a SQLite database into a file, and puts one in its place; in a thread, for both take their time."""

import ctypes
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from workflows_mcp.errors import StoreConfigurationError, StoreUnavailableError
from workflows_mcp.persistence.copies import Copy, Copying
from workflows_mcp.persistence.dialects.sqlite_copying import (
    BESIDE,
    connect,
    copy_database,
    described,
    part_file,
    sync_folder,
)
from workflows_mcp.persistence.dialects.sqlite_errors import explain
from workflows_mcp.persistence.dialects.sqlite_header import is_in_wal_mode, read_header
from workflows_mcp.persistence.dialects.sqlite_processes import users_of

__all__ = ["back_up", "restore"]

_LOCK_SECONDS = 1.0
"""How long a restore waits for somebody who looks at the database for a moment."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def back_up(database: Path, file: Path, *, overwrite: bool, copying: Copying) -> Copy:
    """See `backup_database`."""
    source, final = Path(os.path.realpath(database)), Path(os.path.realpath(file))
    _require_file(source, f"there is no {described(database)} to back up; check the path")
    _require_one_name(source)
    _check_place(source, final)
    if final.exists() and not overwrite:
        raise StoreConfigurationError(
            f"{str(final)!r} exists already, and was left as it is; name another file, or have it replaced "
            "(--overwrite, in Python overwrite=True)"
        )
    with _told(final), part_file(final, "backup") as part:
        contents = copy_database(source, part, copying)
        if final.exists() and not overwrite:
            raise StoreConfigurationError(f"{str(final)!r} was made by somebody else meanwhile, and left as it is")
        part[0].replace(final)
        sync_folder(final.parent)
    return Copy(final, final.stat().st_size, contents.checkpoints, contents.revision)


def restore(database: Path, file: Path, *, refuse: Callable[[str | None], None], copying: Copying) -> Copy:
    """See `restore_database`.

    Args:
        database: What is replaced.
        file: The backup.
        refuse: Raises an error when it cannot be used with a backup of that revision.
        copying: Is told how far it is.
    """
    source, final = Path(os.path.realpath(file)), Path(os.path.realpath(database))
    _require_file(source, f"there is no file {str(file)!r} to restore; check the path")
    _require_all_in(source)
    if not final.parent.is_dir():
        raise StoreConfigurationError(
            f"there is no folder {str(final.parent)!r} for {described(database)}; create it first"
        )
    if final.exists():
        _require_file(final, "")
        _require_one_name(final)
        if source.samefile(final):
            raise StoreConfigurationError(f"{str(file)!r} is the database itself; name a backup of it")
    _require_unused(final)
    with _told(final), part_file(final, "restore") as part:
        contents = copy_database(source, part, copying)
        refuse(contents.revision)
        size = part[0].stat().st_size
        with _held(final) as is_held:
            copying.require_wanted()
            kept = _replace(part[0], final)
    return Copy(final, size, contents.checkpoints, contents.revision, kept, is_certain=is_held)


@contextmanager
def _told(final: Path) -> Iterator[None]:
    """Make an error of this project of what the system refuses, such as to give a file its name."""
    try:
        yield
    except OSError as error:
        reason = error.strerror
    else:
        return
    raise StoreConfigurationError(f"{str(final)!r} cannot be made or replaced: {reason}; check the folder")


def _require_file(path: Path, missing: str) -> None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreConfigurationError(missing) from None
    except OSError as error:
        reason = error.strerror
        raise StoreConfigurationError(f"{str(path)!r} cannot be looked at: {reason}") from None
    if not stat.S_ISREG(found.st_mode):
        raise StoreConfigurationError(f"{str(path)!r} is not a file; name a SQLite database file")


def _require_one_name(path: Path) -> None:
    if (names := path.stat().st_nlink) > 1:
        raise StoreConfigurationError(
            f"{str(path)!r} has {names} names (hard links), and what was saved by another one may be missing by this "
            "one; keep one name"
        )


def _require_all_in(backup: Path) -> None:
    """Make sure that a file with several names, as many backup programs make them, holds all by each of them.

    A database in WAL mode does not: what was saved by another name may lie in the -wal file beside that one.
    """
    names = backup.stat().st_nlink
    if names == 1:
        return
    header = read_header(backup)
    if header is None or is_in_wal_mode(header) or any(Path(f"{backup}{suffix}").exists() for suffix in BESIDE):
        raise StoreConfigurationError(
            f"{str(backup)!r} has {names} names (hard links), and may be in WAL mode or in use, so that what was saved "
            "by another name may be missing by this one; copy it while no process uses it, and name the copy"
        )


def _check_place(source: Path, final: Path) -> None:
    """Make sure that a backup can be put there, and takes the place of nothing that is in use."""
    if not final.parent.is_dir():
        raise StoreConfigurationError(f"there is no folder {str(final.parent)!r} for the backup; create it first")
    if final.exists() and not final.is_file():
        raise StoreConfigurationError(f"{str(final)!r} is not a file; name one for the backup")
    for name in (source, *(Path(f"{source}{suffix}") for suffix in BESIDE)):
        if name == final or (name.exists() and final.exists() and name.samefile(final)):
            raise StoreConfigurationError(
                f"{str(final)!r} is the database itself, or a part of it; name another file for the backup"
            )
    for suffix in BESIDE:
        if Path(f"{final}{suffix}").exists():
            raise StoreConfigurationError(
                f"beside {str(final)!r} lies its {suffix} file, so that it is a database which somebody uses; name "
                "another file for the backup"
            )


def _require_unused(final: Path) -> None:
    """Raise an error when a process is seen that has the database open. Other users' and containers' are not seen."""
    users = users_of(final, own=True) if final.exists() else []
    if users:
        named = ", ".join(f"{user.name} ({user.pid})" for user in users)
        raise StoreUnavailableError(f"{described(final)} is in use by {named}; stop all processes that use it first")


@contextmanager
def _held(final: Path) -> Iterator[bool]:
    """Keep everybody from using the database that is to be replaced; whether it is certain that nobody does.

    Leaving the WAL mode asks for a lock that nobody gets beside another connection, be it idle or in another container;
    and it puts the -wal file into the database, so that one file holds all that is to be kept. What is damaged cannot
    be locked, nor what is empty.
    """
    if not final.exists() or not final.stat().st_size:
        yield not final.exists()
        return
    with closing(connect(final, busy_seconds=_LOCK_SECONDS)) as connection:
        is_used = False
        try:
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
            connection.execute("BEGIN EXCLUSIVE")
            # Somebody may have turned it back in between: then this is no lock that keeps anybody from reading.
            is_used = connection.execute("PRAGMA journal_mode").fetchall() != [("delete",)]
            is_held = not is_used
        except sqlite3.Error as error:
            failure = explain(error, described(final))
            is_held, is_used = False, failure is not None and failure.retriable
        if is_used:
            raise StoreUnavailableError(
                f"{described(final)} is in use by a process that cannot be seen from here; stop all that use it first"
            )
        yield is_held


def _replace(new: Path, final: Path) -> Path | None:
    """Put a file in the place of a database; returns where that is kept, or what lay there in its place.

    Whenever it is cut short, the name stands for the whole of the one or of the other. Files beside a damaged database
    go first: a new one would take them for its own.
    """
    if final.exists():
        _give_like(new, final)
    kept = _name_for_old(final)
    moved = []
    for suffix in BESIDE:
        with suppress(FileNotFoundError):
            Path(f"{final}{suffix}").rename(f"{kept}{suffix}")
            moved.append(Path(f"{kept}{suffix}"))
    if moved:
        sync_folder(final.parent)
    if not final.exists():
        new.replace(final)
        sync_folder(final.parent)
        return moved[0] if moved else None
    # First by the name that the old one is going to have: no moment without a name for either.
    new.rename(kept)
    if not _exchange(kept, final):
        kept.rename(new)
        kept.hardlink_to(final)
        new.replace(final)
    sync_folder(final.parent)
    return kept


def _give_like(new: Path, old: Path) -> None:
    """Let those use the new file who used the old one: somebody may restore it as another user."""
    found, made = old.stat(), new.stat()
    if (found.st_uid, found.st_gid) != (made.st_uid, made.st_gid):
        try:
            os.chown(new, found.st_uid, found.st_gid)
        except OSError as error:
            reason = error.strerror
            raise StoreConfigurationError(
                f"{described(old)} belongs to another user, and its restored copy cannot be given to that one: "
                f"{reason}; restore it as that user"
            ) from None
    new.chmod(stat.S_IMODE(found.st_mode))


def _name_for_old(final: Path) -> Path:
    moment = datetime.now(UTC).astimezone().strftime("%Y-%m-%d-%H%M%S")
    number = 0
    while True:
        kept = final.with_name(f"{final.name}.before-{moment}{f'-{number}' if number else ''}")
        if not any(os.path.lexists(f"{kept}{suffix}") for suffix in ("", *BESIDE)):
            return kept
        number += 1


def _exchange(one: Path, other: Path) -> bool:
    """Let two files exchange their names in one step, where the system can (Linux since 3.15); whether it did."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    if call is None:
        return False
    return bool(call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)
