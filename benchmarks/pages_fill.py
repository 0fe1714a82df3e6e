"""A database that has been used for a month: runs of many workflows that are over, at work, or wait for an answer.

They are copies of what the executor has saved, written past the store: a million saves would take longer than all that
is measured. One run more is saved by the store itself, as long and as large as one that people look at closely.
"""

import asyncio
import heapq
import math
import operator
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import asyncpg

from benchmarks.long_run import LongRun
from benchmarks.pages_fates import CHECKPOINTS_A_RUN, Copy, Saved, make_fates
from benchmarks.prose import prose
from workflows_mcp import CheckpointStatus, SQLAlchemyCheckpointStore
from workflows_mcp.persistence.row_codec import RowCodec
from workflows_mcp.persistence.statements import TABLE

__all__ = ["WORKFLOWS", "Filled", "fill"]

WORKFLOWS = [
    f"{verb}-{noun}"
    for noun in ("invoices", "customers", "orders", "reports", "images", "contracts", "releases", "backups")
    for verb in ("import", "check", "publish", "archive", "translate")
]
"""The names of the workflows; each has more runs than the one after it."""

_SECONDS = 30 * 86400.0
"""How long ago the first run began."""

_FATES = {"completed": 83, "answered": 10, "failed": 6, "cancelled": 1}
"""Of a hundred runs that are over, how many went so."""

_UNLIKE = {"waiting": 300, "abandoned": 20, "foreign": 20, "held": 40}
"""Of a hundred thousand runs, how many wait for an answer, how many lost their process, how many are at work without a
lease, being another program's, and how many a process works on."""

_LEASES = {"held": 86400.0, "abandoned": -3600.0}
"""Seconds until the leases of such runs end, or since."""

_WAVES, _BYTES = 100, 260_000
"""Of the run that is looked at closely, which has a checkpoint after each wave, and of its last state as plain JSON."""

_COLUMNS = tuple(column.name for column in TABLE.c)
_VALUES = operator.itemgetter(*_COLUMNS)
_PAGE = 10_000


@dataclass(frozen=True)
class Filled:
    """What there is in a database.

    Attributes:
        checkpoints: How many.
        runs: How many of each fate: `completed`, `answered`, `failed`, `cancelled`, `waiting`, `held` by a process,
            `abandoned` by it, and `foreign`: another program's, without a lease.
        seconds: How long it took to fill it.
        checkpoint_ids: Those of the run that is looked at closely, in the order in which they were saved.
        run_id: That run.
    """

    checkpoints: int
    runs: dict[str, int]
    seconds: float
    checkpoint_ids: list[str]
    run_id: str


def fill(url: str, rows: int) -> Filled:
    """Fill an empty database of the newest revision, and have the database look at what it then has.

    Args:
        url: The database.
        rows: How many checkpoints there are to be, about.
    """
    began = time.perf_counter()
    fates = asyncio.run(make_fates())
    told: Counter[str] = Counter()
    made = _rows(_runs(fates, math.ceil(rows / CHECKPOINTS_A_RUN), told))
    is_file = not url.startswith("postgresql")
    checkpoints = _fill_sqlite(url, made) if is_file else asyncio.run(_fill_postgresql(url, made))
    run_id, ids = asyncio.run(_save_long_run(url))
    told["completed"] += 1
    return Filled(checkpoints + len(ids), dict(told), time.perf_counter() - began, ids, run_id)


def _runs(
    fates: dict[str, tuple[Saved, ...]], runs: int, told: Counter[str]
) -> Iterator[tuple[Copy, tuple[Saved, ...]]]:
    """So many runs, and the states of each, in the order in which they began."""
    chance, now = random.Random(9), time.time()
    weights = [1 / place for place in range(2, len(WORKFLOWS) + 2)]
    unlike = _unlike(runs, chance)
    for number in range(runs):
        begun = now - _SECONDS * (1 - (number + chance.random()) / runs)
        fate = unlike.get(number) or chance.choices(list(_FATES), list(_FATES.values()))[0]
        told[fate] += 1
        lease = _LEASES.get(fate)
        copy = Copy(
            run_id=f"{chance.getrandbits(128):032x}",
            workflow=chance.choices(WORKFLOWS, weights)[0],
            begun=begun,
            seconds=min(chance.lognormvariate(4, 1), now - begun),
            lease=None if lease is None else now + lease,
        )
        whole = fates["completed"]
        yield copy, fates.get(fate) or whole[: chance.randrange(1, len(whole) - 1)]


def _unlike(runs: int, chance: random.Random) -> dict[int, str]:
    """Which of the runs are not over; those that a process works on are the last ones."""
    found: dict[int, str] = {}
    for fate, share in _UNLIKE.items():
        many = max(1, round(runs * share / 100_000))
        places = range(runs - many, runs) if fate == "held" else chance.sample(range(runs), many)
        found |= dict.fromkeys(places, fate)
    return found


def _rows(runs: Iterable[tuple[Copy, tuple[Saved, ...]]]) -> Iterator[tuple[Any, ...]]:
    """The rows of all runs in the order in which they were saved, many runs at a time."""
    codec, numbers = RowCodec(), count()
    coming: list[tuple[float, int, Copy, Saved, bool]] = []

    def saved_before(end: float) -> Iterator[tuple[Any, ...]]:
        while coming and coming[0][0] < end:
            _, _, copy, saved, is_head = heapq.heappop(coming)
            yield _VALUES(saved.row(copy, codec, is_head=is_head))

    for copy, states in runs:
        yield from saved_before(copy.begun)
        for saved in states:
            at = copy.begun + saved.share * copy.seconds
            heapq.heappush(coming, (at, next(numbers), copy, saved, saved is states[-1]))
    yield from saved_before(math.inf)


def _fill_sqlite(path: str, rows: Iterator[tuple[Any, ...]]) -> int:
    insert = f"INSERT INTO checkpoints ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
    with closing(sqlite3.connect(path)) as file:
        # The file is of no use to anybody when this comes to nothing.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -400000"):
            file.execute(f"PRAGMA {pragma}")
        with file:
            inserted = file.executemany(insert, rows).rowcount
        # As `PRAGMA optimize` does it, with which a vacuum ends.
        file.execute("PRAGMA analysis_limit = 1000")
        file.execute("ANALYZE")
        return inserted


async def _fill_postgresql(url: str, rows: Iterator[tuple[Any, ...]]) -> int:
    connection = await asyncpg.connect(url)
    inserted = 0
    try:
        while page := list(islice(rows, _PAGE)):
            await connection.copy_records_to_table("checkpoints", records=page, columns=list(_COLUMNS))
            inserted += len(page)
        # As autovacuum does it.
        await connection.execute("VACUUM (ANALYZE)")
    finally:
        await connection.close()
    return inserted


async def _save_long_run(url: str) -> tuple[str, list[str]]:
    """Save the run that is looked at closely; returns its id, and those of its checkpoints."""
    run, ids = LongRun(_WAVES, _BYTES, prose(_BYTES)), []
    run_id, newest = None, None
    async with SQLAlchemyCheckpointStore(url) as store:
        for state in run.states():
            run_id, is_over = state.run_id, state.status is not CheckpointStatus.RUNNING
            newest = await store.save_checkpoint(
                state, follows=newest, owner="the benchmark", lease_seconds=None if is_over else _LEASES["held"]
            )
            ids.append(newest)
    assert run_id is not None
    return run_id, ids
