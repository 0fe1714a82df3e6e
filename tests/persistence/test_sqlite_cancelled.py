"""What is cancelled, or waits for others, holds no lock on a SQLite file."""

import asyncio
import contextlib
import gc
import shutil
import sqlite3
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.persistence import line
from workflows_mcp.persistence.connections import Connections
from workflows_mcp.persistence.dialects import sqlite_vacuum
from workflows_mcp.settings import Settings
from workflows_mcp.testing import make_state

_SECONDS_OF_A_TURN = 0.0003
"""Long enough for a thread to do what it was asked to."""

_STRIDE = 3
"""Every so many-th turn of the event loop is tried: each trip to a thread takes several, and they are many."""


@pytest.fixture
def path(sqlite_template: Path, tmp_path: Path) -> Path:
    """A database at head."""
    return Path(shutil.copyfile(sqlite_template, tmp_path / "checkpoints.db"))


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Nothing is let go of by chance."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_a_store_that_only_read_leaves_no_file_beside_its_own(path: Path) -> None:
    """Its connections close one after the other: of two at the same moment, none would be the last."""
    for _ in range(30):
        async with SQLAlchemyCheckpointStore(path) as store:
            await store.list_checkpoints(limit=1)  # over the connection that is held
            await store.list_checkpoints()  # over one of the pool
        assert [one.name for one in path.parent.iterdir()] == [path.name]


async def test_a_closing_that_is_cancelled_forgets_nothing_that_it_had_begun(path: Path) -> None:
    """Wherever it is: two signals, one shortly after the other, end a server so."""
    turns, is_over = 0, False
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        while not is_over:
            store = SQLAlchemyCheckpointStore(path)
            await store.save_checkpoint(make_state("one"))
            closing = asyncio.create_task(store.close())
            for _ in range(turns):
                await asyncio.sleep(_SECONDS_OF_A_TURN)
            is_over = not closing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await closing
            await store.close()
            turns += 1
        del closing, store
        gc.collect()
    assert turns > 2, "it was not cancelled in its middle"
    assert [str(one.message) for one in warned] == []


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.usefixtures("no_garbage_collection")
async def test_a_query_that_is_cancelled_reads_no_more(whose: str, path: Path) -> None:
    """Wherever it is: a reader that stays keeps the -wal file from being begun anew."""
    async with _opened(path, whose) as store:
        await store.save_checkpoint(make_state("one"))
        await store.take_census()  # what is done once is done
        turns, is_over = 0, False
        while not is_over:
            is_over = await _cancel_census(store, turns)
            assert _can_empty_log(path), f"cancelled at turn {turns}, it goes on reading"
            turns += _STRIDE
        assert turns > 30, "it was not cancelled in its middle"


async def _cancel_census(store: SQLAlchemyCheckpointStore, turns: int) -> bool:
    """Begin to count what there is, and cancel that after so many turns; whether it was over before."""
    census = asyncio.create_task(store.take_census())
    for _ in range(turns):
        await asyncio.sleep(0)
        time.sleep(_SECONDS_OF_A_TURN)  # noqa: ASYNC251 - the threads go on while the event loop does not
    is_over = census.done()
    census.cancel()
    await asyncio.wait({census})
    await store._database.calls.end(5)
    return is_over


def _can_empty_log(path: Path) -> bool:
    """Whether nobody reads what was committed before the newest."""
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        other.execute("UPDATE checkpoints SET current_wave_index = current_wave_index + 1")
        is_busy, *_ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy


@contextlib.asynccontextmanager
async def _opened(path: Path, whose: str = "ours") -> AsyncIterator[SQLAlchemyCheckpointStore]:
    """A store over an engine of its own, or of somebody else's."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    settings = Settings(deadline_seconds=2)
    try:
        async with SQLAlchemyCheckpointStore(path if whose == "ours" else engine, settings=settings) as store:
            yield store
    finally:
        await engine.dispose()


@pytest.mark.parametrize("whose", ["ours", "theirs"])
async def test_a_vacuum_beside_a_reader_that_stays_holds_up_no_save(whose: str, path: Path) -> None:
    """It waits for the reader, and who waits for readers keeps all others from writing."""
    async with _opened(path, whose) as vacuuming, _opened(path) as store:
        await store.save_checkpoint(make_state("before"))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM checkpoints").fetchall()
            vacuum = asyncio.create_task(vacuuming.vacuum())
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                await store.save_checkpoint(make_state("meanwhile"))
                await asyncio.sleep(0.01)
            assert not vacuum.done(), "it did not wait"
        await vacuum
        assert (await store.get_stats()).total_checkpoints == 2


async def test_a_vacuum_that_could_not_empty_the_log_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was deleted may still be in it."""
    monkeypatch.setattr(sqlite_vacuum, "_SECONDS_TO_EMPTY", 0.05)
    async with _opened(path) as store:
        await store.save_checkpoint(make_state("before"))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM checkpoints").fetchall()
            await store.vacuum()
            assert "vacuum it again when they have ended" in caplog.text
        caplog.clear()
        await store.vacuum()
        assert not caplog.text
        assert path.with_name(f"{path.name}-wal").stat().st_size == 0


@pytest.mark.parametrize("whose", ["ours", "theirs"])
async def test_a_vacuum_that_waits_for_a_writer_ends_when_it_is_cancelled(whose: str, path: Path) -> None:
    """And nothing of it is left waiting, so that a program that is interrupted ends."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        async with _opened(path, whose) as store:
            await store.get_stats()
            writer.execute("BEGIN IMMEDIATE")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.vacuum(), 0.2)
            began = time.monotonic()
            await store._database.calls.end(5)
            assert time.monotonic() - began < 1


@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_a_close_leaves_no_connection_that_is_being_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Neither one that is about to be there, nor one that takes too long; whoever asked for it is gone."""
    monkeypatch.setattr(line, "_SECONDS_TO_OPEN", 0.05)
    made: list[aiosqlite.Connection] = []
    looking = asyncio.Event()
    make, look = aiosqlite.Connection.__init__, Connections._check_once

    def noting(connection: aiosqlite.Connection, *arguments: Any, **options: Any) -> None:
        made.append(connection)
        make(connection, *arguments, **options)

    async def look_slowly(connections: Connections, connection: AsyncConnection) -> None:
        looking.set()
        await asyncio.sleep(seconds)
        await look(connections, connection)

    monkeypatch.setattr(aiosqlite.Connection, "__init__", noting)
    monkeypatch.setattr(Connections, "_check_once", look_slowly)
    store = SQLAlchemyCheckpointStore(str(path), settings=Settings(deadline_seconds=0.1))
    asking = asyncio.create_task(store.load_checkpoint("none"))
    await looking.wait()
    asking.cancel()
    await store.close()
    assert made
    assert [one for one in made if one._connection is not None] == []
