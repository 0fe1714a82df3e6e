"""Group commit, on real databases: who shares a commit, in which order, and what a failure or a goodbye costs."""

import asyncio
import contextlib
import os
import random
import threading
import time
import traceback
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from tests.conftest import OpenStore
from tests.migrations import raw
from workflows_mcp import (
    CheckpointEncodeError,
    CheckpointState,
    CheckpointStoreError,
    SchemaOutOfDateError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    StoreUnavailableError,
    upgrade_schema,
)
from workflows_mcp.persistence import next_batch, row_codec
from workflows_mcp.persistence import writer as writer_module
from workflows_mcp.persistence.codec import Body, pack_body
from workflows_mcp.persistence.dialects import Row, Then
from workflows_mcp.persistence.waiting import LARGE
from workflows_mcp.persistence.writer import Writer
from workflows_mcp.testing import make_state


def writer_of(store: SQLAlchemyCheckpointStore) -> Writer:
    """The writer of a store."""
    return store._database._writer


def record(store: SQLAlchemyCheckpointStore) -> list[list[str]]:
    """The ids of each batch that a store tries to commit from now on."""
    writer = writer_of(store)
    commit, begin = writer._commit, writer._begin_commit
    batches: list[list[str]] = []

    async def recorded(rows: Sequence[Row], deadline: float) -> Collection[str]:
        batches.append([row[0] for row in rows])
        return await commit(rows, deadline)

    def recorded_alone(row: Row, then: Then[Collection[str]]) -> bool:
        has_begun = begin(row, then)
        if has_begun:
            batches.append([row[0]])
        return has_begun

    writer._commit, writer._begin_commit = recorded, recorded_alone
    return batches


