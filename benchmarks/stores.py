"""The three stores of this package beside one another: what decides between them, as a table for the guide."""

import asyncio
import contextlib
import gc
import itertools
import random
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.databases import open_databases
from benchmarks.figures import percentile, rotated
from benchmarks.states import SIZES, Shape, StateSource
from workflows_mcp import CheckpointStore, create_checkpoint_store, upgrade_schema
from workflows_mcp.settings import MEMORY_URL

__all__ = ["STORES", "compare_stores", "with_table"]

STORES = {"memory": "in memory", "sqlite": "SQLite file", "postgresql": "PostgreSQL"}

_BEGIN, _END = "<!-- stores -->", "<!-- /stores -->"
_TASKS = 64
_ROWS = 10_000


class _Row(NamedTuple):
    title: str
    cells: list[str]


def compare_stores(*, rows: int = _ROWS, seconds: float = 1.0, turns: int = 5, folder: Path | None = None) -> str:
    """A table in Markdown of what the three stores do in the same process, turn by turn in a rotating order.

    Args:
        rows: How many checkpoints of 1 KB each one holds.
        seconds: How long each measurement of a turn lasts.
        turns: How many there are, of which the median counts.
        folder: Where databases are put.
    """
    with contextlib.ExitStack() as stack:
        urls = dict.fromkeys(STORES, MEMORY_URL)
        for name in ("sqlite", "postgresql"):
            urls[name] = stack.enter_context(open_databases(name, folder)).create("stores")
        found = asyncio.run(_measure(urls, rows, seconds, turns))
    head = ["", *STORES.values()]
    lines = [head, ["---"] * len(head), *([row.title, *row.cells] for row in found)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def with_table(document: str, table: str) -> str:
    """A document whose table of stores, between its marks, is this one."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"the document has no {_BEGIN} and {_END}")
    return f"{before}{begin}\n{table}\n{end}{after}"


async def _measure(urls: dict[str, str], rows: int, seconds: float, turns: int) -> list[_Row]:
    states = StateSource(Shape(SIZES["1kb"], SIZES["1kb"]))
    filled = states.take(rows)
    async with contextlib.AsyncExitStack() as stack:
        stores: dict[str, CheckpointStore] = {}
        kept: dict[str, float] = {}
        for name, url in urls.items():
            if url != MEMORY_URL:
                await upgrade_schema(url)
            stores[name] = await stack.enter_async_context(create_checkpoint_store(url))
            kept[name] = await _fill(stores[name], filled, counts_memory=url == MEMORY_URL)
        ids = [state.checkpoint_id for state in filled]
        # Saves last: they make the stores larger.
        measures: dict[str, Callable[[CheckpointStore], tuple[Callable[[Any], Awaitable[Any]], Iterator[Any], int]]] = {
            "a load": lambda store: (store.load_checkpoint, _any_of(ids), 1),
            f"loads, {_TASKS} at a time": lambda store: (store.load_checkpoint, _any_of(ids), _TASKS),
            f"a listing of the newest 50 of {rows:,}": lambda store: (_newest, itertools.repeat(store), 1),
            "a save": lambda store: (store.save_checkpoint, iter(states.take(60_000)), 1),
            f"saves, {_TASKS} at a time": lambda store: (store.save_checkpoint, iter(states.take(60_000)), _TASKS),
        }
        return [
            *[_Row(title, await _turn_by_turn(stores, measure, seconds, turns)) for title, measure in measures.items()],
            _Row("a checkpoint takes up", [f"{kept[name] / 1000:.1f} KB" for name in stores]),
        ]


async def _fill(store: CheckpointStore, states: list[Any], *, counts_memory: bool) -> float:
    """Save states, many at a time; how many bytes each takes up then."""
    if counts_memory:
        gc.collect()
        tracemalloc.start()
    for start in range(0, len(states), _TASKS):
        await asyncio.gather(*map(store.save_checkpoint, states[start : start + _TASKS]))
    if not counts_memory:
        return (await store.get_stats()).database_bytes / len(states)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(states)


async def _turn_by_turn(
    stores: dict[str, CheckpointStore],
    measure: Callable[[CheckpointStore], tuple[Callable[[Any], Awaitable[Any]], Iterator[Any], int]],
    seconds: float,
    turns: int,
) -> list[str]:
    """How long a call takes, or, of several at a time, how many there are in a second; of each store."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in stores}
    tasks = 1
    for turn in range(turns):
        for name in rotated(list(stores), turn):
            call, items, tasks = measure(stores[name])
            found[name].append(await _timed(call, items, tasks, seconds))
    medians = [[statistics.median(column) for column in zip(*one, strict=True)] for one in found.values()]
    return [f"{latency:.2g} ms" if tasks == 1 else f"{_rounded(rate)} a second" for rate, latency in medians]


async def _timed(
    call: Callable[[Any], Awaitable[Any]], items: Iterator[Any], tasks: int, seconds: float
) -> tuple[float, float]:
    """How many calls a second, and the median duration of one in ms."""
    durations: list[float] = []
    began = time.perf_counter()

    async def work() -> None:
        for item in items:
            before = time.perf_counter()
            await call(item)
            after = time.perf_counter()
            durations.append(after - before)
            if after >= began + seconds:
                return

    await asyncio.gather(*(work() for _ in range(tasks)))
    elapsed = time.perf_counter() - began
    return len(durations) / elapsed, percentile(durations, 0.5) * 1000


async def _newest(store: CheckpointStore) -> None:
    await store.list_checkpoints(limit=50)


def _any_of(ids: list[str]) -> Iterator[str]:
    while True:
        yield random.choice(ids)


def _rounded(rate: float) -> str:
    digits = max(len(str(int(rate))) - 2, 0)
    return f"{round(rate, -digits):,.0f}"
