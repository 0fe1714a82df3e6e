"""What the parts of a save and a load cost on this machine: the reasons behind the ratios."""

import asyncio
import functools
import itertools
import multiprocessing
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import orjson
from backports import zstd

from benchmarks.states import SIZES, Shape, StateSource
from workflows_mcp import CheckpointState, SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.engine.contract import columns_of
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.persistence import next_batch, statements
from workflows_mcp.persistence.dialects.thread import CallThread
from workflows_mcp.persistence.row_codec import RowCodec

__all__ = ["probe", "report"]

_TURNS = 5
_BATCH = 64

_STATS_BY_INDEX = (
    "SELECT workflow_name, count(*), count(*) FILTER (WHERE is_paused = 1), min(created_at), max(created_at), "
    "sum(full_bytes), sum(stored_bytes) FROM checkpoints GROUP BY workflow_name"
)


def probe(folder: Path, rows: int) -> list[tuple[str, float, str]]:
    """Measure all parts; each is a title, a median and its unit.

    Args:
        folder: Where databases are put.
        rows: How many checkpoints stats are counted of.
    """
    states = StateSource(Shape(SIZES["1kb"], SIZES["1kb"])).take(512)
    path = str(folder / "probe.db")
    asyncio.run(upgrade_schema(path))
    saving = asyncio.run(_saving_sql(path))
    return [
        *_threads(),
        *_python(states),
        *_commits(path, saving, states),
        *asyncio.run(_stages(path)),
        *asyncio.run(_together(path)),
        *_stats(path, saving, states, rows),
    ]


def _micros(work: Callable[[], object], count: int) -> float:
    """The median duration of one of many calls, in µs."""
    turns = []
    for _ in range(_TURNS):
        started = time.perf_counter()
        for _ in range(count):
            work()
        turns.append((time.perf_counter() - started) / count * 1e6)
    return statistics.median(turns)


def _threads() -> list[tuple[str, float, str]]:
    found = [
        ("a call to aiosqlite's thread and back", _in_a_process(None, _call_aiosqlite), "µs"),
        ("a call to a thread of the store's and back", _in_a_process(None, _call_thread), "µs"),
    ]
    if hasattr(os, "sched_setaffinity"):
        cpu = random.choice(sorted(os.sched_getaffinity(0)))
        found.append(("the same with both threads on one CPU", _in_a_process(cpu, _call_thread), "µs"))
    found.append(("asyncio.timeout around nothing", asyncio.run(_micros_of(_time_out)), "µs"))
    return found


async def _time_out() -> None:
    async with asyncio.timeout(10):  # noqa: ASYNC100 - to see what it costs
        pass


def _in_a_process(cpu: int | None, measure: Callable[[], Coroutine[Any, Any, float]]) -> float:
    """The duration of a call, measured in a process that may be bound to one CPU."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_bound, (cpu, measure))


def _bound(cpu: int | None, measure: Callable[[], Coroutine[Any, Any, float]]) -> float:
    if cpu is not None and sys.platform == "linux":
        os.sched_setaffinity(0, {cpu})
    return asyncio.run(measure())


async def _call_aiosqlite() -> float:
    async with aiosqlite.connect(":memory:") as connection:
        return await _micros_of(lambda: connection.execute_fetchall("SELECT 1"))


async def _call_thread() -> float:
    thread = CallThread("probe")
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        found = await _micros_of(lambda: thread.call(lambda: connection.execute("SELECT 1").fetchall()))
        thread.stop()
        return found


async def _micros_of(call: Callable[[], Awaitable[object]]) -> float:
    """The median duration of one of many calls that are awaited one after the other, in µs."""
    turns = []
    for _ in range(_TURNS):
        started = time.perf_counter()
        for _ in range(1000):
            await call()
        turns.append((time.perf_counter() - started) * 1000)
    return statistics.median(turns)


def _python(states: Sequence[CheckpointState]) -> list[tuple[str, float, str]]:
    state = states[0]
    plain = encode_state(state)
    codec = RowCodec()
    row = [_columns(state)[one.name] for one in codec.loading.columns]

    return [
        ("checking and encoding a state of 1 KB", _micros(lambda: _columns(state), 1000), "µs"),
        ("of it orjson", _micros(lambda: orjson.dumps(vars(state)), 1000), "µs"),
        ("decoding it", _micros(lambda: codec.state(row), 1000), "µs"),
        *_compressing(plain, "1 KB, which is not done", levels=(1,)),
        *_compressing(encode_state(StateSource(Shape(20_480, 20_480)).take(1)[0]), "20 KB", levels=(1, 3)),
        *_compressing(orjson.dumps(_messages(80)), "17 KB of parts that are alike", levels=(1,)),
    ]


def _columns(state: CheckpointState) -> dict[str, Any]:
    """What is stored of a state."""
    return RowCodec().filled({**columns_of(state), "status": str(state.status)}, encode_state(state))


def _messages(count: int) -> list[dict[str, Any]]:
    """What an agent's conversation looks like: parts of one shape, with much text that comes again."""
    source = random.Random(1)
    return [
        {
            "role": source.choice(["user", "assistant", "tool"]),
            "id": f"message-{source.getrandbits(32):08x}",
            "content": f"The deployment of billing {source.random():.3f} to production has finished with status ok.",
            "tool_calls": [{"name": "search", "arguments": {"query": "the status of billing", "limit": 10}}],
        }
        for _ in range(count)
    ]


