"""An examination of a database, by the names of what was looked at."""

import os
from pathlib import Path
from typing import Any

from workflows_mcp.persistence.health import Check, Verdict, examine
from workflows_mcp.settings import Settings

__all__ = ["examined", "problems", "signs"]


async def examined(url: str, *, deep: bool = False, **settings: Any) -> dict[str, Check]:
    """What an examination finds; each thing is looked at once, and what is wrong comes with advice."""
    checks = await examine(url, Settings(**settings), deep=deep)
    found = {one.check: one for one in checks}
    assert len(found) == len(checks), checks
    assert all(bool(one.advice) is (one.verdict is not Verdict.OK) for one in checks), checks
    return found


def problems(found: dict[str, Check]) -> set[str]:
    """The names of what is a problem."""
    return {name for name, one in found.items() if one.verdict is Verdict.PROBLEM}


def signs(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """All that tells of a change to the files of a folder: their names, contents, times and modes."""
    return {
        entry.name: (Path(entry.path).read_bytes(), entry.stat().st_mtime_ns, entry.stat().st_mode)
        for entry in os.scandir(folder)
        if entry.is_file()
    }
