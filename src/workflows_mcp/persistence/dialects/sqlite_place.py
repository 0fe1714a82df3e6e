"""The place where a SQLite file lies, and who else gets at it there."""

import os
import shlex
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from workflows_mcp.persistence.checks import Report
from workflows_mcp.persistence.dialects.file_system import mount_under
from workflows_mcp.persistence.sizes import shown_bytes

__all__ = ["look_at_disk", "look_at_modes", "look_at_rights", "look_for_file"]

_LEAST_FREE_BYTES = 16 * 2**20
_LITTLE_FREE_BYTES = 256 * 2**20

_NETWORK_ADVICE = "move it to a local disk, or use PostgreSQL: https://sqlite.org/wal.html"


def look_at_disk(path: Path, report: Report) -> None:
    """Look at the file system and the space that it has."""
    mount = mount_under(path)
    if mount is None:
        report.notice(
            "file system", "its type cannot be told on this system", f"if it is a network's, {_NETWORK_ADVICE}"
        )
    elif mount.is_shared:
        report.problem(
            "file system",
            f"{mount.kind}, on {mount.folder}: a network or shared file system, where locks cannot be relied on; "
            "processes on several machines may damage the file",
            _NETWORK_ADVICE,
        )
    else:
        report.ok("file system", f"{mount.kind}, on {mount.folder}")
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return  # there is no such folder, which is said of the file
    found, more = f"{shown_bytes(free)} free", "make room; a full disk makes every save fail"
    if free < _LEAST_FREE_BYTES:
        report.problem("space", found, more)
    elif free < _LITTLE_FREE_BYTES:
        report.notice("space", found, more)
    else:
        report.ok("space", found)


def look_for_file(path: Path, create_command: str, report: Report, *, has_folder: bool) -> bool:
    """Look whether there is a file to look into, and at its names.

    Args:
        path: Where it should be.
        create_command: What makes one.
        report: Where to tell.
        has_folder: Whether that makes the folder, too.

    Returns:
        Whether there is one.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if path.parent.is_dir() or has_folder:
            report.problem("file", "it does not exist", f"create it: {create_command}")
        else:
            report.problem("file", f"there is no folder {str(path.parent)!r}", "create it first")
        return False
    except OSError as error:
        report.problem("file", f"it cannot be looked at: {error.strerror}", "check the path and its permissions")
        return False
    if not stat.S_ISREG(found.st_mode):
        report.problem("file", "it is not a file", "name a SQLite database file")
        return False
    if found.st_nlink > 1:
        report.problem(
            "links",
            f"the file has {found.st_nlink} names (hard links), of which each would get a -wal file of its own, so "
            "that what is saved by one name is missing by the other",
            f"keep one name; find the others: find / -xdev -samefile {shlex.quote(str(path))}",
        )
    else:
        report.ok("links", "the file has one name")
    return True


def look_at_modes(path: Path, report: Report) -> None:
    """Who may read the file, those beside it, and replace it in its folder."""
    modes = {path: stat.S_IMODE(path.stat().st_mode)}
    for file in (Path(f"{path}-wal"), Path(f"{path}-shm")):
        with suppress(FileNotFoundError):  # those beside it go with the last process that uses it
            modes[file] = stat.S_IMODE(file.stat().st_mode)
    open_ones = [file for file, mode in modes.items() if mode & 0o077]
    shown = f"{modes[path]:04o}"
    advice = shlex.join(["chmod", "600", *map(str, open_ones)])
    if any(mode & 0o007 for mode in modes.values()):
        may = "read and change" if any(mode & 0o002 for mode in modes.values()) else "read"
        report.problem("mode", f"{shown}: anybody on this machine may {may} what is stored", advice)
    elif open_ones:
        may = "read and change" if any(mode & 0o020 for mode in modes.values()) else "read"
        report.notice("mode", f"{shown}: its group may {may} what is stored", advice)
    else:
        report.ok("mode", f"{shown}: nobody but its owner reads it")
    folder = path.parent
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        report.problem(
            "folder", "anybody on this machine may replace the file", shlex.join(["chmod", "o-w", str(folder)])
        )


def look_at_rights(path: Path, report: Report) -> None:
    """Whether this user may write the file, and make those beside it."""
    as_who = {"effective_ids": True} if os.access in os.supports_effective_ids else {}
    if not os.access(path, os.W_OK, **as_who):
        report.problem(
            "rights",
            "this user may not write the file",
            "run it as the user that owns the file, or give the file to this one (chown)",
        )
    elif not os.access(path.parent, os.W_OK | os.X_OK, **as_who):
        report.problem(
            "rights",
            "this user may not write the file's folder, where the -wal and -shm files belong",
            f"let the user write it: {shlex.quote(str(path.parent))}",
        )
    else:
        report.ok("rights", "this user may write the file and its folder")
