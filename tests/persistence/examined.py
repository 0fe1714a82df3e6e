"""An examination of a database, by the names of what was looked at."""

import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

from workflows_mcp.persistence.health import Check, Verdict, examine
from workflows_mcp.settings import Settings

__all__ = ["examined", "lead_in_circles", "problems", "signs"]


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


def lead_in_circles(path: Path) -> None:
    """Damage a SQLite file at head: the index that rows are counted by has as many ways through it as take years.

    All that its root leads to is one page, all that this leads to another one, and so on, nine deep.
    """
    with closing(sqlite3.connect(path)) as file:
        columns = [row[1] for row in file.execute("PRAGMA table_info(checkpoints)")]
        values = {"checkpoint_id": "'n' || v", "workflow_name": "'w'", "status": "'completed'", "payload": "x'00'"}
        made = ", ".join(values.get(name, "1") for name in columns)
        file.execute(
            "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 6000) "
            f"INSERT INTO checkpoints ({', '.join(columns)}) SELECT {made} FROM n"
        )
        file.commit()
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [plan] = file.execute("EXPLAIN QUERY PLAN SELECT count(*) FROM checkpoints").fetchall()
        index = plan[3].rpartition(" ")[2]
        [[root]] = file.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", [index])
        [[size]] = file.execute("PRAGMA page_size")
    pages = bytearray(path.read_bytes())
    interior = bytes(pages[(root - 1) * size : root * size])
    [count] = struct.unpack(">H", interior[3:5])
    places = [8, *struct.unpack_from(f">{count}H", interior, 12)]  # where the pages beneath are named

    def leading_to(number: int) -> bytes:
        page = bytearray(interior)
        for place in places:
            struct.pack_into(">I", page, place, number)
        return bytes(page)

    [leaf] = struct.unpack_from(">I", interior, places[1])
    last = len(pages) // size
    pages[(root - 1) * size : root * size] = leading_to(last + 1)
    for number in range(last + 1, last + 9):
        pages += leading_to(number + 1 if number < last + 8 else leaf)
    struct.pack_into(">I", pages, 28, last + 8)
    path.write_bytes(pages)
