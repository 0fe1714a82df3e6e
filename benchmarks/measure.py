"""What runs in a worker: opening, filling, and the loops that are timed."""

import asyncio
import gc
import math
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from benchmarks.contenders import load_contender
from benchmarks.contenders.base import content_of
from benchmarks.figures import Turn, percentile
from benchmarks.memory import peak_bytes, reset_peak
from benchmarks.process import Bench
from benchmarks.states import Key, Shape, StateSource
from benchmarks.workloads import WAVES, Action, Plan, Workload

__all__ = [
    "EXPIRED_SECONDS",
    "check_contents",
    "close",
    "fill",
    "open_database",
    "take_turn",
    "use_shape",
    "warm_up",
]

EXPIRED_SECONDS = 5 * 86400
"""The age at which the older half of the data set expires; it is twice as old, the other half new."""

_CHUNK = 2000
"""States built at a time while a database is filled."""

_FILL_TASKS = 64
_CHECKED_BYTES = 2 * 2**20
_WARM_UP = 64
_WARM_UP_BYTES = 16 * 2**20
_PER_TURN_BYTES = 400 * 2**20
"""Bounds the work of a turn, so that states that are built before it fit into memory and what it writes onto disk."""

_Operation = Callable[[Any], Awaitable[Any]]


async def open_database(bench: Bench, url: str) -> dict[str, str]:
    """Open a database with the worker's contender; returns the settings that decide about durability."""
    assert bench.contender is None
    contender = load_contender(bench.spec)
    await contender.open(url)
    bench.contender, bench.rate = contender, 0.0
    return contender.settings


async def close(bench: Bench) -> None:
    """Close what is open."""
    contender, bench.contender = bench.contender, None
    bench.keys = []
    if contender is not None:
        await contender.close()
    gc.collect()


async def use_shape(bench: Bench, shape: Shape | None, *, seed: int = 1) -> None:
    """Build what the states of the next calls are made of, where there are any."""
    if shape is None:
        bench.source = None
        return
    if bench.source is None or bench.source.shape != shape:
        bench.source = None  # the old one first: two at a time would count as peak memory
        gc.collect()
        bench.source = StateSource(shape, seed=seed)
    bench.source.restart()


async def fill(
    bench: Bench, rows: int, *, start: float | None = None, step: float = 1e-4, tasks: int = _FILL_TASKS
) -> float:
    """Save states, many at a time, and remember their keys; returns the seconds that saving took.

    Args:
        bench: Of the worker.
        rows: How many.
        start: Unix time of the first one; None: now.
        step: Seconds between two.
        tasks: How many save at the same time.
    """
    assert bench.source is not None
    first = time.time() if start is None else start
    seconds, made = 0.0, 0
    while made < rows:
        count = min(rows - made, _CHUNK)
        states = bench.source.take(count, start=first + made * step, step=step)
        began = time.perf_counter()
        await _many(bench.opened.save, iter(states), tasks, math.inf)
        seconds += time.perf_counter() - began
        bench.keys += [Key(state.checkpoint_id, state.run_id or "") for state in states]
        made += count
    return seconds


