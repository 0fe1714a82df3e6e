"""Deltas in real databases: what is read with them, and what becomes of them when their bases go or change."""

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.conftest import OpenStore
from tests.migrations import raw
from tests.persistence.chained import all_bases, save_run, wave
from tests.persistence.test_leases import holding, until_blocked
from tests.persistence.test_writer import ids_in, record, until, weigh, writer_of
from workflows_mcp import (
    CheckpointState,
    CheckpointStatus,
    LeaseLostError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    StoreUnavailableError,
)
from workflows_mcp.persistence import writer as writer_module
from workflows_mcp.persistence.deltas import MOST_LINKS, Deltas, Step
from workflows_mcp.persistence.dialects.sqlite import SQLiteDialect
from workflows_mcp.persistence.drafting import draft
from workflows_mcp.persistence.row_codec import RowCodec
from workflows_mcp.testing import assert_same

waves = functools.cache(wave)
"""Each the same at every time, its time of creation included."""

FENCED = pytest.mark.parametrize("lease", [{}, {"owner": "me", "lease_seconds": 60}], ids=["plain", "fenced"])
ON_POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"])
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"])


async def save(store: SQLAlchemyCheckpointStore, *numbers: int, **fields: Any) -> None:
    """Save states of a run, one after the other."""
    await save_run(store, [wave(number, **fields) if fields else waves(number) for number in numbers])


async def require_whole_history(
    store: SQLAlchemyCheckpointStore, url: str, states: Sequence[CheckpointState], *, deltas: int | None = None
) -> None:
    """Make sure that states load equal, in a row and the last ones by themselves, and that no chain lacks an end.

    Args:
        store: Loads them.
        url: Of its database.
        states: All that there are.
        deltas: How many of them are deltas; None: some.
    """
    for state in states[-12:]:
        assert_same(await store.load_checkpoint(state.checkpoint_id), state)
    iterated = {state.checkpoint_id: state async for state in store.iter_checkpoints()}
    assert set(iterated) == {state.checkpoint_id for state in states}
    for state in states:
        assert_same(iterated[state.checkpoint_id], state)
    found = await all_bases(url)
    for name in found:
        links, base = 0, found[name]
        while base is not None:
            links, base = links + 1, found[base]
            assert links <= MOST_LINKS
    count = sum(base is not None for base in found.values())
    assert count == deltas if deltas is not None else count > 0


def queries(store: SQLAlchemyCheckpointStore) -> list[int]:
    """How many rows each query returns that a store makes over its held connection from now on."""
    fetch = store._database._queries.fetch
    counts: list[int] = []

    async def counted(query: Any, **options: Any) -> Sequence[Sequence[Any]]:
        rows = await fetch(query, **options)
        counts.append(len(rows))
        return rows

    store._database._queries.fetch = counted  # type: ignore[method-assign] # it is as before, but counted
    return counts


# --- loading


async def test_a_load_reads_the_whole_chain_with_one_query(open_store: OpenStore) -> None:
    """However long it is; what is in memory is not read at all."""
    store, other = open_store(), open_store()
    await save(store, *range(60))
    counts = queries(other)
    assert_same(await other.load_checkpoint("r 0"), waves(0))
    assert counts == [1]
    counts.clear()
    assert_same(await other.load_checkpoint("r 55"), waves(55))
    assert counts == [1, 13]  # 54 to 49, 48, 40, … 0
    counts = queries(store)
    assert_same(await store.load_checkpoint("r 59"), waves(59))
    assert counts == [1]


