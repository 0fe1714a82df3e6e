"""Another process holds SQLite's write lock for longer than a call may take, or that of a row of PostgreSQL."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.faults.base_locked import base_is_locked
from tests.faults.calls import READS, WRITES, make_ready
from tests.faults.crew import join, start
from tests.faults.leftovers import count_threads, threads_left
from tests.faults.load import state_of
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import SQLAlchemyCheckpointStore, StoreUnavailableError, upgrade_schema
from workflows_mcp.settings import Settings

__all__ = ["ROW"]

_MOST_OVERRUN = 0.25
"""How much later than its deadline a call may end, in seconds."""

_LONGEST_READ = 0.25
"""How long a read may take while others cannot write, in seconds, and be called unaffected; or the loop stand still."""

_SAVED = {"save": state_of("new", 1), "save a delta": state_of("chain/3", 3)}
"""What some of the calls save."""

_BEAT = 0.005
"""Seconds between two looks at how late the event loop is."""


async def check(place: Place, effort: Effort) -> Verdict:
    """Hold the lock, let all who write and read try, and let go of it."""
    verdict = Verdict({})
    if place.database == "postgresql":
        await base_is_locked(place, effort, verdict)
        return verdict
    deadline = effort.of(2.0, 0.5)
    held = effort.of(10.0, 1.2)
    verdict.figures["s held"] = held
    threads = count_threads()
    for whose in ("own", "theirs"):
        url = str(place.folder / f"{whose}.db")
        await upgrade_schema(url)
        engine = create_async_engine(f"sqlite+aiosqlite:///{url}") if whose == "theirs" else None
        try:
            await _with_one_store(url, engine, (held, deadline), verdict)
        finally:
            if engine is not None:
                await engine.dispose()
    verdict.figures["threads left"] = left = await threads_left(threads)
    verdict.require(not left, f"{left} threads are left")
    return verdict


async def _with_one_store(url: str, engine: AsyncEngine | None, seconds: tuple[float, float], verdict: Verdict) -> None:
    held, deadline = seconds
    name = "" if engine is None else "engine passed in: "
    async with SQLAlchemyCheckpointStore(
        engine if engine is not None else url, settings=Settings(deadline_seconds=deadline)
    ) as store:
        await make_ready(store)
        for number in range(200):
            await store.save_checkpoint(state_of(f"there-{number}", number))
        for read in READS.values():
            await read(store)
        locker = start(_hold, Path(url), held)
        signal = Path(f"{url}.held")
        while not signal.exists():
            await asyncio.sleep(0.005)
        ends = time.monotonic() + held
        writes = _Writes(deadline, ends)
        lag = _Lag()
        reads = _Reads(lag)
        lagging = asyncio.create_task(lag.measure())
        reading = asyncio.create_task(reads.go_on(store))
        async with asyncio.TaskGroup() as group:
            for call in WRITES.values():
                group.create_task(writes.try_until(call, store))
        verdict.require(time.monotonic() < ends, "the lock was let go of too early to have tried anything")
        reading.cancel()
        lagging.cancel()
        await asyncio.wait({reading, lagging})
        verdict.require(reading.cancelled(), f"{name}a read failed: {reading}")
        verdict.require(await join(locker) == 0, "the lock was not held")
        await _all_works(store, name, verdict)
    verdict.figures[f"{name}refused writes"] = writes.refused
    verdict.figures[f"{name}worst overrun ms"] = round(writes.worst * 1000)
    verdict.figures[f"{name}reads"] = len(reads.seconds)
    verdict.figures[f"{name}worst read ms"] = round(max(reads.seconds, default=0) * 1000)
    verdict.broken += [f"{name}{one}" for one in writes.broken[:5]]
    verdict.require(writes.refused >= len(WRITES), f"{name}only {writes.refused} writes were refused")
    verdict.require(len(reads.seconds) > len(READS), f"{name}hardly anything was read")
    verdict.require(writes.worst <= _MOST_OVERRUN, f"{name}a write ended {writes.worst:.3f} s after its deadline")
    verdict.figures[f"{name}worst lag ms"] = round(lag.worst * 1000)
    verdict.require(lag.worst <= _LONGEST_READ, f"{name}the event loop stood still for {lag.worst:.3f} s")
    worst = max(reads.seconds, default=0)
    verdict.require(worst <= _LONGEST_READ, f"{name}a read took {worst:.3f} s")


async def _hold(path: Path, seconds: float) -> None:
    """The other process."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        Path(f"{path}.held").touch()
        await asyncio.sleep(seconds)
        file.execute("ROLLBACK")


class _Writes:
    """Calls that write, made again and again while none can."""

    def __init__(self, deadline: float, ends: float) -> None:
        self.refused = 0
        self.worst = 0.0
        self.broken: list[str] = []
        self._deadline = deadline
        self._ends = ends

    async def try_until(
        self, call: Callable[[SQLAlchemyCheckpointStore], Awaitable[object]], store: SQLAlchemyCheckpointStore
    ) -> None:
        """Make a call for so long as its deadline comes before the lock's end."""
        while (began := time.monotonic()) + self._deadline + 2 * _MOST_OVERRUN < self._ends:
            try:
                self.broken.append(f"a write returned {await call(store)!r} though the lock was held")
            except StoreUnavailableError:
                self.refused += 1
            except Exception as error:  # noqa: BLE001 - it is what was found
                self.broken.append(f"a write raised {error!r}")
            self.worst = max(self.worst, time.monotonic() - began - self._deadline)


class _Lag:
    """How late the event loop is, since it or the machine had something else to do.

    Attributes:
        total: In all so far, in seconds.
        worst: At a time.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self.worst = 0.0

    async def measure(self) -> None:
        """Look at it until this is cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(_BEAT)
            late = max(time.monotonic() - began - _BEAT, 0)
            self.total += late
            self.worst = max(self.worst, late)


class _Reads:
    """Calls that read, beside those that cannot write.

    Attributes:
        seconds: How long each took, without the event loop's lag meanwhile.
    """

    def __init__(self, lag: _Lag) -> None:
        self.seconds: list[float] = []
        self._lag = lag

    async def go_on(self, store: SQLAlchemyCheckpointStore) -> None:
        """Read everything again and again."""
        while True:
            for call in READS.values():
                began, late = time.monotonic(), self._lag.total
                await call(store)
                self.seconds.append(max(time.monotonic() - began - (self._lag.total - late), 0))
                await asyncio.sleep(0.001)


async def _all_works(store: SQLAlchemyCheckpointStore, name: str, verdict: Verdict) -> None:
    """Once the lock is free, everything does what it was asked to, as if nothing had been."""
    for what, call in {**WRITES, **READS}.items():
        try:
            done = await call(store)
        except Exception as error:  # noqa: BLE001 - it is what was found
            verdict.broken.append(f"{name}after the lock's end {what} raised {error!r}")
        else:
            if what in _SAVED:
                saved = await store.load_checkpoint(_SAVED[what].checkpoint_id) == _SAVED[what]
                verdict.require(saved, f"{name}after the lock's end a {what} is lost")
            if what in {"pin", "delete", "delete a base", "delete run", "cleanup", "trim"}:
                verdict.require(done, f"{name}after the lock's end {what} found nothing to do: it had been done late")


ROW = Row(
    fault="lock held",
    promise=(
        "Writes end at their deadline with StoreUnavailableError, reads take 250 ms at the most, and once it is free "
        "all works. On PostgreSQL, where it is a row that others are deltas of, writes that are not about it go on."
    ),
    check=check,
)