def _compressing(plain: bytes, name: str, *, levels: Sequence[int]) -> list[tuple[str, float, str]]:
    lines = []
    for level in levels:
        compressor = zstd.ZstdCompressor(level=level)
        frame = compressor.compress(plain, mode=zstd.ZstdCompressor.FLUSH_FRAME)
        compress = functools.partial(compressor.compress, plain, mode=zstd.ZstdCompressor.FLUSH_FRAME)
        lines += [
            (f"compressing {name}: level {level}", _micros(compress, 1000), "µs"),
            (f"decompressing {name}: level {level}", _micros(functools.partial(zstd.decompress, frame), 1000), "µs"),
            (f"what compressing {name} saves: level {level}", float(len(plain) - len(frame)), "bytes"),
        ]
    return lines


async def _saving_sql(path: str) -> str:
    async with SQLAlchemyCheckpointStore(path) as store:
        return store._database._saving_sql["one"].sql  # noqa: SLF001 - a probe looks inside


def _rows(states: Sequence[CheckpointState], count: int) -> list[tuple[Any, ...]]:
    """Rows as the product saves them, with new ids."""
    values = []
    for state in itertools.islice(itertools.cycle(states), count):
        name = f"{time.time_ns():x}{next(_numbers):x}"
        columns = {**_columns(state), "checkpoint_id": name, "created_at": time.time()}
        values.append(tuple(columns[one] for one in statements.SAVED))
    return values


_numbers = itertools.count()


def _commits(path: str, saving: str, states: Sequence[CheckpointState]) -> list[tuple[str, float, str]]:
    """Commits without an event loop, synchronous=FULL."""
    before, _, rest = saving.partition("VALUES ")
    row, _, after = rest.partition(" ON CONFLICT")
    together = f"{before}VALUES {', '.join([row] * _BATCH)} ON CONFLICT{after}"
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA synchronous = FULL")
        singles = iter(_rows(states, 300 * _TURNS))
        many = iter([_rows(states, _BATCH) for _ in range(20 * _TURNS)])
        one = iter([_rows(states, _BATCH) for _ in range(20 * _TURNS)])

        def by_executemany() -> None:
            file.execute("BEGIN IMMEDIATE")
            file.executemany(saving, next(many))
            file.execute("COMMIT")

        return [
            (
                "committing one row of 1 KB, sqlite3 alone",
                _micros(lambda: file.execute(saving, next(singles)), 300),
                "µs",
            ),
            (f"a row of {_BATCH} by executemany", _micros(by_executemany, 20) / _BATCH, "µs"),
            (
                f"a row of {_BATCH} in one INSERT",
                _micros(lambda: file.execute(together, list(itertools.chain.from_iterable(next(one)))), 20) / _BATCH,
                "µs",
            ),
        ]