@pytest.mark.parametrize("change", ["replaced", "deleted", "replaced and the row deleted", "the row is another"])
async def test_a_row_whose_base_changes_while_it_is_loaded_is_loaded_right(open_store: OpenStore, change: str) -> None:
    """Between the query of the row and that of its chain; somebody else does it."""
    store, reader = open_store(), open_store()
    await save(store, *range(4))
    fetch, have_changed = reader._database._queries.fetch, False

    async def fetch_and_change(query: Any, **options: Any) -> Sequence[Sequence[Any]]:
        nonlocal have_changed
        rows = await fetch(query, **options)
        if not have_changed:
            have_changed = True
            await changes[change]()
        return rows

    async def replace_and_delete() -> None:
        await save(store, 2, size=7000)
        await store.delete_checkpoint("r 3")

    async def save_another() -> None:
        await store.delete_checkpoint("r 3")
        await store.delete_checkpoint("r 2")
        await save(store, 3, size=9000)

    changes: dict[str, Callable[[], Any]] = {
        "replaced": functools.partial(save, store, 2, size=7000),
        "deleted": functools.partial(store.delete_checkpoint, "r 2"),
        "replaced and the row deleted": replace_and_delete,
        "the row is another": save_another,
    }
    reader._database._queries.fetch = fetch_and_change  # type: ignore[method-assign] # it is as before, and somebody is quick
    loaded = await reader.load_checkpoint("r 3")
    assert have_changed
    if change == "replaced and the row deleted":
        assert loaded is None
    elif change == "the row is another":
        assert loaded is not None
        assert len(loaded.context["text"]) == 9000
    else:
        assert_same(loaded, waves(3))


async def test_a_claim_is_gone_on_from_with_deltas(open_store: OpenStore, database_url: str) -> None:
    """By a process that has saved nothing of that run."""
    await save(open_store(), *range(10))
    other = open_store()
    await other.claim_checkpoint("r 9", "me")
    await save(other, *range(10, 14))
    found = await all_bases(database_url)
    assert [found[f"r {number}"] for number in range(10, 14)] == ["r 9", "r 10", "r 11", "r 12"]
    await require_whole_history(open_store(), database_url, [waves(number) for number in range(14)], deltas=13)


# --- bases that go, or change


async def test_deltas_outlive_their_base(open_store: OpenStore, database_url: str) -> None:
    """What is nearest to one that is deleted is stored whole; the others need that one from now on."""
    store = open_store()
    await save(store, *range(20))
    for name in ("r 0", "r 8", "r 11"):
        assert await store.delete_checkpoint(name)
    found = await all_bases(database_url)
    assert {name for name, base in found.items() if base is None} == {"r 1", "r 9", "r 12", "r 16"}
    left = [waves(number) for number in range(20) if number not in {0, 8, 11}]
    await require_whole_history(store, database_url, left, deltas=13)
    await require_whole_history(open_store(), database_url, left, deltas=13)


@FENCED
async def test_a_save_whose_base_somebody_has_deleted_is_whole(
    open_store: OpenStore, database_url: str, lease: dict[str, Any]
) -> None:
    """Between its draft and its commit; the run goes on from it with deltas."""
    store, other = open_store(), open_store()
    await store.save_checkpoint(waves(0), **lease)
    for number in range(1, 8):
        await store.save_checkpoint(waves(number), follows=f"r {number - 1}" if lease else None, **lease)
    step = store._deltas.step(waves(8))
    assert step.base is not None
    assert step.base.checkpoint_id == "r 0"
    await other.delete_checkpoint("r 0")
    for number in (8, 9):
        await store.save_checkpoint(waves(number), follows=f"r {number - 1}" if lease else None, **lease)
    found = await all_bases(database_url)
    assert (found["r 8"], found["r 9"]) == (None, "r 8")
    await require_whole_history(other, database_url, [waves(number) for number in range(1, 10)])
    assert len(await store.list_checkpoints(heads_only=True)) == (1 if lease else 9)


