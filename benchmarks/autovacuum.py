"""How PostgreSQL's autovacuum keeps up with runs that save, follow and are trimmed, with some settings of the table.

The same load at the same rate for each: runs of 20 checkpoints that follow one another under a lease, and retention
that deletes as much as comes in, so that a table that is looked after stays as large as it was.
"""

import asyncio
import dataclasses
import itertools
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.table import Table

from benchmarks.databases import Databases, open_databases
from benchmarks.states import SIZES, Shape, StateSource
from workflows_mcp import CheckpointState, CheckpointStatus, SQLAlchemyCheckpointStore, upgrade_schema

__all__ = ["VARIANTS", "Load", "Outcome", "measure", "report"]

VARIANTS: Mapping[str, str] = {
    "default": "",
    "advised": (
        "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, "
        "autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05, "
        "toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 4000"
    ),
    "fillfactor 80": "fillfactor = 80",
}
"""What the table is told, by name."""

_RUNS = 16
_PER_RUN = 20
_SECONDS_BETWEEN_TRIMS = 2.0
_SIZES = (
    "SELECT pg_relation_size(c.oid), pg_indexes_size(c.oid), pg_total_relation_size(c.reltoastrelid), "
    "s.n_dead_tup, t.n_dead_tup, s.n_tup_upd, s.n_tup_hot_upd, s.autovacuum_count + t.autovacuum_count "
    "FROM pg_class c JOIN pg_stat_all_tables s ON s.relid = c.oid "
    "JOIN pg_stat_all_tables t ON t.relid = c.reltoastrelid "
    "WHERE c.relname = 'checkpoints'"
)


@dataclass(frozen=True)
class Load:
    """What is done to each table.

    Attributes:
        rows: How many checkpoints there are when it begins.
        seconds: How long it lasts.
        rate: Checkpoints that are saved in a second.
        naptime: Seconds between two looks of autovacuum; the server's default is 60.
    """

    rows: int = 20_000
    seconds: float = 60.0
    rate: float = 400.0
    naptime: int = 5


@dataclass(frozen=True)
class Outcome:
    """What became of a table; sizes in MiB, before and after.

    Attributes:
        heap: The rows without what lies outside of them.
        indexes: All of them together.
        toast: Payloads, and the index over them.
        most_dead: The most dead rows that there were at a time, and dead pieces of payloads.
        hot: The share of updates that needed no new entry in an index.
        vacuums: How often autovacuum came, to rows or payloads.
        saves: How many were made.
        middle: Milliseconds of a save, the median.
        slow: Milliseconds that one of a hundred takes longer than.
    """

    heap: tuple[float, float]
    indexes: tuple[float, float]
    toast: tuple[float, float]
    most_dead: tuple[int, int]
    hot: float
    vacuums: int
    saves: int
    middle: float
    slow: float


def measure(load: Load, folder: Path | None, told: Console) -> dict[str, Outcome]:
    """The same load on a table with each of the settings, one after the other.

    Args:
        load: What is done.
        folder: Where the server keeps its data; None: where the system keeps temporary files.
        told: Hears which one is at work.
    """
    if os.environ.get("TEST_DATABASE_URL"):
        raise ValueError("autovacuum is set for the whole server, so that it must be one of our own")
    found = {}
    with open_databases("postgresql", folder) as databases:
        for name, settings in VARIANTS.items():
            told.print(f"{name}: {load.seconds:g} s", highlight=False)
            found[name] = _measure_one(databases, name.replace(" ", "_"), settings, load)
    return found


def _measure_one(databases: Databases, name: str, settings: str, load: Load) -> Outcome:
    url = databases.create(name)
    try:
        return asyncio.run(_run(url, settings, load))
    finally:
        databases.drop(url)


async def _run(url: str, settings: str, load: Load) -> Outcome:
    await upgrade_schema(url)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"ALTER SYSTEM SET autovacuum_naptime = {load.naptime}")
        await connection.execute("SELECT pg_reload_conf()")
        if settings:
            await connection.execute(f"ALTER TABLE checkpoints SET ({settings})")
        async with SQLAlchemyCheckpointStore(url) as store:
            source = StateSource(Shape(SIZES["1kb"], SIZES["20kb"], compressible=True, paused_every=0))
            await _fill(store, source, load.rows)
            await connection.execute("VACUUM (ANALYZE) checkpoints")
            return await _churn(store, connection, source, load)
    finally:
        await connection.close()


