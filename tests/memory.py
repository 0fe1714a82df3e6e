"""Whether databases of tests may lie in memory."""

import os
from pathlib import Path

__all__ = ["ROOM_BYTES", "folder_in_memory", "free_bytes"]

ROOM_BYTES = 2 * 2**30
"""Several times what all databases of the tests take up at a time."""

_LIMITS = (
    ("0::", "", "memory.max", "memory.current", "inactive_file"),
    (":memory:", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of both versions of cgroups: what a process's own line has, where they all are, and what one's files are."""


def folder_in_memory() -> str | None:
    """A folder in memory, if there is room for databases: no disk can be tested here, and they come and go.

    On a disk that others use too, making and dropping one took ten times as long.
    """
    folder = "/dev/shm"
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    room = min(found.f_bavail * found.f_frsize, free_bytes())
    return folder if room > ROOM_BYTES and not found.f_flag & os.ST_NOEXEC else None  # some tests write programs


def free_bytes(root: Path = Path("/")) -> float:
    """How much memory this process and its children may still take up; a file system in memory tells its own limit.

    Args:
        root: The folder in which `proc` and `sys` are.
    """
    free = float("inf")
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    for line in _lines(root / "proc/self/cgroup"):
        for start, where, *names in _LIMITS:
            if start in line:
                top = root / "sys/fs/cgroup" / where
                own = top / line.split(":", 2)[2].strip("/")
                groups = [own, *own.parents]
                free = min(free, *(_left(group, *names) for group in groups[: groups.index(top) + 1]))
    return free


def _left(group: Path, most: str, used: str, unused: str) -> float:
    """How much a cgroup may still take up. Files that were read and may be forgotten count as used there."""
    try:
        left = int((group / most).read_text()) - int((group / used).read_text())
    except (OSError, ValueError):  # it is out of sight, or "max": without a limit
        return float("inf")
    return left + sum(int(line.split()[1]) for line in _lines(group / "memory.stat") if line.split()[0] == unused)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
