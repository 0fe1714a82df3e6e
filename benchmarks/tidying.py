"""What it costs to keep a database tidy and safe: ways to copy a file beside a saver, plans, pruning, vacuum."""

import asyncio
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.memory import peak_bytes, reset_peak
from workflows_mcp import SQLAlchemyCheckpointStore, backup_database, upgrade_schema
from workflows_mcp.engine.policies import Limits, RetentionRules
from workflows_mcp.engine.retention import retain
from workflows_mcp.engine.retention_plan import plan_retention
from workflows_mcp.testing import make_state

__all__ = ["report"]

_TURNS = 5
_SAVER_PAUSE = 0.002
_WORKFLOWS = 10

_SAVER = f"""
import asyncio, os, sys, time
from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.testing import make_state

async def main(path):
    async with SQLAlchemyCheckpointStore(path) as store:
        await store.get_stats()
        print("go", flush=True)
        for number in range(10**9):
            began = time.perf_counter()
            await store.save_checkpoint(make_state(f"saver {{number}}", context={{"text": os.urandom(2500).hex()}}))
            print(time.perf_counter() - began, flush=True)
            await asyncio.sleep({_SAVER_PAUSE})

asyncio.run(main(sys.argv[1]))
"""


@dataclass(frozen=True)
class _Turn:
    """How long a copy took, in seconds, and the saves beside it, in milliseconds."""

    seconds: float
    saves: list[float]


def report(megabytes: int, rows: int) -> str:
    """Measure, and say what was found.

    Args:
        megabytes: How large the file is that is copied, about; 0: nothing is.
        rows: How many checkpoints are planned and pruned.
    """
    with tempfile.TemporaryDirectory() as folder:
        copies = [*_copies(Path(folder), megabytes), ""] if megabytes else []
        lines = [*copies, *asyncio.run(_rounds(Path(folder), rows))]
    return "\n".join(lines) + "\n"


def _copies(folder: Path, megabytes: int) -> Iterator[str]:
    path = folder / "copied.db"
    asyncio.run(_fill(path, megabytes * 50))
    ways: dict[str, Callable[[Path, Path], None]] = {
        "nothing, for 2 s": lambda _path, _file: time.sleep(2),
        "db backup, without its check": _by_backup,
        "VACUUM INTO": _by_vacuum,
        "backup API in one step": _by_one_step,
        "backup API in steps, no transaction": _by_steps,
        "db backup": lambda path, file: asyncio.run(_by_product(path, file)),
    }
    turns: dict[str, list[_Turn]] = {name: [] for name in ways}
    for _ in range(_TURNS):
        for name, way in ways.items():
            turns[name].append(_beside_a_saver(path, folder / "copy.db", way))
    yield f"a SQLite file of {path.stat().st_size / 1e6:.0f} MB is copied beside a process that saves 5 KB every 2 ms;"
    yield f"medians of {_TURNS} turns; the worst save is the median of the turns' worst"
    yield f"{'way':<36}{'seconds':>8}{'save p50 ms':>13}{'p99 ms':>9}{'worst ms':>10}"
    for name, made in turns.items():
        figures = [
            statistics.median(turn.seconds for turn in made),
            *(statistics.median(_share(turn.saves, share) for turn in made) for share in (0.5, 0.99, 1)),
        ]
        yield f"{name:<36}{figures[0]:>8.2f}{figures[1]:>13.2f}{figures[2]:>9.1f}{figures[3]:>10.1f}"


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else float("nan")


async def _fill(path: Path, states: int) -> None:
    await upgrade_schema(path)
    async with SQLAlchemyCheckpointStore(path) as store:
        for first in range(0, states, 200):
            await asyncio.gather(
                *(
                    store.save_checkpoint(make_state(f"c{number}", context={"text": os.urandom(10_000).hex()}))
                    for number in range(first, first + 200)
                )
            )