async def check_contents(bench: Bench, workload: Workload) -> str | None:
    """Save a few states, load them, and list them, or run a workflow: the contender must do the work it is timed for.

    Returns:
        Why the contender cannot do the workload; None: it can.

    Raises:
        ValueError: What it gives back is not what was saved.
    """
    if workload.shape is None:
        await _check_run(bench, workload)
        return None
    assert bench.source is not None
    contender = bench.opened
    # Later than all the rest, and each in a millisecond of its own: some peers order by id alone.
    count = max(4, min(20, _CHECKED_BYTES // workload.shape.largest))
    states = bench.source.take(count, start=time.time() + 0.5, step=0.002)
    for state in states:
        await contender.save(state)
    for state in states[::3]:
        loaded = await contender.load(Key(state.checkpoint_id, state.run_id or ""))
        if contender.content(loaded) != content_of(state):
            raise ValueError(f"{bench.spec.name} did not give back what was saved as {state.checkpoint_id}")
    if workload.needs_data:
        expected = [state.checkpoint_id for state in reversed(states)]
        if list(await contender.newest(count)) != expected:
            raise ValueError(f"{bench.spec.name} does not list the newest first")
    return contender.lacks if workload.consumes_data else None


async def _check_run(bench: Bench, workload: Workload) -> None:
    if workload.action is Action.RUN:
        steps = await bench.runner.count_steps(await bench.runner.run())
        if steps != WAVES:
            raise ValueError(f"{bench.spec.name} has stored {steps} steps of a run, not {WAVES}")


async def warm_up(bench: Bench, workload: Workload, seconds: float) -> None:
    """Do a little of the work, so that caches, connections and statements are ready when the clock runs.

    Args:
        bench: Of the worker.
        workload: The work.
        seconds: How long, at most.
    """
    count = min(_WARM_UP * (4 if workload.tasks > 1 else 1), max(8, _WARM_UP_BYTES // _bytes_of(workload)))
    turn = await _timed(bench, workload, seconds, _items(bench, workload, count))
    bench.rate = turn.rate


async def take_turn(bench: Bench, workload: Workload, plan: Plan) -> tuple[Turn, str]:
    """Do a workload for as long as a turn lasts.

    Returns:
        What was done, and how memory was measured.
    """
    count = _WARM_UP + round(bench.rate * plan.seconds * 2)
    items = _items(bench, workload, min(count, _PER_TURN_BYTES // _bytes_of(workload)), plan.trim_keep)
    if plan.settle:
        os.sync()  # what earlier turns left to be written does not slow this one down
    method = reset_peak()
    gc.freeze()  # what was built is not walked by the collector while the clock runs
    turn = await _timed(bench, workload, plan.seconds, items)
    bench.rate = turn.rate
    return turn, method


def _bytes_of(workload: Workload) -> int:
    """What an item of a workload may take up."""
    return workload.shape.largest if workload.shape is not None else 1


async def _timed(bench: Bench, workload: Workload, seconds: float, items: Sequence[Any]) -> Turn:
    """Run the operations until the time is over, or the items are; at least one."""
    operation = _operation(bench, workload.action)
    durations: list[float] = []
    began = time.perf_counter()
    rows = await _many(operation, iter(items), workload.tasks, began + seconds, durations)
    elapsed = time.perf_counter() - began
    milliseconds = 1000 / workload.parts
    return Turn(
        operations=len(durations) * workload.parts,
        seconds=elapsed,
        p50_ms=percentile(durations, 0.5) * milliseconds,
        p99_ms=percentile(durations, 0.99) * milliseconds,
        worst_ms=max(durations) * milliseconds,
        peak_bytes=peak_bytes(),
        rows=rows if isinstance(rows, int) else None,
    )


async def _many(
    operation: _Operation,
    items: Iterator[Any],
    tasks: int,
    deadline: float,
    durations: list[float] | None = None,
) -> Any:  # noqa: ANN401 - what the operation returns
    """Let so many tasks take items and work on them; returns what the last operation did."""
    clock = time.perf_counter
    last: Any = None

    async def work() -> None:
        nonlocal last
        for item in items:
            before = clock()
            last = await operation(item)
            after = clock()
            if durations is not None:
                durations.append(after - before)
            if after >= deadline:
                return

    if tasks == 1:
        await work()
    else:
        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(work())
    return last


def _items(bench: Bench, workload: Workload, count: int, trim_keep: int = 0) -> Sequence[Any]:
    """What the operations of a turn are given, made before the clock starts."""
    if workload.action is Action.SAVE:
        assert bench.source is not None
        return bench.source.take(max(count, workload.tasks))
    if workload.action is Action.LOAD:
        return random.Random(count).choices(bench.keys, k=max(count, workload.tasks))
    if workload.consumes_data:
        return [trim_keep if workload.action is Action.TRIM else EXPIRED_SECONDS]
    return [None] * max(count, 1)


def _operation(bench: Bench, action: Action) -> _Operation:
    """The call of an action, given one item."""
    if action is Action.RUN:
        return lambda _: bench.runner.run()
    if action is Action.RUN_UNSAVED:
        return lambda _: bench.runner.run_unsaved()
    contender = bench.opened

    async def newest(_: None) -> int:
        return len(await contender.newest(50))

    async def list_all(_: None) -> int:
        return await contender.list_all()

    calls: dict[Action, _Operation] = {
        Action.SAVE: contender.save,
        Action.LOAD: contender.load,
        Action.NEWEST: newest,
        Action.LIST_ALL: list_all,
        Action.TRIM: contender.trim,
        Action.CLEANUP: contender.cleanup,
    }
    return calls[action]
