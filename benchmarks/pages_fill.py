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

_WAITING, _HELD, _FOREIGN = 300, 40, 20
"""Of a hundred thousand runs, how many wait for an answer, how many a process works on, and how many are at work and
have no lease: another program's executor saved them."""

_HELD_SECONDS = 86400.0
"""How long they stay so: no server may take a run over while something is measured."""

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
        runs: How many of each fate: `completed`, `answered`, `failed`, `cancelled`, `waiting`, `held` by a process, and
            `foreign`: at work, and no process of ours has it.
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
    chance = random.Random(9)
    now = time.time()
    waiting, held, foreign = (max(1, round(runs * share / 100_000)) for share in (_WAITING, _HELD, _FOREIGN))
    weights = [1 / place for place in range(2, len(WORKFLOWS) + 2)]
    special = chance.sample(range(runs - held), waiting + foreign)
    unlike = dict.fromkeys(special[:waiting], "waiting") | dict.fromkeys(special[waiting:], "foreign")
    unlike |= dict.fromkeys(range(runs - held, runs), "held")
    for number in range(runs):
        begun = now - _SECONDS * (1 - (number + chance.random()) / runs)
        fate = unlike.get(number) or chance.choices(list(_FATES), list(_FATES.values()))[0]
        told[fate] += 1
        is_held = fate == "held"
        copy = Copy(
            f"{chance.getrandbits(128):032x}",
            chance.choices(WORKFLOWS, weights)[0],
            begun,
            min(chance.lognormvariate(4, 1), now - begun),
            now + _HELD_SECONDS if is_held else None,
        )
        whole = fates["completed"]
        yield copy, fates.get(fate) or whole[: chance.randrange(1, len(whole) - 1)]


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
                state, follows=newest, owner="the benchmark", lease_seconds=None if is_over else _HELD_SECONDS
            )
            ids.append(newest)
    assert run_id is not None
    return run_id, ids
