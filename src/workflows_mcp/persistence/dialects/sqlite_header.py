"""The first bytes of a SQLite file, which tell its kind: read by another process.

Whoever opens a file and closes it drops all locks that this process holds on it through SQLite, as POSIX has it; and
SQLite itself makes files beside one in WAL mode to look at it.
"""

import subprocess
from pathlib import Path

__all__ = ["is_in_wal_mode", "is_sqlite", "read_header"]

_BYTES = 20
_MAGIC = b"SQLite format 3\0"
_WAL_VERSION = 2
_SECONDS = 2.0


def read_header(path: Path) -> bytes | None:
    """A file's first bytes, fewer where it has fewer; None when they could not be read."""
    command = ["dd", f"if={path}", f"bs={_BYTES}", "count=1"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)  # noqa: S603 - no shell, and the path is one word
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout


def is_sqlite(header: bytes) -> bool:
    """Whether it is that of a database."""
    return header.startswith(_MAGIC)


def is_in_wal_mode(header: bytes) -> bool:
    """Whether it is that of a database in WAL mode."""
    return is_sqlite(header) and header[_BYTES - 1 : _BYTES] == bytes([_WAL_VERSION])
