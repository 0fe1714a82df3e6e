"""What the part about scale runs in a worker, with our store."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.contenders.ours import OursPostgreSQL, OursSQLite
from benchmarks.figures import percentile
from benchmarks.memory import peak_bytes, reset_peak
from benchmarks.process import Bench
from workflows_mcp import SQLAlchemyCheckpointStore

__all__ = [
    "Waits",
    "cleanup",
    "forget_saved",
    "iterate_all",
    "save_rate",
    "start_saver",
    "stop_saver",
    "time_list_all",
    "time_listings",
    "time_stats",
    "trim",
]

_SAVER_PAUSE = 0.005
_SAVER_HEAD_START = 0.1
_STATS_CALLS = 3
_LIST_PAGE = 10_000


@dataclass(frozen=True)
class Waits:
    """How long saves took beside something else, in milliseconds, from when each was due."""

    saves: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


def _store(bench: Bench) -> SQLAlchemyCheckpointStore:
    contender = bench.opened
    assert isinstance(contender, OursSQLite | OursPostgreSQL)
    return contender.store


async def time_listings(bench: Bench, calls: int) -> dict[str, float]:
    """Median milliseconds of each listing of 50, out of so many calls."""
    store = _store(bench)
    [newest] = await store.list_checkpoints(limit=1)
    workflow, run = newest.workflow_name, newest.run_id
    queries: dict[str, Callable[[], Awaitable[object]]] = {
        "newest": lambda: store.list_checkpoints(limit=50),
        "newest_workflow": lambda: store.list_checkpoints(workflow, limit=50),
        "newest_run": lambda: store.list_checkpoints(run_id=run, limit=50),
        "newest_waiting": lambda: store.list_checkpoints(is_paused=True, limit=50),
    }
    return {name: await _median_ms(query, calls) for name, query in queries.items()}


async def time_stats(bench: Bench) -> float:
    """Median milliseconds of `get_stats`."""
    return await _median_ms(_store(bench).get_stats, _STATS_CALLS)


async def _median_ms(query: Callable[[], Awaitable[object]], calls: int) -> float:
    await query()
    durations = []
    for _ in range(calls):
        began = time.perf_counter()
        await query()
        durations.append(time.perf_counter() - began)
    return statistics.median(durations) * 1000


async def time_list_all(bench: Bench) -> float:
    """Seconds of listing everything, page by page: a call has a deadline, and a million rows may take longer."""
    began = time.perf_counter()
    store = _store(bench)
    page = await store.list_checkpoints(limit=_LIST_PAGE)
    while len(page) == _LIST_PAGE:
        page = await store.list_checkpoints(limit=_LIST_PAGE, before=page[-1])
    return time.perf_counter() - began


async def iterate_all(bench: Bench) -> tuple[int, float, int]:
    """Stream all states; returns how many, the seconds, and the most bytes that the process held."""
    reset_peak()
    began, count = time.perf_counter(), 0
    async for _ in _store(bench).iter_checkpoints():
        count += 1
    return count, time.perf_counter() - began, peak_bytes()


async def save_rate(bench: Bench, saves: int) -> float:
    """Saves a second, one after the other."""
    assert bench.source is not None
    states = bench.source.take(saves)
    bench.saved += [state.checkpoint_id for state in states]
    store = _store(bench)
    reset_peak()
    began = time.perf_counter()
    for state in states:
        await store.save_checkpoint(state)
    return saves / (time.perf_counter() - began)


async def forget_saved(bench: Bench) -> None:
    """Delete what `save_rate` saved, so that the number of rows is what it was."""
    store = _store(bench)
    for checkpoint_id in bench.saved:
        await store.delete_checkpoint(checkpoint_id)
    bench.saved = []


async def trim(bench: Bench, keep: float) -> tuple[int, float]:
    """Trim; returns the rows removed and the seconds."""
    began = time.perf_counter()
    return await _store(bench).trim_per_workflow(int(keep)), time.perf_counter() - began


async def cleanup(bench: Bench, max_age_seconds: float) -> tuple[int, float]:
    """Clean up; returns the rows removed and the seconds."""
    began = time.perf_counter()
    return await _store(bench).cleanup_expired(max_age_seconds), time.perf_counter() - began


async def start_saver(bench: Bench) -> None:
    """Begin to save a state of 1 KB every few milliseconds, beside the calls that follow."""
    bench.saver_stop = asyncio.Event()
    bench.saver = asyncio.create_task(_save_on(bench))
    await asyncio.sleep(_SAVER_HEAD_START)


async def stop_saver(bench: Bench) -> Waits:
    """End it; returns how long its saves took."""
    assert bench.saver is not None
    bench.saver_stop.set()
    waits: Waits = await bench.saver
    return waits


async def _save_on(bench: Bench) -> Waits:
    assert bench.source is not None
    store, waits = _store(bench), []
    while not bench.saver_stop.is_set():
        [state] = bench.source.take(1)
        due = time.perf_counter() + _SAVER_PAUSE
        await asyncio.sleep(_SAVER_PAUSE)
        # From when it was due: time that the event loop was busy elsewhere is waiting, too.
        await store.save_checkpoint(state)
        waits.append((time.perf_counter() - due) * 1000)
    return Waits(len(waits), percentile(waits, 0.5), percentile(waits, 0.99), max(waits))
