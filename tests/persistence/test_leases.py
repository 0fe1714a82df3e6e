"""Fences and leases where it is hard: other processes at the same moment, answers that are lost, callers who leave."""

import asyncio
import contextlib
import inspect
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from tests.conftest import OpenStore
from tests.migrations import raw
from tests.persistence.test_writer import (
    assert_only_bad_ones_failed,
    record,
    refuse_rows,
    until,
    writer_of,
)
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointDecodeError,
    CheckpointState,
    CheckpointStoreError,
    LeaseLostError,
    SQLAlchemyCheckpointStore,
    StoreUnavailableError,
)
from workflows_mcp.engine.leases import check_fence
from workflows_mcp.persistence.deltas import Deltas
from workflows_mcp.persistence.dialects import HeldConnection, Then
from workflows_mcp.persistence.dialects.postgresql_held import HeldPostgreSQLConnection
from workflows_mcp.persistence.drafting import draft
from workflows_mcp.persistence.row_codec import RowCodec
from workflows_mcp.testing import make_state
from workflows_mcp.testing.following import FollowingContract, metadata_of, raised
from workflows_mcp.testing.leases import MOMENT, LeaseContract, run_out


async def heads(store: SQLAlchemyCheckpointStore) -> list[str]:
    """The ids of all heads."""
    return [one.checkpoint_id for one in await store.list_checkpoints(heads_only=True)]


async def begin(store: SQLAlchemyCheckpointStore, name: str, *, seconds: float = 60) -> None:
    """Begin a run, whose owner is `me`."""
    await store.save_checkpoint(make_state(name), owner="me", lease_seconds=seconds)


def following(store: SQLAlchemyCheckpointStore, name: str, follows: str, owner: str | None = "me") -> Any:
    """A save of the run's owner."""
    seconds = None if owner is None else 60.0
    return store.save_checkpoint(make_state(name), follows=follows, owner=owner, lease_seconds=seconds)


# --- other processes at the same moment: each store has connections of its own


@pytest.fixture
async def stores(open_store: OpenStore) -> list[SQLAlchemyCheckpointStore]:
    """As many as a few servers, ready to write."""
    stores = [open_store() for _ in range(4)]
    for n, store in enumerate(stores):
        await store.save_checkpoint(make_state(f"warm {n}"))
    return stores