async def test_a_base_of_many_is_replaced_and_they_stay_what_they_were(
    open_store: OpenStore, database_url: str
) -> None:
    """Ten are deltas of it: each is stored whole before. The same content once more leaves them deltas."""
    store, other = open_store(), open_store()
    await save(store, 0)
    await asyncio.gather(*(save(store, number) for number in range(1, 11)))
    assert list((await all_bases(database_url)).values()).count("r 0") == 10
    await save(other, 0)
    assert list((await all_bases(database_url)).values()).count("r 0") == 10
    changed = wave(0, size=6000)
    await other.save_checkpoint(changed)
    assert set((await all_bases(database_url)).values()) == {None}
    states = [changed, *(waves(number) for number in range(1, 11))]
    await require_whole_history(other, database_url, states, deltas=0)


async def test_retention_keeps_what_it_keeps(open_store: OpenStore, database_url: str) -> None:
    """Of a long run the last ten, one that is pinned, and one that asks; all others go, whatever they are bases of."""
    store = open_store()
    asking = wave(70, created_at=70.0, status=CheckpointStatus.PAUSED, paused_block_id="b")
    states = {number: wave(number, created_at=float(number + 1)) for number in range(150)} | {70: asking}
    for state in states.values():
        await store.save_checkpoint(state)
    await store.pin_checkpoint("r 31")
    assert await store.trim_per_workflow(10) == 138
    left = [states[number] for number in (31, 70, *range(140, 150))]
    await require_whole_history(open_store(), database_url, left)
    assert await store.cleanup_expired(0, keep_paused=False) == 11
    await require_whole_history(store, database_url, [states[31]], deltas=0)
    assert await store.delete_run("r") == 1


# --- circles


