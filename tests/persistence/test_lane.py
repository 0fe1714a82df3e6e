"""The writer's lane and loads, where deltas are concerned: what they wait for, whom they hold up, and until when."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from tests.conftest import OpenStore
from tests.persistence.chained import all_bases, wave
from tests.persistence.test_chains import ON_POSTGRESQL, ON_SQLITE, save, waves
from tests.persistence.test_leases import holding
from tests.persistence.test_writer import until, weigh, writer_of
from workflows_mcp import SQLAlchemyCheckpointStore, StoreUnavailableError
from workflows_mcp.errors import CheckpointStoreError
from workflows_mcp.persistence import drafting
from workflows_mcp.persistence.deltas import Linked, is_large
from workflows_mcp.persistence.dialects import Row, RowsLockedError
from workflows_mcp.persistence.reader import Reader
from workflows_mcp.persistence.waiting import LARGE, ROW_BYTES
from workflows_mcp.testing import assert_same

LARGE_SIZE = 120_000
"""Of a text that takes up more than `LARGE` when it is compressed."""


@contextlib.contextmanager
def busy_threads() -> Iterator[None]:
    """All threads of asyncio's default pool are taken by work of the application's, which does not end meanwhile."""
    loop, may_end = asyncio.get_running_loop(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        loop.set_default_executor(pool)
        loop.run_in_executor(None, may_end.wait)
        try:
            yield
        finally:
            may_end.set()


@ON_SQLITE
async def test_nothing_waits_for_a_thread_of_the_applications(open_store: OpenStore, database_url: str) -> None:
    """Neither a large state that is made whole in the lane, nor its deltas, nor a load of a large chain."""
    store, other = open_store(deadline_seconds=2), open_store(deadline_seconds=2)
    states = [wave(number, size=LARGE_SIZE) for number in range(4)]
    for state in states:
        await store.save_checkpoint(state)
    changed = wave(0, size=LARGE_SIZE + 1)
    assert await other.load_checkpoint("nothing") is None
    with busy_threads():
        assert_same(await other.load_checkpoint("r 3"), states[3])
        row = await other._database.load("r 3")
        assert row is not None
        assert is_large(row)
        await store.save_checkpoint(changed)
        assert_same(await other.load_checkpoint("r 0"), changed)
    stored = await all_bases(database_url)
    assert [stored[f"r {number}"] for number in (0, 1)] == [None, None]


@ON_SQLITE
async def test_what_is_made_whole_counts_as_what_it_is_then(open_store: OpenStore) -> None:
    """Not as the delta that it was to be, of a few bytes."""
    store = open_store()
    await save(store, 0, 1, size=LARGE_SIZE)
    writer = writer_of(store)
    commit, sizes = writer._commit, list[tuple[int, int]]()

    async def recorded(rows: Sequence[Row], deadline: float) -> Collection[str]:
        sizes.append((writer._in_flight[0].size, len(rows[0][-1]) + ROW_BYTES))
        assert weigh(store) == writer._in_flight[0].kept_bytes
        return await commit(rows, deadline)

    writer._commit = recorded
    await save(store, 0, size=LARGE_SIZE + 1)
    assert sizes[-1][0] == sizes[-1][1] > LARGE
    await until(lambda: not writer.queued[0])
    assert weigh(store) == 0


@ON_POSTGRESQL
async def test_what_cannot_be_made_whole_fails_alone(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller hears why, and the lane goes on."""
    store = open_store()
    await save(store, 0)

    def fail(*_: object) -> Row:
        raise MemoryError

    monkeypatch.setattr(drafting, "_whole_row", fail)
    async with holding(database_url, "r 0"):
        failing, lane = asyncio.create_task(save(store, 1)), asyncio.create_task(save(store, 0, run_id="other"))
        with pytest.raises(MemoryError):
            await failing
        await lane


# --- deadlines


