"""What tells files that are a database, or parts of one, from others."""

import os
from contextlib import suppress
from pathlib import Path

from workflows_mcp.persistence.dialects.sqlite_copying import BESIDE

__all__ = ["is_of_database"]

_MAGIC = b"SQLite format 3\0"
"""How a database begins; one that is empty has nothing yet."""


def is_of_database(path: Path) -> bool:
    """Whether a file is a SQLite database, or would be taken for a part of one by its name.

    What lies beside a database under such a name is read, written over or removed by SQLite.
    """
    if _is_database(path):
        return True
    name = os.fspath(path)
    return any(name.endswith(end) and (path.exists() or Path(name[: -len(end)]).exists()) for end in BESIDE)


def _is_database(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC
    return False