@contextlib.asynccontextmanager
async def one_batch(store: SQLAlchemyCheckpointStore, url: str) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Tasks that are begun within are all in the queue before anything of it is committed."""
    tasks: list[asyncio.Task[Any]] = []
    async with raw.locked(url):
        tasks.append(asyncio.create_task(store.save_checkpoint(wave(0, "first"))))
        await until(lambda: writer_of(store)._in_flight or writer_of(store)._alone)
        yield tasks
        await until(lambda: writer_of(store).queued[0] >= len(tasks))
    await asyncio.gather(*tasks)


def step_after(base: CheckpointState, state: CheckpointState, *, codec: RowCodec | None = None) -> Step:
    """A save of a state in a process where another one is the newest of the run."""
    deltas, codec = Deltas(2**20), codec or RowCodec()
    step = deltas.step(base)
    draft(base, None, None, codec, step).finish()
    deltas.saved(step)
    return deltas.step(state)


@FENCED
async def test_two_that_are_saved_at_once_do_not_become_each_others_bases(
    open_store: OpenStore, database_url: str, lease: dict[str, Any]
) -> None:
    """Others have deleted both meanwhile: the database looks at the key when all that was inserted is there."""
    store = open_store()
    await store.load_checkpoint("r 0")
    pairs = [(waves(1), waves(2)), (waves(2), waves(1))]
    async with one_batch(store, database_url) as tasks:
        if lease:
            tasks.append(asyncio.create_task(store.save_checkpoint(wave(0, "fenced"), **lease)))
        for base, state in pairs:
            step = step_after(base, state)
            begin = functools.partial(draft, state, None, None, RowCodec(), step)
            tasks.append(asyncio.create_task(store._database.save(begin)))
        await until(lambda: writer_of(store).queued[0] >= len(tasks))
    assert list((await all_bases(database_url)).values()).count(None) >= 2
    for state in (waves(1), waves(2)):
        assert_same(await store.load_checkpoint(state.checkpoint_id), state)


async def test_a_base_never_becomes_a_delta_of_its_own_delta(open_store: OpenStore, database_url: str) -> None:
    """Saved again, with the same content or another one, by whoever knows its delta alone, or both."""
    store, other = open_store(), open_store()
    await save(store, 0, 1, 2)
    await other.claim_checkpoint("r 2", "me")
    await save(other, 1)
    await save(store, 0, 1)
    assert await all_bases(database_url) == {"r 0": None, "r 1": None, "r 2": "r 1"}
    changed = wave(1, size=6000)
    await other.save_checkpoint(changed)
    await save(store, 2)
    await require_whole_history(store, database_url, [waves(0), changed, waves(2)], deltas=0)


async def test_circles_of_any_length_are_broken(open_store: OpenStore) -> None:
    """Each of five is saved as a delta of the one before it, all round, in every order, while some are deleted."""
    store = open_store()
    states = [waves(number) for number in range(5)]
    for turn in range(3):
        for number in range(5):
            place = (number * (turn + 1)) % 5
            base, state = states[place - 1], states[place]
            step = step_after(base, state)
            await store._database.save(functools.partial(draft, state, None, None, RowCodec(), step))
            await store.delete_checkpoint(states[place - 2 - turn].checkpoint_id)
            left = [one for one in states if one.checkpoint_id in await ids_in(store)]
            for one in left:
                assert_same(await store.load_checkpoint(one.checkpoint_id), one)
    await store.save_checkpoint(states[0])


# --- the queue


async def test_a_delta_and_its_base_that_wait_together_are_both_saved(open_store: OpenStore, database_url: str) -> None:
    """The base is saved again, with another content; whichever comes first."""
    store = open_store()
    await save(store, 0)
    changed = wave(0, size=6000)
    async with one_batch(store, database_url) as tasks:
        tasks += [asyncio.create_task(store.save_checkpoint(state)) for state in (waves(1), changed, waves(2))]
    assert_same(await store.load_checkpoint("r 0"), changed)
    for number in (1, 2):
        assert_same(await store.load_checkpoint(f"r {number}"), waves(number))
    await save(store, 3)
    await require_whole_history(
        open_store(),
        database_url,
        [changed, waves(1), waves(2), waves(3), await loaded(store, "first 0")],
    )


async def test_many_deltas_of_one_base_share_a_commit(open_store: OpenStore, database_url: str) -> None:
    """Those of other runs, too."""
    store = open_store()
    runs = ["r", "s", "t"]
    for run_id in runs:
        await store.save_checkpoint(wave(0, run_id))
    async with one_batch(store, database_url) as tasks:
        batches = record(store)
        for number in (1, 2):
            tasks += [asyncio.create_task(store.save_checkpoint(wave(number, one))) for one in runs]
    assert max(map(len, batches)) >= 6
    assert list((await all_bases(database_url)).values()).count(None) == 4


async def test_a_cancelled_save_is_nobodys_base_and_in_nobodys_way(open_store: OpenStore, database_url: str) -> None:
    """It may have been saved all the same."""
    store = open_store()
    await save(store, 0)
    async with raw.locked(database_url):
        gone = asyncio.create_task(store.save_checkpoint(waves(1)))
        await asyncio.sleep(0.02)
        gone.cancel()
        await asyncio.wait({gone})
    await save(store, 2)
    found = await all_bases(database_url)
    assert found["r 2"] == "r 0"
    await require_whole_history(store, database_url, [waves(number) for number in (0, 1, 2) if f"r {number}" in found])


@ON_SQLITE
async def test_what_waits_is_bounded_by_what_it_keeps_in_memory(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delta of a few bytes keeps its whole state, until it is known that its base is there."""
    most, size = 600_000, 50_000
    monkeypatch.setattr(writer_module, "_MOST_BYTES", most)
    store = open_store()
    await save(store, 0, size=size)
    async with raw.locked(database_url):
        states = [wave(number, size=size) for number in range(1, 31)]
        saves = [asyncio.create_task(store.save_checkpoint(state)) for state in states]
        async with asyncio.timeout(10):
            await until(lambda: writer_of(store)._bytes >= most)
        await asyncio.sleep(0.02)
        assert writer_of(store)._bytes <= most + 2 * size
        assert len(writer_of(store)._queue) * size <= writer_of(store)._bytes
    await asyncio.gather(*saves)
    await until(lambda: not writer_of(store).queued[0])
    assert weigh(store) == 0
    assert list((await all_bases(database_url)).values()).count(None) == 1