class _Clock:
    """Adds up how long the calls of a function take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:  # noqa: ANN401 - what the function takes and gives
            started = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.seconds += time.perf_counter() - started

        return call

    def timed_until_then(self, begin: Callable[..., bool]) -> Callable[..., bool]:
        """The same of a function that returns at once, and calls another one when what it began has ended."""

        def call(row: Any, then: Callable[..., None]) -> bool:  # noqa: ANN401 - as above
            started = time.perf_counter()

            def ended(*args: Any) -> None:  # noqa: ANN401 - as above
                self.seconds += time.perf_counter() - started
                then(*args)

            return begin(row, ended)

        return call

    def timed_async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any) -> Any:  # noqa: ANN401 - what the function takes and gives
            started = time.perf_counter()
            try:
                return await function(*args)
            finally:
                self.seconds += time.perf_counter() - started

        return call


async def _stages(path: str) -> list[tuple[str, float, str]]:
    """Where the time of a save goes that is made alone: medians of turns, each of many saves."""
    count = 500
    states = iter(StateSource(Shape(SIZES["1kb"], SIZES["1kb"])).take(count * _TURNS + 1))
    call, encoding, commit, thread = (_Clock() for _ in range(4))
    async with SQLAlchemyCheckpointStore(path) as store:
        await store.save_checkpoint(next(states))
        database: Any = store._database  # noqa: SLF001 - a probe looks inside
        save = database.save
        database.save = lambda encode: save(encoding.timed(encode))
        held = database._saving.held  # noqa: SLF001
        held._save = thread.timed(held._save)  # noqa: SLF001
        held.begin_save = commit.timed_until_then(held.begin_save)
        turns = []
        for _ in range(_TURNS):
            for clock in (call, encoding, commit, thread):
                clock.seconds = 0.0
            for state in itertools.islice(states, count):
                await call.timed_async(store.save_checkpoint)(state)
            parts = (call, thread, encoding, commit)
            turns.append([clock.seconds / count * 1e6 for clock in parts])
    whole, in_thread, encoded, committed = (statistics.median(turn) for turn in zip(*turns, strict=True))
    return [
        ("a save of 1 KB by the store, one after the other", whole, "µs"),
        ("of it the commit, in its thread", in_thread, "µs"),
        ("of it the way to that thread and back", committed - in_thread, "µs"),
        ("of it checking and encoding the state", encoded, "µs"),
        ("of it all else on the event loop", whole - committed - encoded, "µs"),
    ]


async def _together(path: str) -> list[tuple[str, float, str]]:
    """What sharing commits takes for each of many saves, and what two ways to share the interpreter are worth."""
    source = StateSource(Shape(SIZES["1kb"], SIZES["1kb"]))
    ways: dict[str, list[float]] = {}
    async with SQLAlchemyCheckpointStore(path) as store:
        await store.save_checkpoint(source.take(1)[0])
        thread: Any = store._database._saving.held._thread  # type: ignore[union-attr] # noqa: SLF001 - a probe looks inside
        fewest, call = next_batch._FEWEST_ROWS, thread.call  # noqa: SLF001
        for _ in range(_TURNS):
            for rows, begins_at_once in ((fewest, True), (fewest, False), (_BATCH, True)):
                next_batch._FEWEST_ROWS = rows  # noqa: SLF001
                thread.call = call if begins_at_once else lambda work, at_once: call(work)  # noqa: ARG005
                states = iter(source.take(2_000))
                started = time.perf_counter()
                await asyncio.gather(*(_save_all(store, states) for _ in range(_BATCH)))
                way = "all of them in each commit" if rows == _BATCH else "" if begins_at_once else "begun when idle"
                ways.setdefault(way, []).append((time.perf_counter() - started) / 2_000 * 1e6)
        next_batch._FEWEST_ROWS = fewest  # noqa: SLF001
    title = f"a save of 1 KB by the store, {_BATCH} at a time"
    return [(f"{title}; {way}" if way else title, statistics.median(turns), "µs") for way, turns in ways.items()]


async def _save_all(store: SQLAlchemyCheckpointStore, states: Iterator[CheckpointState]) -> None:
    for state in states:
        await store.save_checkpoint(state)


def _stats(path: str, saving: str, states: Sequence[CheckpointState], rows: int) -> list[tuple[str, float, str]]:
    """Counting, by one pass along an index and as the store does it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA synchronous = OFF")
        for _ in range(rows // 10_000):
            file.execute("BEGIN")
            file.executemany(saving, _rows(states, 10_000))
            file.execute("COMMIT")
        by_index = _micros(lambda: file.execute(_STATS_BY_INDEX).fetchall(), 1)

    async def count() -> float:
        async with SQLAlchemyCheckpointStore(path) as store:
            turns = []
            for _ in range(_TURNS):
                started = time.perf_counter()
                await store.get_stats()
                turns.append(time.perf_counter() - started)
            return statistics.median(turns)

    return [
        (f"stats of {rows:,} checkpoints, grouped along the index", by_index / 1000, "ms"),
        ("as the store counts", asyncio.run(count()) * 1000, "ms"),
    ]


def report(rows: int) -> str:
    """All parts as text, a line each; an error when one of them took no time at all."""
    with tempfile.TemporaryDirectory() as folder:
        found = probe(Path(folder), rows)
    nothing = [title for title, value, _ in found if value <= 0]
    if nothing:
        raise RuntimeError(f"nothing was measured: {', '.join(nothing)}")
    return "".join(f"{title:<60} {value:>10,.1f} {unit}\n" for title, value, unit in found)