def heavy(name: str, size: int) -> CheckpointState:
    """A state of about so many bytes, which do not compress well."""
    return make_state(name, context={"noise": random.Random(name).randbytes(size // 2).hex()})


async def save_all(store: SQLAlchemyCheckpointStore, states: Sequence[CheckpointState]) -> list[Any]:
    """Save states at once; the id or the error of each."""
    return await asyncio.gather(*(store.save_checkpoint(state) for state in states), return_exceptions=True)


async def ids_in(store: SQLAlchemyCheckpointStore) -> set[str]:
    """The ids of all that is stored."""
    return {metadata.checkpoint_id for metadata in await store.list_checkpoints()}


async def until(condition: Any) -> None:
    """Let the event loop go on until something is so."""
    while not condition():  # noqa: ASYNC110 - what is waited for announces itself by nothing else
        await asyncio.sleep(0.001)


async def until_fetched(url: str, query: str, number: int) -> None:
    """Wait until a query of one number finds it."""
    while await raw.fetch(url, query) != [(number,)]:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.01)


# --- batches


async def test_saves_that_arrive_during_a_commit_share_the_next(open_store: OpenStore) -> None:
    """A hundred at once are few commits, and all are there."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    batches = record(store)
    names = [f"{n}" for n in range(100)]
    assert await save_all(store, [make_state(name) for name in names]) == names
    assert 1 <= len(batches) <= 3
    assert sorted(name for batch in batches for name in batch) == sorted(names)
    assert await ids_in(store) == {"first", *names}


async def test_a_batch_is_bounded_by_rows(open_store: OpenStore) -> None:
    """However many wait."""
    store = open_store()
    batches = record(store)
    await save_all(store, [make_state(f"{n}") for n in range(1000)])
    assert max(map(len, batches)) == next_batch._BATCH_ROWS
    assert len(await ids_in(store)) == 1000


async def test_a_commit_leaves_half_of_those_who_wait_to_the_next_one(open_store: OpenStore) -> None:
    """They are encoded while it is under way, and committed while the others are encoded; few share one."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    batches = record(store)
    rounds = 6

    async def save(task: int) -> None:
        for n in range(rounds):
            await store.save_checkpoint(make_state(f"{task} {n}"))

    await asyncio.gather(*(save(task) for task in range(40)))
    assert len(await ids_in(store)) == 1 + 40 * rounds
    full = [len(batch) for batch in batches[2:-2]]
    assert min(full) >= 8
    assert max(full) <= 32
    batches.clear()
    await asyncio.gather(*(save(task) for task in range(8)))
    assert max(map(len, batches)) >= 7


async def test_a_batch_is_bounded_by_bytes(open_store: OpenStore) -> None:
    """Of states that are large, a few go together; one that is larger than that goes with small ones only."""
    store = open_store()
    batches = record(store)
    async with asyncio.TaskGroup() as group:
        for n in range(8):
            group.create_task(store.save_checkpoint(heavy(f"large {n}", 2_600_000)))
        group.create_task(store.save_checkpoint(heavy("huge", 12_000_000)))
        for n in range(20):
            group.create_task(store.save_checkpoint(make_state(f"small {n}")))
    for batch in batches:
        assert sum(name.startswith("large") for name in batch) <= 3  # about 1.3 MB each, compressed
        assert "huge" not in batch or not any(name.startswith("large") for name in batch)
    assert len(await ids_in(store)) == 29


async def test_small_saves_pass_large_ones(open_store: OpenStore) -> None:
    """A burst of large states does not hold up the small ones behind it."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    finished: list[str] = []

    async def save(state: CheckpointState) -> None:
        finished.append(await store.save_checkpoint(state))

    large = [heavy(f"large {n}", 5_000_000) for n in range(6)]
    await asyncio.gather(*map(save, [*large, make_state("small 1"), make_state("small 2")]))
    assert {"small 1", "small 2"} <= set(finished[:3])
    assert len(finished) == 8


async def test_a_small_save_never_passes_a_large_one_of_its_id(open_store: OpenStore) -> None:
    """Nor one that stays behind for another's sake."""
    store = open_store()
    batches = record(store)
    states = [heavy("a", 9_000_000), heavy("b", 9_000_000), make_state("b", context={"last": True})]
    await save_all(store, states)
    assert sum(batch.count("b") for batch in batches) == 2
    assert all(batch.count("b") <= 1 for batch in batches)
    loaded = await store.load_checkpoint("b")
    assert loaded is not None
    assert loaded.context == {"last": True}


async def test_the_last_of_many_saves_of_one_id_stays(open_store: OpenStore) -> None:
    """Each in a commit of its own."""
    store = open_store()
    batches = record(store)
    states = [make_state("same" if n % 2 else f"{n}", context={"n": n}) for n in range(40)]
    await save_all(store, states)
    assert all(len(set(batch)) == len(batch) for batch in batches)
    assert sum(batch.count("same") for batch in batches) == 20
    loaded = await store.load_checkpoint("same")
    assert loaded is not None
    assert loaded.context == {"n": 39}


async def test_a_deletion_keeps_its_place_among_saves(open_store: OpenStore) -> None:
    """It takes what was saved before it, and nothing that came later."""
    store = open_store()
    results = await asyncio.gather(
        store.save_checkpoint(make_state("a")),
        store.save_checkpoint(make_state("b")),
        store.delete_checkpoint("a"),
        store.delete_checkpoint("b"),
        store.save_checkpoint(make_state("b")),
        store.delete_checkpoint("b"),
        store.delete_checkpoint("b"),
        store.save_checkpoint(make_state("c")),
    )
    assert results == ["a", "b", True, True, "b", True, False, "c"]
    assert await ids_in(store) == {"c"}


async def test_a_lane_that_somebody_cancelled_leaves_the_order_as_it_was(
    open_store: OpenStore, database_url: str
) -> None:
    """A program that cancels all its tasks and then saves a last time keeps the last."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    writer = writer_of(store)
    async with raw.locked(database_url):
        saves = [asyncio.create_task(store.save_checkpoint(make_state("x", context={"n": n}))) for n in range(3)]
        await until(lambda: writer._lane is not None and writer._in_flight and writer._queue)
        assert writer._lane is not None
        writer._lane.cancel()
        for save in saves:
            save.cancel()
        last = asyncio.create_task(store.save_checkpoint(make_state("x", context={"n": "last"})))
        await asyncio.wait(saves)
    await asyncio.wait_for(last, 5)
    await until(lambda: writer._lane is None and not writer._alone)
    loaded = await store.load_checkpoint("x")
    assert loaded is not None
    assert loaded.context == {"n": "last"}
    assert weigh(store) == 0


# --- a save that comes when nothing else is under way


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_lone_save_needs_no_lane(open_store: OpenStore) -> None:
    """Neither the first one that finds the connection open, nor any that follows."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    writer = writer_of(store)
    await until(lambda: writer._lane is None)
    for n in range(3):
        save = asyncio.create_task(store.save_checkpoint(make_state(f"{n}")))
        await asyncio.sleep(0)
        assert (writer._lane, writer._alone) == (None, True)
        await save
        assert (writer._lane, writer._alone) == (None, False)
    assert await ids_in(store) == {"first", "0", "1", "2"}


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_lone_save_that_fails_stays_ahead_of_those_behind_it(open_store: OpenStore, database_url: str) -> None:
    """The lane makes it again, also when its caller has left, and then what came later."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    writer = writer_of(store)
    await until(lambda: writer._lane is None)
    batches = record(store)
    async with raw.locked(database_url):
        saves = [asyncio.create_task(store.save_checkpoint(make_state("x", context={"n": n}))) for n in range(3)]
        await asyncio.sleep(0)
        assert writer._alone
        saves[0].cancel()
        await until(lambda: not writer._alone)
        waiting: Any = (*writer._in_flight, *writer._queue)
        assert [write.row[0] for write in waiting] == ["x"] * 3
    await asyncio.gather(*saves[1:])
    assert saves[0].cancelled()
    assert batches == [["x"]] * len(batches)
    assert len(batches) >= 4  # the first at least twice
    loaded = await store.load_checkpoint("x")
    assert loaded is not None
    assert loaded.context == {"n": 2}
    assert weigh(store) == 0


@pytest.mark.parametrize("database", ["sqlite"])
async def test_closing_waits_for_a_lone_save(open_store: OpenStore) -> None:
    """Whether or not its caller still does."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    await until(lambda: writer_of(store)._lane is None)
    save = asyncio.create_task(store.save_checkpoint(make_state("x")))
    await asyncio.sleep(0)
    assert writer_of(store)._alone
    save.cancel()
    await store.close()
    assert save.cancelled()
    assert await ids_in(open_store()) == {"first", "x"}


@pytest.mark.parametrize("database", ["sqlite"])
async def test_closing_sleeps_while_it_waits_for_a_lone_save(open_store: OpenStore) -> None:
    """The thread that makes the save needs Python's lock."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    await until(lambda: writer_of(store)._lane is None)
    held: Any = store._database._saving.held
    busy = held._thread.call(lambda: time.sleep(0.5))
    save = asyncio.create_task(store.save_checkpoint(make_state("x")))
    await asyncio.sleep(0)
    assert writer_of(store)._alone
    started = time.process_time()
    await store.close()
    assert busy.done()
    assert time.process_time() - started < 0.25
    await save


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_transaction_that_was_left_open_takes_no_save_along(open_store: OpenStore, database_url: str) -> None:
    """Saves would seem to be made, and be gone when the connection is closed: it is replaced."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    await until(lambda: writer_of(store)._lane is None)
    held: Any = store._database._saving.held
    for n, more in enumerate((0, 5)):
        held = store._database._saving.held
        await held._thread.call(lambda held=held: held._connection.execute("BEGIN"))
        await save_all(store, [make_state(f"{n} {one}") for one in range(1 + more)])
        assert store._database._saving.held is not held
        [(count,)] = await raw.fetch(database_url, f"SELECT count(*) FROM checkpoints WHERE checkpoint_id LIKE '{n} %'")
        assert count == 1 + more


def open_files() -> Iterator[str]:
    """The paths of this process's open files, of which other threads may close one meanwhile."""
    for one in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(one.readlink())


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_store_is_closed_from_another_event_loop(database_url: str) -> None:
    """The one that used it is gone; its file is let go of all the same, and nothing is waited for."""
    store = SQLAlchemyCheckpointStore(database_url)

    async def leave() -> None:
        await store.save_checkpoint(make_state("x"))
        await until(lambda: writer_of(store)._lane is None)
        save = asyncio.create_task(store.save_checkpoint(make_state("y")))
        await asyncio.sleep(0)
        assert writer_of(store)._alone
        assert not save.done()

    asyncio.run(leave())
    started = time.perf_counter()
    asyncio.run(store.close())
    assert time.perf_counter() - started < 1
    if not raw.is_postgres(database_url):
        deadline = time.perf_counter() + 5
        while any(database_url in one for one in open_files()):
            assert time.perf_counter() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("deadline", [0.05, 0.5])
@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_lone_save_is_told_at_its_deadline(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch, deadline: float
) -> None:
    """Like any other: that the file is locked."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))  # opens the file, which may take longer than that
    await until(lambda: writer_of(store)._lane is None)
    monkeypatch.setattr(writer_of(store), "_deadline_seconds", deadline)
    async with raw.locked(database_url):
        started = time.perf_counter()
        with pytest.raises(StoreUnavailableError, match="locked"):
            await store.save_checkpoint(make_state("x"))
        assert deadline - 0.1 < time.perf_counter() - started < deadline + 0.25
    monkeypatch.undo()
    await store.save_checkpoint(make_state("y"))
    assert "y" in await ids_in(store)


# --- rows that are finished in threads


class Stopped:
    """The finishing of large rows, stopped until it is let go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[int] = []
        self._go_on = threading.Event()

        def packed(plain: bytes) -> Body:
            if len(plain) >= LARGE:
                self.begun.append(threading.get_ident())
                assert self._go_on.wait(30)
            return pack_body(plain)

        monkeypatch.setattr(row_codec, "pack_body", packed)

    def go_on(self) -> None:
        """Let them all go on."""
        self._go_on.set()


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stopped]:
    """Stop all large rows before they are packed."""
    stopped = Stopped(monkeypatch)
    yield stopped
    stopped.go_on()


def large(name: str, version: int = 0) -> CheckpointState:
    """A state that is large enough to be packed in a thread."""
    return make_state(name, context={"version": version, "text": "x" * 100_000})


async def test_others_are_saved_while_a_large_state_is_compressed(open_store: OpenStore, stopped: Stopped) -> None:
    """The event loop and the lane go on; an earlier large state of an id holds back all that is behind it."""
    store = open_store()
    calls = {
        "large": store.save_checkpoint(large("a", 1)),
        "small of its id": store.save_checkpoint(make_state("a", context={"version": 2})),
        "small": store.save_checkpoint(make_state("b")),
    }
    tasks = {name: asyncio.create_task(call) for name, call in calls.items()}
    await asyncio.wait_for(tasks["small"], 5)
    assert await asyncio.wait_for(store.save_checkpoint(make_state("c")), 5) == "c"
    assert not tasks["large"].done()
    assert not tasks["small of its id"].done()
    assert stopped.begun
    assert threading.get_ident() not in stopped.begun
    stopped.go_on()
    await asyncio.gather(*tasks.values())
    loaded = await store.load_checkpoint("a")
    assert loaded is not None
    assert loaded.context == {"version": 2}


async def test_a_deletion_waits_for_a_large_state_before_it(open_store: OpenStore, stopped: Stopped) -> None:
    """And what comes after the deletion waits for it."""
    store = open_store()
    calls = [
        store.save_checkpoint(large("a")),
        store.delete_checkpoint("a"),
        store.save_checkpoint(make_state("a", context={"version": 2})),
        store.delete_checkpoint("b"),
    ]
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.wait(tasks, timeout=0.1)
    assert not any(task.done() for task in tasks)
    stopped.go_on()
    assert await asyncio.gather(*tasks) == ["a", True, "a", False]
    loaded = await store.load_checkpoint("a")
    assert loaded is not None
    assert loaded.context == {"version": 2}


async def test_a_large_state_that_cannot_be_finished_fails_alone(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is given to those behind it."""

    def packed(plain: bytes) -> Body:
        if len(plain) >= LARGE:
            raise MemoryError
        return pack_body(plain)

    monkeypatch.setattr(row_codec, "pack_body", packed)
    store = open_store()
    results = await save_all(store, [large("a"), make_state("a"), make_state("b"), large("c")])
    assert [type(result) for result in results] == [MemoryError, str, str, MemoryError]
    assert weigh(store) == 0
    assert await ids_in(store) == {"a", "b"}


async def test_a_large_state_of_a_caller_who_left_is_saved(open_store: OpenStore, stopped: Stopped) -> None:
    """As a small one is; and closing waits for it."""
    store = open_store()
    save = asyncio.create_task(store.save_checkpoint(large("a")))
    await until(lambda: stopped.begun)
    save.cancel()
    closing = asyncio.create_task(store.close())
    await asyncio.wait({save, closing}, timeout=0.1)
    assert save.cancelled()
    assert not closing.done()
    stopped.go_on()
    await closing
    assert await ids_in(open_store()) == {"a"}


async def test_a_large_state_that_was_late_is_not_saved(open_store: OpenStore, stopped: Stopped) -> None:
    """Its caller was told so, and closing does not wait for it longer than for others."""
    store = open_store(deadline_seconds=0.5)
    results = await save_all(store, [large(f"{n}") for n in range(5)])
    assert [type(result) for result in results] == [StoreUnavailableError] * 5
    saves = [asyncio.create_task(store.save_checkpoint(large(f"{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    started = time.perf_counter()
    await store.close()
    assert time.perf_counter() - started < 0.5 + 0.5
    results = await asyncio.gather(*saves, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailableError] * 5
    stopped.go_on()
    await asyncio.sleep(0.1)
    assert weigh(store) == 0
    assert await ids_in(open_store()) == set()


# --- failures


async def refuse_rows(url: str, *, silently: bool = False) -> None:
    """Let the database itself refuse checkpoints whose workflow is called bad."""
    if raw.is_postgres(url):
        what = "RETURN NULL" if silently else "RAISE EXCEPTION 'canary' USING ERRCODE = 'check_violation'"
        await raw.execute(
            url,
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; END $$",
            "CREATE TRIGGER refuse BEFORE INSERT ON checkpoints FOR EACH ROW WHEN (NEW.workflow_name = 'bad') "
            "EXECUTE FUNCTION refuse()",
        )
    else:
        what = "IGNORE" if silently else "ABORT, 'canary'"
        await raw.execute(
            url,
            "CREATE TRIGGER refuse BEFORE INSERT ON checkpoints WHEN NEW.workflow_name = 'bad' "
            f"BEGIN SELECT RAISE({what}); END",
        )


def assert_only_bad_ones_failed(states: Sequence[CheckpointState], results: Sequence[Any]) -> None:
    """Assert that each of the bad ones got an error of its own, that shows nothing, and the others their ids."""
    failures = []
    for state, result in zip(states, results, strict=True):
        if state.workflow_name == "bad":
            assert type(result) is CheckpointStoreError
            assert "canary" not in "".join(traceback.format_exception(result))
            failures.append(result)
        else:
            assert result == state.checkpoint_id
    assert len(set(map(id, failures))) == len(failures) > 0


@pytest.mark.parametrize("bad", [{7}, {0, 1, 30, 63}, set(range(64))])
async def test_a_row_that_fails_fails_alone(open_store: OpenStore, database_url: str, bad: set[int]) -> None:
    """Its neighbours in the batch are saved, and the connection serves on."""
    await refuse_rows(database_url)
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    batches = record(store)
    states = [make_state(f"{n}", workflow_name="bad" if n in bad else "good") for n in range(64)]
    assert_only_bad_ones_failed(states, await save_all(store, states))
    assert max(map(len, batches)) >= 30
    assert await ids_in(store) == {"first", *(f"{n}" for n in range(64) if n not in bad)}
    assert await store.save_checkpoint(make_state("last")) == "last"


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_row_that_the_database_drops_silently_is_not_acknowledged(
    open_store: OpenStore, database_url: str, size: int
) -> None:
    """PostgreSQL says which rows it wrote, SQLite how many."""
    await refuse_rows(database_url, silently=True)
    store = open_store()
    noise = os.urandom(size // 2).hex()
    states = [make_state(f"{n}", workflow_name="bad" if n == 3 else "good", context={"noise": noise}) for n in range(8)]
    assert_only_bad_ones_failed(states[3:4], await save_all(store, states[3:4]))
    results = await save_all(store, states)
    assert_only_bad_ones_failed(states, results)
    assert "trigger" in str(results[3])
    assert "3" not in await ids_in(store)


async def test_a_state_that_cannot_be_encoded_fails_alone(open_store: OpenStore) -> None:
    """It never gets to the others."""
    store = open_store()
    states = [make_state(f"{n}", context={"when": object() if n == 5 else 1}) for n in range(10)]
    results = await save_all(store, states)
    assert isinstance(results[5], CheckpointEncodeError)
    assert len(await ids_in(store)) == 9


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_connection_lost_in_mid_commit_costs_no_save(open_store: OpenStore, database_url: str) -> None:
    """The batch is written again over a new one."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    async with raw.locked(database_url):
        saves = [asyncio.create_task(store.save_checkpoint(make_state(f"{n}"))) for n in range(30)]
        await until(lambda: writer_of(store)._in_flight)
        waiting = "query LIKE 'INSERT INTO checkpoints%' AND wait_event_type = 'Lock'"
        # In vain, when it does not wait for the lock just now.
        ended = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {waiting}"
        await until_fetched(database_url, ended, 1)
    await asyncio.gather(*saves)
    assert len(await ids_in(store)) == 31


async def test_on_an_engine_of_somebody_elses_a_row_fails_alone_too(database_url: str) -> None:
    """There the commits are ordinary SQLAlchemy, and shared all the same."""
    await refuse_rows(database_url)
    driver = database_url.replace("postgresql:", "postgresql+asyncpg:")
    engine = create_async_engine(driver if raw.is_postgres(database_url) else f"sqlite+aiosqlite:///{database_url}")
    try:
        async with SQLAlchemyCheckpointStore(engine) as store:
            batches = record(store)
            states = [make_state(f"{n}", workflow_name="bad" if n == 9 else "good") for n in range(20)]
            assert_only_bad_ones_failed(states, await save_all(store, states))
            assert max(map(len, batches)) > 9
            assert len(await ids_in(store)) == 19
            assert await store.load_checkpoint("3") == states[3]
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def locked(url: str, lock: str) -> AsyncIterator[None]:
    """Somebody else's transaction that has locked something."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"BEGIN; {lock}")
        yield
    finally:
        await connection.close()


def row_lock(name: str) -> str:
    """What locks a checkpoint's row."""
    return f"SELECT 1 FROM checkpoints WHERE checkpoint_id = '{name}' FOR UPDATE"


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize("lock", [row_lock("a"), "LOCK TABLE checkpoints"])
async def test_a_save_that_was_given_up_is_over_before_a_later_one_begins(
    open_store: OpenStore, database_url: str, lock: str
) -> None:
    """Whatever it waited for, it cannot come back to life."""
    store = open_store(deadline_seconds=0.5)
    await store.save_checkpoint(make_state("a", context={"version": 0}))
    async with locked(database_url, lock):
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await store.save_checkpoint(make_state("a", context={"version": 1}))
        assert time.monotonic() - began < 0.75
    await store.save_checkpoint(make_state("a", context={"version": 2}))
    await asyncio.sleep(0.3)
    loaded = await store.load_checkpoint("a")
    assert loaded is not None
    assert loaded.context == {"version": 2}


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_row_that_somebody_has_locked_holds_up_its_own_id_alone(
    open_store: OpenStore, database_url: str
) -> None:
    """Others are saved, deleted and renewed meanwhile; what concerns the row comes after it, in its order."""
    store = open_store()
    for name in ("a", "b", "c"):
        await store.save_checkpoint(make_state(name, context={"version": 0}))
    await store.claim_checkpoint("c", "owner")
    async with locked(database_url, row_lock("a")):
        began = time.monotonic()
        held_up = [
            asyncio.create_task(store.save_checkpoint(make_state("a", context={"version": 1}))),
            asyncio.create_task(store.save_checkpoint(make_state("next"), follows="a")),
            asyncio.create_task(store.save_checkpoint(make_state("a", context={"version": 2}))),
            asyncio.create_task(store.pin_checkpoint("a")),
        ]
        names = [f"{n}" for n in range(100)]
        assert await save_all(store, [make_state(name) for name in names]) == names
        await store.renew_lease("c", "owner")
        assert await store.delete_checkpoint("b")
        assert await store.cleanup_expired(1e9) == 0
        for n in range(10):
            await store.save_checkpoint(make_state("alone", context={"version": n}))
        assert time.monotonic() - began < 5
        assert not any(task.done() for task in held_up)
    assert await asyncio.gather(*held_up) == ["a", "next", "a", True]
    loaded = await store.load_checkpoint("a")
    assert loaded is not None
    assert loaded.context == {"version": 2}
    [head] = [one for one in await store.list_checkpoints() if one.checkpoint_id == "a"]
    assert head.superseded
    assert head.pinned


@pytest.mark.parametrize("database", ["postgresql"])
async def test_other_work_on_a_row_that_somebody_has_locked_holds_up_no_save(
    open_store: OpenStore, database_url: str
) -> None:
    """Nor is it forgotten."""
    store = open_store()
    states = [make_state(name) for name in ("a", "b", "c")]
    await save_all(store, states)
    await store.claim_checkpoint("b", "owner")
    async with locked(database_url, "SELECT 1 FROM checkpoints FOR UPDATE"):
        held_up = [
            asyncio.create_task(store.delete_checkpoint("a")),
            asyncio.create_task(store.renew_lease("b", "owner")),
            asyncio.create_task(store.claim_checkpoint("c", "owner")),
        ]
        began = time.monotonic()
        for n in range(10):
            await store.save_checkpoint(make_state(f"{n}"))
        assert time.monotonic() - began < 5
        assert not any(task.done() for task in held_up)
    assert await asyncio.gather(*held_up) == [True, None, states[2]]


@pytest.mark.parametrize("database", ["postgresql"])
async def test_however_much_meets_locks_others_have_their_turn(open_store: OpenStore, database_url: str) -> None:
    """One of many locked rows is always due to be tried again."""
    store = open_store()
    names = [f"{n}" for n in range(12)]
    await save_all(store, [make_state(name) for name in names])
    async with locked(database_url, "SELECT 1 FROM checkpoints FOR UPDATE"):
        held_up = [asyncio.create_task(store.pin_checkpoint(name)) for name in names]
        began = time.monotonic()
        await asyncio.sleep(0.5)
        for n in range(10):
            await store.save_checkpoint(make_state(f"other {n}"))
        assert time.monotonic() - began < 5
        assert not any(task.done() for task in held_up)
    assert all(await asyncio.gather(*held_up))


@pytest.mark.parametrize("database", ["postgresql"])
async def test_an_id_that_somebody_inserts_holds_up_itself_alone(open_store: OpenStore, database_url: str) -> None:
    """Its row is not there to be seen before it is committed, and may never be."""
    store = open_store()
    await store.save_checkpoint(make_state("model"))
    table = (
        'INSERT INTO checkpoints SELECT (jsonb_populate_record(c, \'{"checkpoint_id": "new"}\')).* FROM checkpoints c'
    )
    async with locked(database_url, table):
        names = [f"{n}" for n in range(20)]
        began = time.monotonic()
        saves = [asyncio.create_task(store.save_checkpoint(make_state(name))) for name in ["new", *names]]
        await asyncio.wait(saves[1:])
        assert time.monotonic() - began < 5
        assert not saves[0].done()
    assert await asyncio.gather(*saves) == ["new", *names]


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_run_that_cannot_be_deleted_yet_holds_up_no_other(open_store: OpenStore, database_url: str) -> None:
    """Nor is its deletion given up."""
    store = open_store()
    await save_all(store, [make_state(f"{n}", run_id="run") for n in range(5)])
    async with locked(database_url, row_lock("3")):
        deletion = asyncio.create_task(store.delete_run("run"))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        for n in range(10):
            await store.save_checkpoint(make_state(f"other {n}"))
        assert time.monotonic() - began < 5
        assert not deletion.done()
    assert await deletion == 5


@pytest.mark.parametrize("database", ["postgresql"])
async def test_the_last_of_what_is_done_to_an_id_stays_whoever_locks_what(
    open_store: OpenStore, database_url: str
) -> None:
    """Saves and deletions of some ids, of which some callers leave, while somebody locks half of them."""
    store = open_store()
    chance = random.Random(5)
    for round_ in range(8):
        await save_all(store, [make_state(f"{n}") for n in range(6)])
        last: dict[str, int | None] = {}
        calls: list[asyncio.Task[Any]] = []
        async with locked(database_url, "SELECT 1 FROM checkpoints WHERE checkpoint_id < '3' FOR UPDATE"):
            for version in range(25):
                name = f"{chance.randrange(6)}"
                last[name] = None if chance.random() < 0.1 else version
                change = (
                    store.delete_checkpoint(name)
                    if last[name] is None
                    else store.save_checkpoint(make_state(name, context={"version": version}))
                )
                calls.append(asyncio.create_task(change))
                await asyncio.sleep(chance.uniform(0, 0.04))
                if chance.random() < 0.1:
                    calls[-1].cancel()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert not [one for one in found if isinstance(one, Exception)]
        await until(lambda: writer_of(store)._lane is None)
        for name, expected in last.items():
            loaded = await store.load_checkpoint(name)
            assert (None if loaded is None else loaded.context["version"]) == expected, (round_, name)


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_server_that_became_read_only_is_left(open_store: OpenStore) -> None:
    """As after a failover: the save is made over a new connection, which finds the new primary."""
    store = open_store(deadline_seconds=2)
    await store.save_checkpoint(make_state("before"))
    held: Any = store._database._saving._held
    await held._connection.execute("SET default_transaction_read_only = on")
    await store.save_checkpoint(make_state("after"))
    assert await ids_in(store) == {"before", "after"}


@pytest.mark.parametrize("database", ["sqlite"])
async def test_batches_of_many_sizes_leave_no_payloads_in_memory(open_store: OpenStore) -> None:
    """A prepared statement keeps what it was last run with, and there is one for each number of rows."""
    store = open_store()
    noise = os.urandom(30_000).hex()
    states = [make_state(f"{n}", context={"noise": noise, "n": n}) for n in range(120)]
    batches = record(store)
    await save_all(store, states)
    before = resident_bytes()
    for size in range(1, 120):
        await save_all(store, states[:size])
    assert len(set(map(len, batches))) > 50
    assert resident_bytes() - before < 20 * 2**20


def resident_bytes() -> int:
    """The memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# --- cancellation


async def test_cancelling_one_save_leaves_the_others(open_store: OpenStore, database_url: str) -> None:
    """Those that share its commit are saved, it is too, and the connection is whole."""
    store = open_store()
    await store.save_checkpoint(make_state("first"))
    async with raw.locked(database_url):
        saves = [asyncio.create_task(store.save_checkpoint(make_state(f"{n}"))) for n in range(20)]
        await until(lambda: writer_of(store)._in_flight)
        for save in saves[::3]:
            save.cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*saves, return_exceptions=True)
    assert [type(result) for result in results] == [str if n % 3 else asyncio.CancelledError for n in range(20)]
    await store.save_checkpoint(make_state("last"))
    assert len(await ids_in(store)) == 22


async def test_a_storm_of_cancellations_leaves_nothing_behind(open_store: OpenStore) -> None:
    """Saves and loads given up at random moments: no bytes counted, no lane, no lost neighbour."""
    store = open_store()
    dice = random.Random(1)
    await store.save_checkpoint(make_state("kept"))
    kept: list[str] = []

    async def one(n: int) -> None:
        call = asyncio.create_task(
            store.save_checkpoint(make_state(f"{n}")) if n % 3 else store.load_checkpoint("kept")
        )
        if n % 2:
            await asyncio.wait({call}, timeout=dice.random() * 0.01)
            call.cancel()
            await asyncio.wait({call})
        elif n % 3:
            kept.append(await call)  # type: ignore[arg-type] # a save's result
        else:
            assert await call is not None

    await asyncio.gather(*(one(n) for n in range(300)))
    await store.save_checkpoint(make_state("last"))
    assert {"kept", "last", *kept} <= await ids_in(store)
    writer = writer_of(store)
    await until(lambda: writer._lane is None)
    assert (writer._bytes, writer._outside, len(writer._queue)) == (0, 0, 0)


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_load_that_is_given_up_harms_no_other(open_store: OpenStore, database_url: str) -> None:
    """The connection that it was on is replaced, and the loads behind it go on over the new one."""
    store = open_store()
    await store.save_checkpoint(make_state("x"))
    async with raw.locked(database_url):
        loads = [asyncio.create_task(store.load_checkpoint("x")) for _ in range(10)]
        await asyncio.wait(loads, timeout=0.1)
        loads[0].cancel()
        await asyncio.wait(loads, timeout=0.05)
    results = await asyncio.gather(*loads, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, CheckpointState) for result in results[1:])
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    [(count,)] = await raw.fetch(database_url, others)
    assert count <= 3


@pytest.mark.parametrize("database", ["sqlite"])
async def test_reads_behind_one_that_is_stuck_end_by_their_deadlines(open_store: OpenStore) -> None:
    """The connection is replaced when the first one has waited long enough; nobody is forgotten with it."""
    store = open_store(deadline_seconds=0.5)
    await store.list_checkpoints(limit=3)
    held: Any = store._database._reading.held
    go_on = threading.Event()
    held._thread.begin(lambda: go_on.wait(30), lambda _result, _error: None)
    try:
        reads = []
        for _ in range(3):
            reads.append(asyncio.create_task(store.list_checkpoints(limit=3)))
            await asyncio.sleep(0.15)
        started = time.perf_counter()
        results = await asyncio.wait_for(asyncio.gather(*reads, return_exceptions=True), 10)
        assert time.perf_counter() - started < 0.5 + 0.25
        assert {type(result) for result in results} <= {StoreUnavailableError, list}
        assert store._database._reading.held is not held
        assert await store.list_checkpoints(limit=3) == []
    finally:
        go_on.set()


@pytest.mark.parametrize("database", ["postgresql"])
async def test_reads_that_take_turns_end_by_their_deadlines(open_store: OpenStore, database_url: str) -> None:
    """However many wait for one connection, and for a table that somebody has locked."""
    store = open_store(deadline_seconds=1)
    await store.save_checkpoint(make_state("x"))
    await store.list_checkpoints(limit=3)

    async def timed(call: Any) -> float:
        started = time.perf_counter()
        with pytest.raises(StoreUnavailableError):
            await call
        return time.perf_counter() - started

    locker = await asyncpg.connect(database_url)
    try:
        await locker.execute("BEGIN")
        await locker.execute("LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE")
        calls = [store.list_checkpoints(limit=3) for _ in range(5)], [store.load_checkpoint("x") for _ in range(3)]
        took = await asyncio.gather(*(timed(call) for some in calls for call in some))
    finally:
        await locker.close()
    assert max(took) < 1 + 0.25
    assert await store.load_checkpoint("x") is not None


async def test_whoever_shares_a_load_hears_why_it_failed(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it was; nobody is told to have been cancelled."""
    store = open_store()
    await store.save_checkpoint(make_state("x"))
    await store.load_checkpoint("x")

    async def fetch(_query: object) -> Sequence[Sequence[Any]]:
        await asyncio.sleep(0)
        raise MemoryError

    monkeypatch.setattr(store._database._queries, "fetch", fetch)
    results = await asyncio.gather(*(store.load_checkpoint("x") for _ in range(4)), return_exceptions=True)
    assert [type(result) for result in results] == [MemoryError] * 4


# --- backpressure


def weigh(store: SQLAlchemyCheckpointStore) -> int:
    """The bytes that a store has accepted and not committed."""
    return writer_of(store)._bytes


async def test_past_a_bound_a_save_waits_before_it_is_encoded(open_store: OpenStore, database_url: str) -> None:
    """So that a burst does not fill the memory; all are saved in the end."""
    store = open_store(deadline_seconds=60)
    await store.save_checkpoint(make_state("first"))
    size = 4_000_000
    noise = os.urandom(size).hex()
    states = [make_state(f"{n}", context={"noise": noise}) for n in range(20)]
    async with raw.locked(database_url):
        saves = [asyncio.create_task(store.save_checkpoint(state)) for state in states]
        writer = writer_of(store)

        def is_full() -> bool:
            return weigh(store) >= writer_module._MOST_BYTES and all(write.row for write in writer._queue)  # type: ignore[union-attr]

        await until(is_full)
        assert weigh(store) < writer_module._MOST_BYTES + 2 * size + 10_000
        assert writer._outside == len(states) - len(writer._queue) - len(writer._in_flight) > 0
    await asyncio.gather(*saves)
    assert weigh(store) == 0
    assert len(await ids_in(store)) == 21


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for one state only."""
    monkeypatch.setattr(writer_module, "_MOST_BYTES", 1)


@pytest.mark.usefixtures("narrow")
async def test_nothing_passes_what_waits_for_room(open_store: OpenStore) -> None:
    """Saves and deletions of an id are done in the order in which they came."""
    store = open_store()
    calls: list[Any] = [store.save_checkpoint(make_state("x", context={"n": n})) for n in range(5)]
    calls += [store.delete_checkpoint("x"), store.delete_checkpoint("x")]
    calls += [store.save_checkpoint(make_state("x", context={"n": n})) for n in range(5, 8)]
    results = await asyncio.gather(*calls)
    assert results == ["x"] * 5 + [True, False] + ["x"] * 3
    loaded = await store.load_checkpoint("x")
    assert loaded is not None
    assert loaded.context == {"n": 7}


@pytest.mark.usefixtures("narrow")
async def test_a_save_that_found_no_room_in_time_was_not_made(open_store: OpenStore, database_url: str) -> None:
    """It is a retriable error by the deadline, and leaves its place to the next."""
    store = open_store(deadline_seconds=0.5)
    await store.list_checkpoints()
    async with raw.locked(database_url):
        started = time.perf_counter()
        results = await save_all(store, [make_state(f"{n}") for n in range(4)])
        assert 0.4 < time.perf_counter() - started < 0.5 + 0.25
        assert [type(result) for result in results] == [StoreUnavailableError] * 4
    assert writer_of(store)._outside == 0
    await store.save_checkpoint(make_state("next"))
    assert await ids_in(store) - {"0"} == {"next"}


@pytest.mark.usefixtures("narrow")
async def test_who_is_cancelled_at_the_door_lets_the_next_one_in(open_store: OpenStore, database_url: str) -> None:
    """And was not saved."""
    store = open_store()
    await store.list_checkpoints()
    async with raw.locked(database_url):
        saves = [asyncio.create_task(store.save_checkpoint(make_state(f"{n}"))) for n in range(4)]
        await until(lambda: writer_of(store)._outside == 3)
        saves[1].cancel()
        saves[2].cancel()
        await asyncio.wait(saves[1:3])
    await asyncio.gather(saves[0], saves[3])
    assert await ids_in(store) == {"0", "3"}


async def test_what_was_in_the_queue_at_its_deadline_never_begins(open_store: OpenStore) -> None:
    """Its caller was told so; only what was in flight may have been written."""
    store = open_store(deadline_seconds=0.5)
    await store.save_checkpoint(make_state("x"))
    writer = writer_of(store)
    commit, batches = writer._commit, record(store)
    recorded = writer._commit

    async def dawdle(rows: Sequence[Row], deadline: float) -> Collection[str]:
        writer._commit = recorded
        await asyncio.sleep(0.9)
        return await commit(rows, deadline + 1)

    writer._commit, writer._begin_commit = dawdle, lambda _row, _then: False
    calls = [store.save_checkpoint(make_state("first")), store.save_checkpoint(make_state("second"))]
    first = asyncio.create_task(calls[0])
    await until(lambda: writer._in_flight)
    results = await asyncio.gather(first, calls[1], store.delete_checkpoint("x"), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailableError] * 3
    await until(lambda: writer._lane is None)
    assert not writer._queue
    await store.save_checkpoint(make_state("third"))
    assert batches == [["third"]]
    assert weigh(store) == 0
    assert await ids_in(store) == {"x", "first", "third"}


# --- closing


async def test_closing_finishes_what_was_accepted(open_store: OpenStore) -> None:
    """And what waits for room; afterwards nothing is taken any more."""
    store = open_store()
    noise = os.urandom(2_000_000).hex()
    states = [make_state(f"{n}", context={"noise": noise if n % 10 == 0 else ""}) for n in range(200)]
    saves = [asyncio.create_task(store.save_checkpoint(state)) for state in states]
    await until(lambda: writer_of(store)._in_flight)
    await store.close()
    assert await asyncio.gather(*saves) == [f"{n}" for n in range(200)]
    with pytest.raises(StoreConfigurationError, match="closed"):
        await store.save_checkpoint(make_state("late"))
    assert len(await ids_in(open_store())) == 200


async def test_closing_waits_for_loads_under_way(open_store: OpenStore, database_url: str) -> None:
    """All of them get what they asked for, and no connection is left behind."""
    for _ in range(3):
        store = open_store()
        await store.save_checkpoint(make_state("x"))
        loads = [asyncio.create_task(store.load_checkpoint("x")) for _ in range(5)]
        listing = asyncio.create_task(store.list_checkpoints(limit=5))
        await asyncio.sleep(0)
        await store.close()
        assert all(isinstance(state, CheckpointState) for state in await asyncio.gather(*loads))
        assert len(await listing) == 1
        assert store._database._reading._held is None
        with pytest.raises(StoreConfigurationError, match="closed"):
            await store.load_checkpoint("x")
    if raw.is_postgres(database_url):
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        await until_fetched(database_url, others, 0)


async def test_an_opening_that_failed_is_not_told_to_a_later_caller(empty_url: str) -> None:
    """Who gave up waiting for it leaves nothing stale behind; and each caller gets an error of its own."""
    if not raw.is_postgres(empty_url):
        await raw.execute(empty_url, "CREATE TABLE other (x)")
    async with SQLAlchemyCheckpointStore(empty_url) as store:
        given_up = asyncio.create_task(store.load_checkpoint("x"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        given_up.cancel()
        results = await asyncio.gather(*(store.load_checkpoint("x") for _ in range(8)), return_exceptions=True)
        assert [type(result) for result in results] == [SchemaOutOfDateError] * 8
        assert len(set(map(id, results))) == 8
        given_up = asyncio.create_task(store.load_checkpoint("x"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        given_up.cancel()
        await upgrade_schema(empty_url)
        assert await store.load_checkpoint("x") is None


async def test_closing_waits_no_longer_than_the_deadline(open_store: OpenStore, database_url: str) -> None:
    """Saves that cannot be made then fail as what they are."""
    store = open_store(deadline_seconds=0.6)
    await store.list_checkpoints()
    async with raw.locked(database_url):
        saves = [asyncio.create_task(store.save_checkpoint(make_state(f"{n}"))) for n in range(5)]
        await until(lambda: writer_of(store)._in_flight)
        started = time.perf_counter()
        await store.close()
        assert time.perf_counter() - started < 0.6 + 1.0
        results = await asyncio.gather(*saves, return_exceptions=True)
        assert [type(result) for result in results] == [StoreUnavailableError] * 5