# --- locks of somebody else's, and leases


@ON_POSTGRESQL
async def test_a_base_that_somebody_has_locked_holds_no_save_up(open_store: OpenStore, database_url: str) -> None:
    """What would be a delta of it is stored whole."""
    store = open_store(deadline_seconds=2)
    await save(store, 0)
    async with holding(database_url, "r 0"):
        await asyncio.gather(save(store, 1), store.save_checkpoint(wave(0, "other")))
    assert (await all_bases(database_url))["r 1"] is None
    await save(store, 2)
    assert (await all_bases(database_url))["r 2"] == "r 1"


@ON_POSTGRESQL
@pytest.mark.parametrize("what", ["replaced", "deleted"])
async def test_a_delta_that_somebody_has_locked_holds_its_base(
    open_store: OpenStore, database_url: str, what: str
) -> None:
    """Until the deadline, and no longer; nothing is changed. When it is free, the base may go."""
    store = open_store(deadline_seconds=0.6)
    await save(store, 0, 1)
    changed = wave(0, size=6000)

    async def call() -> object:
        return await (store.save_checkpoint(changed) if what == "replaced" else store.delete_checkpoint("r 0"))

    async with holding(database_url, "r 1"):
        began = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnavailableError):
            await call()
        assert asyncio.get_running_loop().time() - began < 1.5
        await store.save_checkpoint(wave(0, "other"))
    assert_same(await store.load_checkpoint("r 0"), waves(0))
    await call()
    await require_whole_history(
        open_store(),
        database_url,
        [waves(1), *([changed] if what == "replaced" else []), await loaded(store, "other 0")],
        deltas=0,
    )


async def loaded(store: SQLAlchemyCheckpointStore, name: str) -> CheckpointState:
    """One that is there."""
    state = await store.load_checkpoint(name)
    assert state is not None
    return state


@ON_POSTGRESQL
async def test_a_base_that_is_being_deleted_is_waited_for_for_a_moment(
    open_store: OpenStore, database_url: str
) -> None:
    """By another process that has not committed yet: what was to be a delta of it is whole."""
    store = open_store()
    await save(store, 0)
    async with holding(database_url, "r 0") as connection:
        await connection.execute("DELETE FROM checkpoints WHERE checkpoint_id = 'r 0'")
        saving = asyncio.create_task(save(store, 1))
        await until_blocked(database_url, 1)
    await saving
    await require_whole_history(store, database_url, [waves(1)], deltas=0)


async def test_a_delta_of_a_run_that_was_taken_over_is_refused(open_store: OpenStore, database_url: str) -> None:
    """Its base is there, or is not: who lost the lease is told that, and writes nothing."""
    store, other = open_store(), open_store()
    lease = {"owner": "me", "lease_seconds": 0.001}
    await store.save_checkpoint(waves(0), **lease)  # type: ignore[arg-type] # what it takes
    await asyncio.sleep(0.003)
    await other.claim_checkpoint("r 0", "you")
    lease["lease_seconds"] = 60
    with pytest.raises(LeaseLostError):
        await store.save_checkpoint(waves(1), follows="r 0", **lease)  # type: ignore[arg-type]
    await other.save_checkpoint(waves(2), follows="r 0", owner="you", lease_seconds=60)
    await other.delete_checkpoint("r 0")
    with pytest.raises(LeaseLostError):
        await store.save_checkpoint(waves(1), follows="r 0", **lease)  # type: ignore[arg-type]
    await require_whole_history(store, database_url, [waves(2)], deltas=0)


@ON_SQLITE
@FENCED
async def test_a_trigger_runs_once_for_each_save(
    open_store: OpenStore, database_url: str, lease: dict[str, Any]
) -> None:
    """Also where a row is replaced, which is one statement then."""
    await raw.execute(
        database_url,
        "CREATE TABLE seen (id)",
        "CREATE TRIGGER see BEFORE INSERT ON checkpoints BEGIN INSERT INTO seen VALUES (NEW.checkpoint_id); END",
    )
    store = open_store()
    for state in (waves(0), waves(1), wave(0, size=6000)):
        await store.save_checkpoint(state, **lease)
    assert await raw.fetch(database_url, "SELECT id FROM seen") == [("r 0",), ("r 1",), ("r 0",)]


