"""Which processes have a SQLite file open, as Linux tells it: without opening the file, see `sqlite_health.py`."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["User", "users_of"]

_WRITE_LOCK_BYTE = 120
"""Where in a -shm file the lock of writers is, https://sqlite.org/walformat.html#locks."""

_LOOKS = 5
_SECONDS_BETWEEN_LOOKS = 0.02


@dataclass(frozen=True)
class User:
    """A process that has the file open.

    Attributes:
        pid: Its id.
        name: Of its program.
        holds_write_lock: Whether it held the lock of writers at each of several looks: a commit is over sooner.
    """

    pid: int
    name: str
    holds_write_lock: bool


def users_of(path: Path, *, own: bool = False) -> list[User] | None:
    """Processes that have the file open, of those that this user may see; None where that cannot be told.

    Args:
        path: The file.
        own: Whether this process counts, too.
    """
    if not Path("/proc/locks").exists():
        return None
    pids = _openers(path, but=None if own else os.getpid())
    holders = set(pids) if pids else set()
    for look in range(_LOOKS):
        if not holders:
            break
        if look:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        holders &= _write_lock_holders(Path(f"{path}-shm"))
    return [User(pid, _name(pid), pid in holders) for pid in pids]


def _openers(path: Path, *, but: int | None) -> list[int]:
    wanted = os.path.realpath(path)
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == but:
            continue
        with suppress(OSError):  # it has ended, or is somebody else's
            if any(_target(link) == wanted for link in (folder / "fd").iterdir()):
                found.append(int(folder.name))
    return sorted(found)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - no Path is wanted, of any of many
    except OSError:
        return ""


def _write_lock_holders(shared: Path) -> set[int]:
    try:
        inode = str(shared.stat().st_ino)
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    holders = set()
    for line in lines:
        # 3: POSIX  ADVISORY  WRITE 4711 fe:00:1234 120 120
        fields = line.split()
        if len(fields) == 8 and fields[3] == "WRITE" and fields[5].rpartition(":")[2] == inode:
            first, last = fields[6], fields[7]
            if int(first) <= _WRITE_LOCK_BYTE and (last == "EOF" or int(last) >= _WRITE_LOCK_BYTE):
                holders.add(int(fields[4]))
    return holders


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "a process that has ended"