def slow_reads(store: SQLAlchemyCheckpointStore, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have each read of a store take so much longer from now on."""

    def slow(call: Callable[..., Awaitable[Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def slowly(*given: Any, **options: Any) -> Any:
            await asyncio.sleep(seconds)
            return await call(*given, **options)

        return slowly

    for way, name in ((store._database._reading, "call"), (store._database._connections, "work")):
        monkeypatch.setattr(way, name, slow(getattr(way, name)))


LOADS: dict[str, Callable[[SQLAlchemyCheckpointStore], Awaitable[Any]]] = {
    "one": lambda store: store.load_checkpoint("r 1"),
    "as it is stored": lambda store: store.load_stored(["r 1"]),
}


@ON_SQLITE
@pytest.mark.parametrize(("load", "engine"), [("one", "ours"), ("one", "somebody else's"), ("as it is stored", "ours")])
async def test_a_load_has_one_deadline(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch, load: str, engine: str
) -> None:
    """However many queries it takes; those that have less than the database knows of are cut short by us."""
    await save(open_store(), 0, 1)
    theirs = create_async_engine(f"sqlite+aiosqlite:///{database_url}")
    try:
        async with SQLAlchemyCheckpointStore(database_url if engine == "ours" else theirs) as store:
            assert await store.load_checkpoint("nothing") is None
            slow_reads(store, monkeypatch, 0.06)
            retry = store._database._retry
            until_given, deadlines, are_cut_short = retry.until, list[float](), list[bool]()

            def noted(deadline: float, attempt: Any, **options: Any) -> Coroutine[Any, Any, Any]:
                deadlines.append(deadline)
                are_cut_short.append(not options.get("ends_by_itself"))
                return until_given(deadline, attempt, **options)

            monkeypatch.setattr(retry, "until", noted)
            assert await LOADS[load](store)
            assert len(deadlines) == 2
            assert deadlines[1] - deadlines[0] < 0.06
            assert are_cut_short[1]
    finally:
        await theirs.dispose()


@ON_SQLITE
async def test_what_is_parted_in_the_lane_ends_with_its_save(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others wait for the lane."""
    store = open_store()
    await save(store, 0, 1)
    await store.load_checkpoint("r 0")
    slow_reads(store, monkeypatch, 0.15)
    monkeypatch.setattr(writer_of(store), "_deadline_seconds", 0.2)
    with pytest.raises(StoreUnavailableError):
        await save(store, 0, size=6000)
    monkeypatch.undo()
    await save(store, 0, run_id="other")
    assert (await all_bases(database_url))["r 1"] == "r 0"


# --- locks of somebody else's


@contextlib.asynccontextmanager
async def updating(url: str, name: str) -> AsyncIterator[None]:
    """A transaction of somebody else's that has changed a checkpoint's row, as a renewal or a pin does."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("UPDATE checkpoints SET pinned = true WHERE checkpoint_id = $1", name)
            yield
    finally:
        await connection.close()


@ON_POSTGRESQL
@pytest.mark.parametrize("what", ["replaced", "deleted"])
async def test_a_delta_that_somebody_is_changing_is_waited_for(
    open_store: OpenStore, database_url: str, what: str
) -> None:
    """The foreign key does not wait for it, and we do. Others are not held up."""
    store = open_store()
    await save(store, 0, 1)
    changed = wave(0, size=6000)
    async with updating(database_url, "r 1"):
        call = asyncio.create_task(
            store.save_checkpoint(changed) if what == "replaced" else store.delete_checkpoint("r 0")
        )
        done, _ = await asyncio.wait({call}, timeout=0.2)
        assert not done
        await save(store, 0, run_id="other")
        assert not call.done()
    assert await call in {"r 0", True}
    assert_same(await store.load_checkpoint("r 1"), waves(1))
    if what == "replaced":
        assert_same(await store.load_checkpoint("r 0"), changed)
    else:
        assert await store.load_checkpoint("r 0") is None
    assert (await all_bases(database_url))["r 1"] is None


@ON_POSTGRESQL
async def test_who_deletes_a_base_waits_for_whoever_changes_its_delta_until_the_deadline(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is changed."""
    store = open_store()
    await save(store, 0, 1)
    monkeypatch.setattr(store._database, "deadline", lambda: asyncio.get_running_loop().time() + 0.3)
    async with updating(database_url, "r 1"):
        began = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnavailableError):
            await store.delete_checkpoint("r 0")
        assert 0.2 < asyncio.get_running_loop().time() - began < 1.5
    assert (await all_bases(database_url))["r 1"] == "r 0"
    assert_same(await store.load_checkpoint("r 0"), waves(0))


@ON_POSTGRESQL
async def test_a_table_that_somebody_locks_while_deltas_are_parted_is_waited_for(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the making of an index, between the save that was refused and its mending."""
    store = open_store()
    await save(store, 0, 1)
    turns = store._database._turns
    change_now, have_met = turns.change_now, list[type[Exception]]()

    async def change_while_locked(query: Any, deadline: float) -> Sequence[Sequence[Any]]:
        if have_met:
            return await change_now(query, deadline)
        connection = await asyncpg.connect(database_url)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE checkpoints IN SHARE MODE")
                return await change_now(query, deadline)
        except RowsLockedError as error:
            have_met.append(type(error))
            raise
        finally:
            await connection.close()

    monkeypatch.setattr(turns, "change_now", change_while_locked)
    changed = wave(0, size=6000)
    await store.save_checkpoint(changed)
    assert have_met == [RowsLockedError]
    assert_same(await store.load_checkpoint("r 0"), changed)


# --- shared trips


@pytest.mark.parametrize(("count", "most"), [(1, 64), (2, 32)], ids=["one base", "two bases"])
async def test_a_trip_is_bounded_by_what_it_brings_of_bases(count: int, most: int) -> None:
    """They are in memory as well; one that several have in common is there once."""
    links = [(f"base {number}", b"x" * 3 * 2**20) for number in range(count)]

    async def fetch(keys: Collection[str]) -> Sequence[Row]:
        await asyncio.sleep(0)
        return [Linked((key, b"delta"), links=[links[place % count]]) for place, key in enumerate(keys)]

    reader = Reader(fetch, asyncio.ensure_future, deadline_seconds=5, too_late=CheckpointStoreError)
    found = await asyncio.gather(*(reader.load(f"{number}") for number in range(4)))
    assert [row and row[0] for row in found] == ["0", "1", "2", "3"]
    await until(lambda: not reader._is_busy)
    assert reader._most == most
    reader.close()