# --- engines of somebody else's


def sqlite_engine(
    path: str, *, keys: bool = False, begins: bool = False, begins_early: bool = False, **options: Any
) -> AsyncEngine:
    """An engine as somebody makes it.

    Args:
        path: The file.
        keys: Whether its connections hold to foreign keys.
        begins: Whether it begins its transactions by itself, as SQLAlchemy's documentation shows.
        begins_early: Whether each connection is in a transaction when it is handed out.
        options: Others.
    """
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", **options)

    @event.listens_for(engine.sync_engine, "connect")
    def connected(driver: Any, _record: Any) -> None:
        if begins:
            driver.isolation_level = None
        driver.execute(f"PRAGMA foreign_keys = {int(keys)}")

    if begins:
        event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    if begins_early:
        event.listen(engine.sync_engine, "checkout", lambda driver, *_: driver.execute("BEGIN"))
    return engine


ENGINES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "with foreign keys": {"keys": True},
    "in AUTOCOMMIT": {"isolation_level": "AUTOCOMMIT"},
    "that begins": {"begins": True},
    "that has begun": {"begins_early": True},
    "that has begun, with foreign keys": {"begins_early": True, "keys": True},
    "of one connection": {"pool_size": 1, "max_overflow": 0},
}
if sys.version_info >= (3, 12):
    ENGINES["always in a transaction"] = {"connect_args": {"autocommit": False}}


async def use(store: SQLAlchemyCheckpointStore, url: str) -> None:
    """Save, save again, delete, trim and load, and see that everything is as it should be."""
    await save(store, *range(10))
    changed = wave(0, size=6000)
    await store.save_checkpoint(changed)
    await store.delete_checkpoint("r 4")
    await asyncio.gather(
        save(store, 10, 11), store.load_checkpoint("r 3"), store.delete_checkpoint("r 8"), store.load_checkpoint("r 9")
    )
    left = [changed, *(waves(number) for number in (1, 2, 3, 5, 6, 7, 9, 10, 11))]
    await require_whole_history(store, url, left)
    assert await store.trim_per_workflow(3) == 7
    assert len(await ids_in(store)) == 3