async def test_of_many_servers_that_claim_one_wins(stores: list[SQLAlchemyCheckpointStore]) -> None:
    """Round after round; the next ones when it is released."""
    await stores[0].save_checkpoint(make_state("x", paused_block_id="b"))
    for round_ in range(5):
        owners = [f"{round_} {n}" for n in range(len(stores))]
        calls = [store.claim_checkpoint("x", owner) for store, owner in zip(stores, owners, strict=True)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert raised(results) == [CheckpointAlreadyClaimedError] * (len(stores) - 1)
        [winner] = [n for n, result in enumerate(results) if isinstance(result, CheckpointState)]
        await stores[winner].release_claim("x", owners[winner])


async def test_of_many_servers_that_begin_a_run_one_wins(stores: list[SQLAlchemyCheckpointStore]) -> None:
    """The others write nothing."""
    for round_ in range(5):
        results = await asyncio.gather(
            *(
                store.save_checkpoint(make_state(f"{round_}", context={"n": n}), owner=f"{n}", lease_seconds=60)
                for n, store in enumerate(stores)
            ),
            return_exceptions=True,
        )
        assert raised(results) == [LeaseLostError] * (len(stores) - 1)
        [winner] = [n for n, result in enumerate(results) if isinstance(result, str)]
        loaded = await stores[0].load_checkpoint(f"{round_}")
        assert loaded is not None
        assert loaded.context == {"n": winner}


async def test_of_many_servers_that_follow_one_wins(stores: list[SQLAlchemyCheckpointStore]) -> None:
    """The run has one head, and nothing else was written."""
    for round_ in range(5):
        await stores[0].save_checkpoint(make_state(f"{round_}"))
        calls = [following(store, f"{round_} {n}", f"{round_}", None) for n, store in enumerate(stores)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert raised(results) == [LeaseLostError] * (len(stores) - 1)
        written = [one for one in await stores[0].list_checkpoints() if one.checkpoint_id.startswith(f"{round_} ")]
        assert [one.checkpoint_id for one in written] == [result for result in results if isinstance(result, str)]


async def test_a_claim_and_a_save_never_both_succeed(stores: list[SQLAlchemyCheckpointStore]) -> None:
    """When the lease has run out: either the run goes on where it was, or where it was claimed."""
    for round_ in range(12):
        await begin(stores[0], f"{round_}", seconds=MOMENT)
        await run_out()
        calls: list[Awaitable[Any]] = [
            following(stores[0], f"{round_} next", f"{round_}"),
            stores[1].claim_checkpoint(f"{round_}", "other"),
        ]
        if round_ % 2:
            calls.reverse()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert len(raised(results)) == 1, results
        has_saved = "LeaseLostError" not in {kind.__name__ for kind in raised(results)}
        found = await heads(stores[0])
        assert (f"{round_} next" in found, f"{round_}" in found) == (has_saved, not has_saved)


@contextlib.asynccontextmanager
async def holding(url: str, name: str) -> AsyncIterator[asyncpg.Connection]:
    """A transaction of somebody else's that has locked a checkpoint's row."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM checkpoints WHERE checkpoint_id = $1 FOR UPDATE", name)
            yield connection
    finally:
        await connection.close()


async def until_blocked(url: str, count: int) -> None:
    """Wait until so many statements wait for somebody's lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while await raw.fetch(url, waiting) != [(count,)]:  # noqa: ASYNC110 - the server announces it by nothing else
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("database", ["postgresql"])
async def test_whoever_waits_for_a_row_looks_at_it_again(
    stores: list[SQLAlchemyCheckpointStore], database_url: str
) -> None:
    """Statements that began before another one was committed do not act on what they saw when they began."""
    calls: dict[str, Callable[[SQLAlchemyCheckpointStore, str, int], Awaitable[Any]]] = {
        "save": lambda store, name, n: following(store, f"{name} {n}", name),
        "claim": lambda store, name, n: store.claim_checkpoint(name, f"{n}"),
        "cancel": lambda store, name, n: following(store, f"{name} {n}", name, None),
    }
    for kinds in itertools.product(calls, repeat=2):
        name = " and ".join(kinds)
        await begin(stores[0], name, seconds=MOMENT)
        await run_out()
        async with holding(database_url, name):
            tasks = []
            for n, kind in enumerate(kinds):
                tasks.append(asyncio.ensure_future(calls[kind](stores[n], name, n)))
                await until_blocked(database_url, n + 1)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        if set(kinds) == {"claim", "cancel"} and not raised(results):
            assert not isinstance(results[kinds.index("cancel")], CheckpointState)
            continue  # a cancellation asks for no lease: it may come after the claim
        assert len(raised(results)) == 1, (kinds, results)


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_repetition_whose_first_attempt_is_still_under_way_succeeds(
    stores: list[SQLAlchemyCheckpointStore], database_url: str
) -> None:
    """Its statement began before the other's commit, and cannot see what that wrote."""
    store = stores[0]
    await begin(store, "x")
    fence = check_fence("y", follows="x", owner="me", lease_seconds=60)
    sql, values = held_by(store)._saving.of(
        [draft(make_state("y"), None, fence, RowCodec(), Deltas(0).step(make_state("y"))).finish()]
    )
    async with holding(database_url, "x") as connection:
        assert await connection.fetchval(sql, *values) == "y"
        save = asyncio.create_task(following(store, "y", "x"))
        await until_blocked(database_url, 1)
    assert await save == "y"
    assert (await metadata_of(store, "x")).superseded


@pytest.mark.parametrize("database", ["postgresql"])
async def test_what_meets_a_row_that_nobody_had_seen_is_taken_back(
    stores: list[SQLAlchemyCheckpointStore], database_url: str
) -> None:
    """Somebody else saves the same id at that moment: then nothing was followed, either."""
    store = stores[0]
    await begin(store, "x")
    sql = store._database._saving_sql["one"].sql
    async with holding(database_url, "absent") as connection:
        await connection.execute(
            sql, *draft(make_state("y"), None, None, RowCodec(), Deltas(0).step(make_state("y"))).finish()
        )
        save = asyncio.create_task(following(store, "y", "x"))
        await until_blocked(database_url, 1)
    with pytest.raises(LeaseLostError):
        await save
    assert not (await metadata_of(store, "x")).superseded
    await following(store, "z", "x")


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize("repeated", [["0"], ["0", "1", "2"]])
async def test_a_repetition_does_not_bring_a_deleted_run_back(
    open_store: OpenStore, database_url: str, repeated: list[str]
) -> None:
    """Its statement began before the deletion was committed, and saw what it had written; its neighbours are saved."""
    store = open_store()
    for run in repeated:
        await begin(store, run)
        await following(store, f"{run} next", run)
    again = open_store()  # not connected yet, so that its first saves share a commit
    batches = record(again)
    async with holding(database_url, "absent") as connection:
        await connection.execute("DELETE FROM checkpoints WHERE checkpoint_id IN ('0', '0 next')")
        saves = [asyncio.ensure_future(following(again, f"{run} next", run)) for run in repeated]
        await until_blocked(database_url, 1)
    results = await asyncio.gather(*saves, return_exceptions=True)
    assert len(batches[0]) == len(repeated)
    assert raised(results) == [LeaseLostError]
    assert sorted(await heads(store)) == [f"{run} next" for run in repeated[1:]]
    assert len(await store.list_checkpoints()) == 2 * len(repeated[1:])


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_batch_locks_what_it_follows_in_the_order_of_ids(open_store: OpenStore, database_url: str) -> None:
    """As renewals and the batches of other servers do, whatever its own rows are called: so nobody deadlocks."""
    store = open_store()
    names = [f"{n:02}" for n in range(40)]
    for name in reversed(names):
        await begin(store, name)
    batched = open_store()  # not connected yet, so that its first saves share a commit
    async with holding(database_url, names[0]) as connection:
        saves = [
            asyncio.ensure_future(following(batched, f"{own} next", name))
            for own, name in zip(reversed(names), names, strict=True)
        ]
        await until_blocked(database_url, 1)
        # It waits for the first, and has none of the others yet.
        await connection.execute("SELECT 1 FROM checkpoints WHERE checkpoint_id > $1 FOR UPDATE NOWAIT", names[0])
    await asyncio.gather(*saves)
    assert sorted(await heads(store)) == [f"{name} next" for name in names]


def held_by(store: SQLAlchemyCheckpointStore) -> HeldPostgreSQLConnection:
    """The connection that a store saves over."""
    held = store._database._saving.held
    assert isinstance(held, HeldPostgreSQLConnection)
    return held


# --- answers that are lost


@pytest.fixture
def forgetful(store: SQLAlchemyCheckpointStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A store whose connection is lost after the next write, for each word in the list."""
    lost: list[str] = []
    line = store._database._saving
    call, start = line.call, writer_of(store)._begin_commit

    async def call_and_lose(work: Callable[[HeldConnection], Awaitable[Any]]) -> Any:
        async def worked(held: HeldConnection) -> Any:
            result = await work(held)
            if lost:
                lost.pop()
                held.is_usable = False
                raise TimeoutError
            return result

        return await call(worked)

    def start_and_lose(row: Any, then: Then[Any]) -> bool:
        def ended(written: Any, error: BaseException | None) -> None:
            if lost:
                lost.pop()
                error = StoreUnavailableError("the answer was lost")
            then(None if error else written, error)

        return start(row, ended)

    monkeypatch.setattr(line, "call", call_and_lose)
    monkeypatch.setattr(writer_of(store), "_begin_commit", start_and_lose)
    return lost


async def test_a_call_whose_answer_was_lost_succeeds(store: SQLAlchemyCheckpointStore, forgetful: list[str]) -> None:
    """It is made again by the store, which recognises what it had done."""
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: begin(store, "0"),
        lambda: following(store, "1", "0"),
        lambda: store.renew_lease("1", "me"),
        lambda: store.save_checkpoint(make_state("2"), follows="1", owner="me"),
        lambda: store.claim_checkpoint("2", "other"),
        lambda: store.pin_checkpoint("2"),
        lambda: store.release_claim("2", "other"),
        lambda: following(store, "3", "2", None),
    ]
    for call in calls:
        forgetful.append("answer")
        await call()
        assert not forgetful
    assert [(one.checkpoint_id, one.superseded, one.pinned) for one in await store.list_checkpoints()] == [
        ("3", False, False),
        ("2", True, True),
        ("1", True, False),
        ("0", True, False),
    ]


async def test_a_claim_that_is_made_again_takes_nothing_from_another(
    store: SQLAlchemyCheckpointStore, open_store: OpenStore, forgetful: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease may have run out before it was."""
    await store.save_checkpoint(make_state("x"))
    other = open_store()
    forgetful.append("answer")
    task = asyncio.create_task(store.claim_checkpoint("x", "first", MOMENT))
    gate = asyncio.Event()
    line = store._database._saving
    call = line.call

    async def late(work: Callable[[HeldConnection], Awaitable[Any]]) -> Any:
        if not forgetful:
            await gate.wait()
        return await call(work)

    monkeypatch.setattr(line, "call", late)
    await until(lambda: not forgetful)
    await run_out()
    await other.claim_checkpoint("x", "second", 60)
    gate.set()
    with pytest.raises(CheckpointAlreadyClaimedError):
        await task


# --- batches


async def test_fenced_and_plain_saves_share_a_commit(open_store: OpenStore, database_url: str) -> None:
    """Those that lost fail, each by itself, and their neighbours are written."""
    store = open_store()
    for n in range(12):
        await begin(store, f"{n}")
    await store.save_checkpoint(make_state("plain again", context={"old": 1}), owner="me", lease_seconds=60)
    lease = (await metadata_of(store, "plain again")).lease_expires_at
    batches = record(store)
    async with raw.locked(database_url):
        calls: list[Any] = [store.save_checkpoint(make_state("first"))]
        calls += [following(store, f"{n} next", f"{n}", "me" if n % 3 else "thief") for n in range(12)]
        calls += [store.save_checkpoint(make_state(f"plain {n}")) for n in range(5)]
        calls += [store.save_checkpoint(make_state("plain again", context={"new": 2})), begin(store, "begun")]
        calls += [store.save_checkpoint(make_state("1"), owner="thief", lease_seconds=60)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await until(lambda: len(writer_of(store)._queue) + len(writer_of(store)._in_flight) == len(calls))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert raised(results) == [LeaseLostError] * 5
    assert max(map(len, batches)) >= 8
    written = {one.checkpoint_id for one in await store.list_checkpoints()}
    assert {f"{n} next" for n in range(12) if n % 3} | {f"plain {n}" for n in range(5)} | {"begun"} <= written
    assert not {f"{n} next" for n in range(0, 12, 3)} & written
    found = {one.checkpoint_id: one for one in await store.list_checkpoints()}
    assert [found[f"{n}"].superseded for n in range(12)] == [bool(n % 3) for n in range(12)]
    assert found["plain again"].lease_expires_at == lease
    loaded = await store.load_checkpoint("plain again")
    assert loaded is not None
    assert loaded.context == {"new": 2}


async def test_a_save_and_the_one_that_follows_it_are_committed_in_turn(open_store: OpenStore) -> None:
    """Also when nobody waits in between, and when the first one is large."""
    store = open_store()
    await begin(store, "a0")
    batches = record(store)
    calls: list[Any] = [following(store, f"a{n}", f"a{n - 1}") for n in range(1, 6)]
    calls += [begin(store, "b0")]
    large = make_state("b1", context={"text": "x" * 200_000})
    calls += [store.save_checkpoint(large, follows="b0", owner="me", lease_seconds=60), following(store, "b2", "b1")]
    calls += [following(store, "late", "a3"), store.save_checkpoint(make_state("a5", context={"again": True}))]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert raised(results) == [LeaseLostError]
    assert isinstance(results[-2], LeaseLostError)
    for batch in batches:
        assert sum(name.startswith("a") for name in batch) <= 1
        assert sum(name.startswith("b") for name in batch) <= 1
    assert set(await heads(store)) == {"a5", "b2"}


async def test_large_fenced_rows_are_committed_together(open_store: OpenStore) -> None:
    """More than one statement takes at a time; losers among them."""
    store = open_store()
    for n in range(8):
        await begin(store, f"{n}")
    text = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(150_000))
    results = await asyncio.gather(
        *(
            store.save_checkpoint(
                make_state(f"{n} next", context={"text": text}), follows=f"{n}", owner="me" if n else "thief"
            )
            for n in range(8)
        ),
        return_exceptions=True,
    )
    assert raised(results) == [LeaseLostError]
    assert set(await heads(store)) == {"0", *(f"{n} next" for n in range(1, 8))}


@pytest.mark.parametrize("bad", [{5}, {0, 1, 7}])
async def test_a_fenced_row_that_the_database_drops_silently_fails_alone(
    open_store: OpenStore, database_url: str, bad: set[int]
) -> None:
    """Long before the deadline, with the reason, and what it was to follow is a head still."""
    store = open_store()
    for n in range(8):
        await begin(store, f"{n}")
    await refuse_rows(database_url, silently=True)
    states = [make_state(f"{n} next", workflow_name="bad" if n in bad else "good") for n in range(8)]
    batches = record(store)
    started = time.monotonic()
    async with raw.locked(database_url):
        saves = [
            asyncio.ensure_future(store.save_checkpoint(state, follows=f"{n}", owner="me", lease_seconds=60))
            for n, state in enumerate(states)
        ]
        await until(lambda: writer_of(store)._in_flight)
    results = await asyncio.gather(*saves, return_exceptions=True)
    assert time.monotonic() - started < store._database.settings.deadline_seconds / 2
    assert max(map(len, batches)) > 1
    assert_only_bad_ones_failed(states, results)
    assert all("trigger" in str(results[n]) for n in bad)
    assert set(await heads(store)) == {f"{n}" if n in bad else f"{n} next" for n in range(8)}


async def test_renewals_that_come_together_are_one_commit(open_store: OpenStore) -> None:
    """However many runs a server works on."""
    store = open_store()
    for n in range(30):
        await begin(store, f"{n}")
    database = store._database
    statements_run: list[object] = []
    change = store._renewals._change

    async def counted(make: Any, **options: Any) -> Any:
        statements_run.append(make)
        return await change(make, **options)

    store._renewals._change = counted
    await asyncio.gather(*(store.renew_lease(f"{n}", "me") for n in range(30)))
    assert len(statements_run) == 1
    await store.renew_lease("1", "me")
    assert len(statements_run) == 2
    assert not database.calls._tasks


async def test_renewals_that_fail_together_are_errors_of_each(open_store: OpenStore, database_url: str) -> None:
    """In time, and not the same error; later ones succeed."""
    store = open_store(deadline_seconds=0.4)
    await begin(store, "x")
    await begin(store, "y")
    async with raw.locked(database_url):
        results = await asyncio.gather(
            store.renew_lease("x", "me"), store.renew_lease("y", "me"), return_exceptions=True
        )
        assert [type(result) for result in results] == [StoreUnavailableError] * 2
        assert results[0] is not results[1]
    await store.renew_lease("x", "me")


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_lease_whose_row_somebody_has_locked_holds_up_no_other(
    open_store: OpenStore, database_url: str
) -> None:
    """The others are renewed together and at once; it fails at its deadline, and later succeeds."""
    store = open_store(deadline_seconds=1.0)
    for n in range(20):
        await begin(store, f"{n}")
    async with holding(database_url, "7"):
        started = time.monotonic()
        locked = asyncio.create_task(store.renew_lease("7", "me"))
        await asyncio.gather(*(store.renew_lease(f"{n}", "me", 600) for n in range(20) if n != 7))
        with pytest.raises(LeaseLostError):
            await store.renew_lease("8", "thief")
        assert time.monotonic() - started < 0.5
        assert not locked.done()
        with pytest.raises(StoreUnavailableError, match="lock"):
            await locked
        assert 0.9 < time.monotonic() - started < 1.5
        waits = asyncio.create_task(store.renew_lease("7", "me", 600))
        await asyncio.wait({waits}, timeout=0.1)
        assert not waits.done()
    await waits
    ends = [one.lease_expires_at for one in await store.list_checkpoints()]
    assert all(end is not None and end > time.time() + 500 for end in ends)


@pytest.mark.parametrize("database", ["postgresql"])
async def test_renewals_that_fail_wait_no_longer_than_one_deadline(open_store: OpenStore, database_url: str) -> None:
    """Alone, a lease has what is left of the time in which it was renewed with others."""
    store = open_store(deadline_seconds=0.6)
    await begin(store, "x")
    connection = await asyncpg.connect(database_url)
    try:
        async with holding(database_url, "x"):
            started = time.monotonic()
            async with connection.transaction():
                await connection.execute("LOCK TABLE checkpoints IN SHARE MODE")
                renewal = asyncio.ensure_future(store.renew_lease("x", "me"))
                await asyncio.wait({renewal}, timeout=0.4)
            with pytest.raises(StoreUnavailableError):
                await renewal
            assert time.monotonic() - started < 0.9
    finally:
        await connection.close()


# --- callers who leave


async def test_a_fenced_save_whose_caller_left_is_made(open_store: OpenStore, database_url: str) -> None:
    """As any other; and so its run has gone on."""
    store = open_store()
    await begin(store, "x")
    async with raw.locked(database_url):
        save = asyncio.ensure_future(following(store, "y", "x"))
        await asyncio.wait({save}, timeout=0.1)
        save.cancel()
        await asyncio.wait({save})
    await following(store, "z", "y")
    assert await heads(store) == ["z"]


async def test_a_claim_whose_caller_left_is_let_go_of(open_store: OpenStore, database_url: str) -> None:
    """Whoever comes next need not wait until its lease has run out."""
    store = open_store()
    await store.save_checkpoint(make_state("x"))
    async with raw.locked(database_url):
        claim = asyncio.create_task(store.claim_checkpoint("x", "me", 3600))
        await asyncio.wait({claim}, timeout=0.1)
        claim.cancel()
        await asyncio.wait({claim})
    await store.close()
    assert (await open_store().claim_checkpoint("x", "other")).checkpoint_id == "x"


async def test_a_renewal_whose_caller_left_leaves_the_others(open_store: OpenStore, database_url: str) -> None:
    """They share its commit, and are renewed."""
    store = open_store()
    await begin(store, "x", seconds=MOMENT)
    await begin(store, "y", seconds=MOMENT)
    async with raw.locked(database_url):
        renewals = [asyncio.create_task(store.renew_lease(name, "me", 60)) for name in ("x", "y")]
        await asyncio.wait(renewals, timeout=0.1)
        renewals[0].cancel()
    await renewals[1]
    await run_out()
    for name in ("x", "y"):
        with pytest.raises(CheckpointAlreadyClaimedError):
            await store.claim_checkpoint(name, "other")


# --- damage


async def test_a_damaged_checkpoint_is_not_held_by_who_failed_to_claim_it(
    store: SQLAlchemyCheckpointStore, database_url: str
) -> None:
    """The error says what it is, and another program may try."""
    await store.save_checkpoint(make_state("x"))
    damage = "'\\x0102'" if raw.is_postgres(database_url) else "x'0102'"
    await raw.execute(database_url, f"UPDATE checkpoints SET payload = {damage}")
    for owner in ("one", "two"):
        with pytest.raises(CheckpointDecodeError, match="'x' is damaged"):
            await store.claim_checkpoint("x", owner)


async def test_a_claim_of_a_damaged_checkpoint_leaves_its_lease_as_it_was(
    store: SQLAlchemyCheckpointStore, database_url: str
) -> None:
    """What nobody had leased does not look abandoned, and what was abandoned does not look young."""
    await store.save_checkpoint(make_state("never leased"))
    await begin(store, "abandoned", seconds=MOMENT)
    await run_out()
    await raw.execute(database_url, "UPDATE checkpoints SET encoding = 'unknown'")
    before = [await metadata_of(store, name) for name in ("never leased", "abandoned")]
    for one in before:
        with pytest.raises(CheckpointDecodeError):
            await store.claim_checkpoint(one.checkpoint_id, "other")
    assert [await metadata_of(store, name) for name in ("never leased", "abandoned")] == before
    assert [one.checkpoint_id for one in await store.list_abandoned()] == ["abandoned"]


async def test_a_claim_of_a_damaged_checkpoint_takes_the_run_from_nobody(
    store: SQLAlchemyCheckpointStore, database_url: str
) -> None:
    """Whoever held it last still has the whole state, and may go on with what is damaged."""
    await begin(store, "x", seconds=MOMENT)
    await run_out()
    await raw.execute(database_url, "UPDATE checkpoints SET encoding = 'unknown'")
    with pytest.raises(CheckpointDecodeError):
        await store.claim_checkpoint("x", "other")
    await store.save_checkpoint(make_state("y"), follows="x", owner="me", lease_seconds=60)
    assert (await metadata_of(store, "x")).superseded


async def test_damage_is_told_though_the_claim_cannot_be_taken_back(
    store: SQLAlchemyCheckpointStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim's lease runs out by itself."""
    await store.save_checkpoint(make_state("x"))
    await raw.execute(database_url, "UPDATE checkpoints SET encoding = 'unknown'")

    async def fail(_query: object, **_keys: object) -> int:
        raise StoreUnavailableError("gone")

    monkeypatch.setattr(store._database, "change", fail)
    with pytest.raises(CheckpointDecodeError):
        await store.claim_checkpoint("x", "me")


# --- engines of somebody else's


@pytest.mark.parametrize("isolation_level", [None, "AUTOCOMMIT"])
async def test_all_of_it_works_over_an_engine_that_was_passed_in(
    database_url: str, isolation_level: str | None
) -> None:
    """Whatever it makes of transactions."""
    is_file = not raw.is_postgres(database_url)
    url = f"sqlite+aiosqlite:///{database_url}" if is_file else database_url.replace(":", "+asyncpg:", 1)
    engine = create_async_engine(url, **({"isolation_level": isolation_level} if isolation_level else {}))
    promises = (FollowingContract, LeaseContract)
    tests = [getattr(kind(), name) for kind in promises for name in dir(kind) if name.startswith("test_")]
    tests = [test for test in tests if set(inspect.signature(test).parameters) == {"store"}]
    assert len(tests) > 20
    try:
        async with SQLAlchemyCheckpointStore(engine) as store:
            for test in tests:
                await test(store)
                await raw.execute(database_url, "DELETE FROM checkpoints")
    finally:
        await engine.dispose()


ENGINES: dict[str, dict[str, Any]] = {
    "plain": {},
    "autocommit": {"isolation_level": "AUTOCOMMIT"},
    "autocommit that rolls nothing back": {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True},
    "driver without transactions": {"connect_args": {"isolation_level": None}},
}


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize("options", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("silently", [True, False])
async def test_a_save_that_fails_over_an_engine_that_was_passed_in_leaves_nothing(
    database_url: str, options: dict[str, Any], *, silently: bool
) -> None:
    """Neither a half that is committed with the next save, nor a lock."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{database_url}", **options)
    await refuse_rows(database_url, silently=silently)
    try:
        async with SQLAlchemyCheckpointStore(engine) as store:
            await begin(store, "x")
            fences: list[dict[str, Any]] = [{}, {"follows": "x", "owner": "me"}]
            for fence in fences:
                with pytest.raises(CheckpointStoreError, match="trigger" if silently else "refused") as caught:
                    await store.save_checkpoint(make_state("bad", workflow_name="bad"), **fence)
                assert type(caught.value) is CheckpointStoreError
                await raw.execute(database_url, "PRAGMA user_version = 1")  # nobody holds the lock
            await store.save_checkpoint(make_state("other"))
            assert set(await heads(store)) == {"x", "other"}
            await following(store, "y", "x")
            assert set(await heads(store)) == {"y", "other"}
    finally:
        await engine.dispose()


@pytest.mark.parametrize("database", ["sqlite"])
async def test_what_somebody_left_open_on_a_connection_is_not_committed(database_url: str) -> None:
    """In AUTOCOMMIT it is nobody's transaction."""
    options = ENGINES["autocommit that rolls nothing back"]
    engine = create_async_engine(f"sqlite+aiosqlite:///{database_url}", pool_size=1, max_overflow=0, **options)
    try:
        async with SQLAlchemyCheckpointStore(engine) as store:
            await begin(store, "x")
            fences: dict[str, dict[str, Any]] = {"plain": {}, "fenced": {"owner": "me"}}
            for name, fence in fences.items():
                async with engine.connect() as connection:
                    await connection.exec_driver_sql("BEGIN")
                    await connection.exec_driver_sql("UPDATE checkpoints SET superseded = 1 WHERE checkpoint_id = 'x'")
                await store.save_checkpoint(make_state(name), **fence)
            assert set(await heads(store)) == {"x", "plain", "fenced"}
    finally:
        await engine.dispose()