def _beside_a_saver(path: Path, file: Path, way: Callable[[Path, Path], None]) -> _Turn:
    file.unlink(missing_ok=True)
    saves: list[float] = []
    command = [sys.executable, "-c", _SAVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as saver:  # noqa: S603 - our own words
        assert saver.stdout is not None
        saver.stdout.readline()
        listening = threading.Thread(target=lambda: saves.extend(float(line) for line in saver.stdout or ()))
        listening.start()
        time.sleep(0.3)
        before, began = len(saves), time.perf_counter()
        way(path, file)
        seconds, after = time.perf_counter() - began, len(saves)
        saver.terminate()
        listening.join()
    return _Turn(seconds, [1000 * one for one in saves[before : after + 1]])


def _by_vacuum(path: Path, file: Path) -> None:
    with closing(sqlite3.connect(path)) as old:
        old.execute("VACUUM INTO ?", (str(file),))
    _sync(file)


def _by_one_step(path: Path, file: Path) -> None:
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(file)) as new:
        old.backup(new)
    _sync(file)


def _by_steps(path: Path, file: Path) -> None:
    """SQLite's own advice for a copy that lets others write; it begins anew whenever they do."""
    end = time.monotonic() + 10

    def give_up(_status: int, _left: int, _total: int) -> None:
        if time.monotonic() > end:
            raise TimeoutError

    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(file)) as new:
        try:
            old.backup(new, pages=256, progress=give_up)
        except TimeoutError:
            return
    _sync(file)


def _by_backup(path: Path, file: Path) -> None:
    from workflows_mcp.persistence.copies import Copying
    from workflows_mcp.persistence.dialects import sqlite_copying

    whole = sqlite_copying._require_whole  # noqa: SLF001 - what it costs is measured
    sqlite_copying._require_whole = lambda *_: None  # noqa: SLF001
    try:
        with sqlite_copying.part_file(file, "bench") as part:
            sqlite_copying.copy_database(path, part, Copying())
            shutil.move(part[0], file)
    finally:
        sqlite_copying._require_whole = whole  # noqa: SLF001


async def _by_product(path: Path, file: Path) -> None:
    await backup_database(path, file)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR)
    os.fsync(descriptor)
    os.close(descriptor)


async def _rounds(folder: Path, rows: int) -> list[str]:
    path = folder / "pruned.db"
    await upgrade_schema(path)
    async with SQLAlchemyCheckpointStore(path) as store:
        await store.save_checkpoint(make_state("seed", workflow_name="seed", context={"text": "x" * 500}))
        _multiply(path, rows)
        rules = RetentionRules(Limits(rows // _WORKFLOWS * 3 // 5, 86400.0), {"workflow 0": Limits(1000)})
        reset_peak()
        before, began, worked = peak_bytes(), time.perf_counter(), time.process_time()
        told = 0
        async for fate in plan_retention(store, rules):
            told += fate.goes is not None
        planned, grown = time.perf_counter() - began, peak_bytes() - before
        worked = time.process_time() - worked
        began = time.perf_counter()
        deleted = await retain(store, rules)
        pruned, began = time.perf_counter() - began, time.perf_counter()
        await store.vacuum()
        vacuumed = time.perf_counter() - began
    gone = deleted.by_age + deleted.by_count
    assert gone == told
    return [
        f"{rows:,} checkpoints of 1 KB in {_WORKFLOWS} workflows, a policy for one of them, on SQLite",
        f"checkpoints prune --dry-run   {planned:.1f} s ({rows / planned:,.0f} rows a second)",
        f"                              {worked:.1f} s of the processor's, {grown / 2**20:.0f} MiB more memory",
        f"checkpoints prune             {pruned:.1f} s for {gone:,} ({gone / pruned:,.0f} rows a second)",
        f"db vacuum                     {vacuumed:.1f} s",
    ]


def _multiply(path: Path, rows: int) -> None:
    """Fill the table with copies of a row, of which two fifths are older than a day, and none is about to be."""
    columns = [name for name in _columns(path) if name not in {"checkpoint_id", "workflow_name", "created_at"}]
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?) "
            f"INSERT INTO checkpoints (checkpoint_id, workflow_name, created_at, {', '.join(columns)}) "
            "SELECT printf('c%09d', n), 'workflow ' || (n % ?), ? - (? - n) * 1e-3 - (n <= ?) * 172800.0, "
            f"{', '.join(columns)} FROM n, checkpoints WHERE checkpoint_id = 'seed'",
            (rows, _WORKFLOWS, time.time(), rows, rows * 2 // 5),
        )


def _columns(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as file:
        return [name for _, name, *_ in file.execute("PRAGMA table_info(checkpoints)")]