@ON_SQLITE
@pytest.mark.parametrize("kind", ENGINES)
async def test_promises_hold_on_an_engine_of_somebody_elses(database_url: str, kind: str) -> None:
    """And its connections are afterwards as its owner has set them up."""
    engine = sqlite_engine(database_url, **ENGINES[kind])
    try:
        store = SQLAlchemyCheckpointStore(engine)
        await use(store, database_url)
        await store.close()
        async with engine.connect() as connection:
            assert (await connection.exec_driver_sql("PRAGMA foreign_keys")).scalar_one() == ENGINES[kind].get(
                "keys", False
            )
            assert not (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all()
    finally:
        await engine.dispose()


@ON_SQLITE
@pytest.mark.parametrize("kind", ["as it comes", "that has begun"])
async def test_an_engine_gets_its_way_back_from_a_call_that_is_cancelled(database_url: str, kind: str) -> None:
    """Also when foreign keys have just been turned on."""
    engine = sqlite_engine(database_url, **ENGINES[kind])
    dialect = SQLiteDialect(Path(database_url))
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        execute = driver.execute

        async def execute_and_be_cancelled(sql: str) -> None:
            await execute(sql)
            if sql.endswith("ON"):
                raise asyncio.CancelledError

        driver.execute = execute_and_be_cancelled
        with pytest.raises(asyncio.CancelledError):
            await dialect.keeping_bases(connection).__aenter__()
        del driver.execute
        assert list(await driver.execute_fetchall("PRAGMA foreign_keys")) == [(0,)]
    await engine.dispose()


@ON_SQLITE
async def test_nothing_is_written_where_foreign_keys_cannot_be_turned_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a SQLite that was built without them; what to do is said."""
    engine = sqlite_engine(database_url)
    execute = aiosqlite.Connection.execute
    monkeypatch.setattr(
        aiosqlite.Connection, "execute", lambda self, sql, *values: execute(self, sql.replace("= ON", "= OFF"), *values)
    )
    store = SQLAlchemyCheckpointStore(engine)
    with pytest.raises(StoreConfigurationError, match="PRAGMA foreign_keys = ON when it connects"):
        await save(store, 0)
    assert await store.list_checkpoints() == []
    await store.close()
    await engine.dispose()


@ON_POSTGRESQL
@pytest.mark.parametrize("options", [{}, {"isolation_level": "AUTOCOMMIT"}], ids=["as it comes", "AUTOCOMMIT"])
async def test_promises_hold_on_a_postgresql_engine_of_somebody_elses(
    database_url: str, options: dict[str, Any]
) -> None:
    """The same."""
    engine = create_async_engine(database_url.replace("postgresql:", "postgresql+asyncpg:"), **options)
    try:
        store = SQLAlchemyCheckpointStore(engine)
        await use(store, database_url)
        await store.close()
    finally:
        await engine.dispose()


# --- two processes, of which one is killed

_PROGRAM = """
import asyncio, itertools, sys
from tests.persistence.chained import wave
from workflows_mcp import SQLAlchemyCheckpointStore

async def main():
    store = SQLAlchemyCheckpointStore(sys.argv[1])
    for number in itertools.count(1000):
        await store.save_checkpoint(wave(number, created_at=1.0 + number))
        print(number, flush=True)

asyncio.run(main())
"""


async def test_two_processes_save_into_one_run_and_one_is_killed(open_store: OpenStore, database_url: str) -> None:
    """All that was acknowledged to either is there, what this one has deleted apart; and the run goes on."""
    store = open_store()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, database_url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    saved = [wave(number, created_at=1.0 + number) for number in range(40)]
    try:
        told = [int(await process.stdout.readline())]
        await store.claim_checkpoint(f"r {told[0]}", "me")  # and goes on from there
        for number, state in enumerate(saved):
            await store.save_checkpoint(state)
            if number % 8 == 0:
                told.append(int(await process.stdout.readline()))
                await store.delete_checkpoint(f"r {told.pop(0)}")
                await store.save_checkpoint(wave(told[-1], created_at=1.0 + told[-1]))
    finally:
        process.kill()
        rest, _ = await process.communicate()
    told += [int(line) for line in rest.split()]
    last = max(told) + 1  # it may have been killed before it could tell
    names = await ids_in(store)
    told += [last] if f"r {last}" in names else []
    wanted = [*saved, *(wave(number, created_at=1.0 + number) for number in told)]
    assert names == {state.checkpoint_id for state in wanted}
    await require_whole_history(open_store(), database_url, wanted)
    await save(store, 5000)


@ON_POSTGRESQL
@pytest.mark.parametrize("name", ["r 8", "r 5"], ids=["that stays", "that was to go"])
async def test_retention_leaves_the_base_of_what_somebody_has_locked(
    open_store: OpenStore, database_url: str, name: str
) -> None:
    """To the next call; it waits for nobody, and all else goes."""
    store = open_store()
    states = [wave(number, created_at=1.0 + number) for number in range(10)]
    for state in states:
        await store.save_checkpoint(state)
    async with holding(database_url, name):
        async with asyncio.timeout(10):
            await store.trim_per_workflow(3)
        left = await ids_in(store)
        assert {"r 7", "r 8", "r 9", name} < left
        assert len(left) <= 6
    await store.trim_per_workflow(3)
    await require_whole_history(open_store(), database_url, states[7:])