async def _fill(store: SQLAlchemyCheckpointStore, source: StateSource, rows: int) -> None:
    states = iter(source.take(rows, start=time.time() - 86_400))

    async def save() -> None:
        for state in states:
            await store.save_checkpoint(dataclasses.replace(state, status=CheckpointStatus.COMPLETED))

    await asyncio.gather(*(save() for _ in range(64)))


async def _churn(
    store: SQLAlchemyCheckpointStore, connection: asyncpg.Connection, source: StateSource, load: Load
) -> Outcome:
    [before] = await connection.fetch(_SIZES)
    end = time.monotonic() + load.seconds
    latencies: list[float] = []
    watched: list[asyncpg.Record] = []
    contents = source.take(256)
    async with asyncio.TaskGroup() as group:
        for number in range(_RUNS):
            pace = _Pace(_RUNS / load.rate, time.monotonic() + number / load.rate, end)
            group.create_task(_run_for(store, contents, number, pace, latencies))
        group.create_task(_trim(store, load.rows // source.shape.workflows, end))
        while time.monotonic() < end:
            watched += await connection.fetch(_SIZES)
            await asyncio.sleep(0.5)
    [after] = await connection.fetch(_SIZES)
    heap, indexes, toast = ((before[n] / 2**20, after[n] / 2**20) for n in range(3))
    latencies.sort()
    return Outcome(
        heap=heap,
        indexes=indexes,
        toast=toast,
        most_dead=(max(row[3] for row in watched), max(row[4] for row in watched)),
        hot=(after[6] - before[6]) / max(after[5] - before[5], 1),
        vacuums=after[7] - before[7],
        saves=len(latencies),
        middle=statistics.median(latencies) * 1000,
        slow=latencies[int(len(latencies) * 0.99)] * 1000,
    )


@dataclass
class _Pace:
    """When the next save is due; one that came too late does not put off those after it."""

    pause: float
    due: float
    end: float

    async def keep(self) -> bool:
        """Wait for it; False: all is over."""
        await asyncio.sleep(self.due - time.monotonic())
        self.due += self.pause
        return time.monotonic() < self.end


async def _run_for(
    store: SQLAlchemyCheckpointStore,
    contents: Sequence[CheckpointState],
    number: int,
    pace: _Pace,
    latencies: list[float],
) -> None:
    """One run after the other, each checkpoint following the one before, at an even pace."""
    for run in itertools.count():
        last: str | None = None
        for wave in range(_PER_RUN):
            if not await pace.keep():
                return
            last_wave = wave == _PER_RUN - 1
            state = dataclasses.replace(
                contents[(number + run * _PER_RUN + wave) % len(contents)],
                checkpoint_id=f"{time.time():.6f}-{number}",
                workflow_name=f"workflow-{number % 20:04}",
                run_id=f"run-{number}-{run}",
                created_at=time.time(),
                status=CheckpointStatus.COMPLETED if last_wave else CheckpointStatus.RUNNING,
            )
            began = time.perf_counter()
            owner = f"owner-{number}-{run}"
            await store.save_checkpoint(state, follows=last, owner=owner, lease_seconds=None if last_wave else 60)
            latencies.append(time.perf_counter() - began)
            last = state.checkpoint_id


async def _trim(store: SQLAlchemyCheckpointStore, kept: int, end: float) -> None:
    while time.monotonic() < end:
        await store.trim_per_workflow(kept)
        await asyncio.sleep(_SECONDS_BETWEEN_TRIMS)


def report(load: Load, found: Mapping[str, Outcome]) -> Table:
    """A row for each of the settings."""
    title = f"{load.rows:,} checkpoints, {load.rate:g} saves/s for {load.seconds:g} s, naptime {load.naptime} s"
    table = Table(title=title, title_justify="left")
    headings = ("table", "heap MiB", "indexes MiB", "TOAST MiB", "most dead rows", "dead pieces", "HOT", "vacuums")
    for heading in (*headings, "saves", "ms, median", "99 %"):
        table.add_column(heading, justify="left" if heading == "table" else "right")
    for name, one in found.items():
        sizes = (f"{before:.0f} → {after:.0f}" for before, after in (one.heap, one.indexes, one.toast))
        dead = (f"{count:,}" for count in one.most_dead)
        rest = (f"{one.hot:.0%}", str(one.vacuums), f"{one.saves:,}", f"{one.middle:.1f}", f"{one.slow:.1f}")
        table.add_row(name, *sizes, *dead, *rest)
    return table
