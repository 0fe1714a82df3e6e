"""What Prometheus is shown is what was done."""

import asyncio
import functools
import gc
import os
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import OpenStore, administer
from tests.engine.probe import shell, text
from workflows_mcp import (
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointKeyError,
    CheckpointStoreError,
    InMemoryCheckpointStore,
    LeaseLostError,
    SQLAlchemyCheckpointStore,
    StoreFullError,
    WorkflowExecutor,
    upgrade_schema,
)
from workflows_mcp.engine.events import BlockStarted, Event
from workflows_mcp.engine.observing import Operation, StoreObserver
from workflows_mcp.settings import Settings
from workflows_mcp.telemetry import instrument
from workflows_mcp.telemetry.exporter import Exporter
from workflows_mcp.telemetry.metrics import exposition, serve_metrics
from workflows_mcp.telemetry.samples import of_census
from workflows_mcp.testing import make_state

DOCS = Path(__file__).parents[2] / "docs"

Value = Callable[..., float | None]


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture
def value(registry: CollectorRegistry) -> Value:
    """Reads one series of it: of a metric without its `workflows_`, by its labels."""
    return lambda name, **labels: registry.get_sample_value(f"workflows_{name}", labels)


@pytest.fixture
def served(registry: CollectorRegistry) -> Iterator[str]:
    """Where the registry is served over HTTP."""
    server, port = serve_metrics(0, registry)
    yield f"http://127.0.0.1:{port}/metrics"
    server.shutdown()
    server.server_close()


async def scrape(url: str) -> dict[str, float]:
    """All series that a server shows, by name and labels."""

    def read() -> str:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())

    found = text_string_to_metric_families(await asyncio.to_thread(read))
    return {
        one.name + "".join(f" {key}={one.labels[key]}" for key in sorted(one.labels)): one.value
        for family in found
        for one in family.samples
    }


async def test_the_counts_are_what_was_done(
    store: SQLAlchemyCheckpointStore, database: str, registry: CollectorRegistry, value: Value
) -> None:
    """Saves by how they ended, errors, sizes, deletions, and commits that add up to the saves."""
    instrument(store, registry=registry)
    await asyncio.gather(*(store.save_checkpoint(make_state(f"c{number}")) for number in range(10)))
    for _ in range(3):
        with pytest.raises(CheckpointEncodeError):
            await store.save_checkpoint(make_state("bad", context={"x": object()}))
    with pytest.raises(ValueError, match="checkpoint_id"):
        await store.load_checkpoint("")
    for number in range(4):
        await store.load_checkpoint(f"c{number}")
    assert await store.load_checkpoint("absent") is None
    assert await store.delete_checkpoint("c0")
    assert not await store.delete_checkpoint("c0")
    assert await store.trim_per_workflow(2) == 7
    assert value("checkpoint_saves_total", database=database, status="ok") == 10
    assert value("checkpoint_saves_total", database=database, status="error") == 3
    named = {"database": database, "operation": "save"}
    assert value("checkpoint_errors_total", **named, error="CheckpointEncodeError") == 3
    assert value("checkpoint_errors_total", database=database, operation="load", error="ValueError") == 1
    assert value("checkpoint_operation_duration_seconds_count", **named) == 13
    assert value("checkpoint_operation_duration_seconds_bucket", **named, le="+Inf") == 13
    assert value("checkpoint_bytes_count", **named) == 10
    assert value("checkpoint_bytes_count", database=database, operation="load") == 4
    saved, loaded = (value("checkpoint_bytes_sum", database=database, operation=one) for one in ("save", "load"))
    assert saved is not None
    assert loaded is not None
    assert loaded == pytest.approx(saved * 4 / 10, rel=0.02)
    assert value("checkpoint_batch_rows_sum", database=database) == 10
    assert value("checkpoint_commit_duration_seconds_count", database=database) == value(
        "checkpoint_batch_rows_count", database=database
    )
    assert value("checkpoint_deletions_total", database=database, operation="delete") == 1
    assert value("checkpoint_deletions_total", database=database, operation="trim") == 7


@pytest.mark.parametrize(
    ("rule", "error", "operations"),
    [
        ("WorkflowsCheckpointDamaged", CheckpointDecodeError, ("load", "claim")),
        ("WorkflowsKeyMissing", CheckpointKeyError, ("load", "claim")),
        ("WorkflowsStoreFull", StoreFullError, ("save", "claim", "renew", "delete", "expire")),
    ],
)
async def test_an_error_of_which_one_is_enough_is_counted_from_nothing(
    registry: CollectorRegistry, value: Value, rule: str, error: type[CheckpointStoreError], operations: Sequence[str]
) -> None:
    """A series that begins with 1 has not risen, to Prometheus; one that it sees late is caught by the rule itself."""

    class Failing(InMemoryCheckpointStore):
        async def load_checkpoint(self, checkpoint_id: str) -> Any:
            raise error(checkpoint_id)

    store = Failing()
    instrument(store, registry=registry)
    named = {"database": "memory", "error": error.__name__}
    assert {value("checkpoint_errors_total", operation=one, **named) for one in operations} == {0}
    before = value("checkpoint_errors_total", operation="load", **named) or 0
    with pytest.raises(error):
        await store.load_checkpoint("c")
    assert value("checkpoint_errors_total", operation="load", **named) == before + 1

    [group] = yaml.safe_load((DOCS / "monitoring" / "alerts.yaml").read_text())["groups"]
    [expression] = (one["expr"] for one in group["rules"] if one["alert"] == rule)
    series = f'workflows_checkpoint_errors_total{{error="{error.__name__}"}}'
    span = expression.partition("[")[2].partition("]")[0]
    assert expression == f"increase({series}[{span}]) > 0 or ({series} > 0 unless {series} offset {span})"


async def test_a_lease_that_a_thief_has_taken_is_counted(
    store: SQLAlchemyCheckpointStore, open_store: OpenStore, database: str, registry: CollectorRegistry, value: Value
) -> None:
    """Once for each call that found out."""
    instrument(store, registry=registry)
    await store.save_checkpoint(make_state("c"), owner="slow", lease_seconds=0.001)
    await asyncio.sleep(0.01)
    await open_store().claim_checkpoint("c", "thief")
    assert value("checkpoint_lease_losses_total", database=database) == 0
    with pytest.raises(LeaseLostError):
        await store.renew_lease("c", "slow")
    with pytest.raises(LeaseLostError):
        await store.save_checkpoint(make_state("d"), follows="c", owner="slow")
    assert value("checkpoint_lease_losses_total", database=database) == 2
    assert value("checkpoint_saves_total", database=database, status="error") == 1


async def test_a_scrape_shows_what_waits_and_what_is_left_behind(
    store: SQLAlchemyCheckpointStore, database: str, registry: CollectorRegistry, served: str
) -> None:
    """The database is asked for it when somebody scrapes."""
    instrument(store, registry=registry)
    asking = {"paused_block_id": "ask", "pause_prompt": "well?", "status": "paused"}
    await store.save_checkpoint(make_state("old", created_at=time.time() - 500, **asking))
    await store.save_checkpoint(make_state("new", **asking))
    await store.save_checkpoint(make_state("left", status="running"), owner="o", lease_seconds=0.001)
    await store.save_checkpoint(make_state("busy", status="running"), owner="p", lease_seconds=60)
    await asyncio.sleep(0.01)
    async with store._database.engine.connect():
        found = await scrape(served)
    label = f" database={database}"
    assert found[f"workflows_checkpoint_up{label}"] == 1
    assert found[f"workflows_paused_runs{label}"] == 2
    assert 500 <= found[f"workflows_oldest_pause_seconds{label}"] < 560
    assert found[f"workflows_abandoned_runs{label}"] == 1
    assert found[f"workflows_leased_runs{label}"] == 1
    assert found[f"workflows_checkpoint_database_bytes{label}"] > 8192
    assert found[f"workflows_checkpoint_pool_size{label}"] == 10
    assert found[f"workflows_checkpoint_pool_in_use{label}"] == 1
    if database == "sqlite":
        log = store._database.dialect.log_bytes()
        assert found[f"workflows_checkpoint_wal_bytes{label}"] == log != 0
        assert found[f"workflows_checkpoint_disk_free_bytes{label}"] > 0


async def test_a_scrape_goes_on_when_the_database_is_gone(
    postgres_server: str, registry: CollectorRegistry, served: str
) -> None:
    """What the process has counted is served as before, and the metrics say that the database does not answer."""
    name = f"gone_{os.getpid()}"
    await administer(postgres_server, f"CREATE DATABASE {name} TEMPLATE template0")
    url = urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
    try:
        await upgrade_schema(url)
        async with SQLAlchemyCheckpointStore(url, settings=Settings(deadline_seconds=0.3)) as store:
            instrument(store, registry=registry, pulse_seconds=0.01)
            await store.save_checkpoint(make_state())
            assert (await scrape(served))["workflows_checkpoint_up database=postgresql"] == 1
            await administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")
            started = time.monotonic()
            found: dict[str, float] = {}
            while found.get("workflows_checkpoint_up database=postgresql") != 0:
                assert time.monotonic() - started < 10
                found = await scrape(served)
            assert "workflows_paused_runs database=postgresql" not in found
            assert found["workflows_checkpoint_saves_total database=postgresql status=ok"] == 1
    finally:
        with suppress(Exception):
            await administer(postgres_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def test_the_database_is_asked_no_more_often_than_agreed(registry: CollectorRegistry, value: Value) -> None:
    """However often somebody scrapes."""
    looks: list[float] = []

    class Watched(InMemoryCheckpointStore):
        async def take_pulse(self) -> Any:
            looks.append(time.monotonic())
            return await super().take_pulse()

    store = Watched()
    instrument(store, registry=registry, pulse_seconds=60)
    await store.save_checkpoint(make_state())
    for _ in range(5):
        value("paused_runs", database="memory")
        await asyncio.sleep(0)
    assert len(looks) == 1
    assert value("paused_runs", database="memory") == 0


async def test_runs_and_blocks_are_counted_by_what_they_came_to(registry: CollectorRegistry, value: Value) -> None:
    """Also those that are cancelled, and those that go on after a pause."""
    has_begun = asyncio.Event()

    async def notice(event: Event) -> None:
        if isinstance(event, BlockStarted):
            has_begun.set()

    executor = WorkflowExecutor(InMemoryCheckpointStore(), on_event=notice)
    instrument(executor, registry=registry)
    await executor.execute_workflow(text(shell("a", "true"), shell("b", "true", "a")))
    await executor.execute_workflow(text(shell("a", "false"), shell("b", "true", "a")))
    asking = "name: asking\nblocks:\n  - {id: q, type: Prompt, inputs: {prompt: well}}\n"
    paused = await executor.execute_workflow(asking)
    assert paused.checkpoint_id is not None
    await executor.resume_workflow(paused.checkpoint_id, "yes")
    has_begun.clear()
    running = asyncio.create_task(executor.execute_workflow(text(shell("a", "sleep 60"))))
    await has_begun.wait()
    assert value("runs_in_progress") == 1
    running.cancel()
    await asyncio.wait({running})
    outcomes = {one: value("runs_total", outcome=one) for one in ("success", "failure", "paused", "cancelled")}
    assert outcomes == {"success": 2, "failure": 1, "paused": 1, "cancelled": 1}
    assert value("runs_begun_total", continued="true") == 1
    assert value("runs_begun_total", continued="false") == 4
    blocks = {one: value("blocks_total", outcome=one) for one in ("succeeded", "failed", "skipped")}
    assert blocks == {"succeeded": 3, "failed": 1, "skipped": 1}
    assert value("block_duration_seconds_count") == 3  # the answer took a human's time
    assert value("runs_in_progress") == 0


async def test_a_store_that_is_watched_twice_is_counted_once(registry: CollectorRegistry, value: Value) -> None:
    """By itself, and then through an executor; until both are told to end, and again when it is watched again."""

    async def save() -> float | None:
        await store.save_checkpoint(make_state())
        return value("checkpoint_saves_total", database="memory", status="ok")

    store = InMemoryCheckpointStore()
    first = instrument(store, registry=registry)
    second = instrument(WorkflowExecutor(store), registry=registry)
    assert await save() == 1
    first.close()
    first.close()
    assert await save() == 2
    second.close()
    assert store.observers == ()
    assert await save() == 2
    with instrument(store, registry=registry):
        assert await save() == 3


async def test_an_executor_that_is_watched_twice_is_counted_once(registry: CollectorRegistry, value: Value) -> None:
    """The same for runs."""
    executor = WorkflowExecutor(InMemoryCheckpointStore())
    flow = text(shell("a", "true"))
    with instrument(executor, registry=registry):
        with instrument(executor, registry=registry):
            await executor.execute_workflow(flow)
        await executor.execute_workflow(flow)
    await executor.execute_workflow(flow)
    assert value("runs_total", outcome="success") == 2
    with instrument(executor, registry=registry):
        await executor.execute_workflow(flow)
    assert value("runs_total", outcome="success") == 3


async def test_what_two_stores_tell_of_one_database_is_told_once(
    store: SQLAlchemyCheckpointStore, open_store: OpenStore, database: str, registry: CollectorRegistry, value: Value
) -> None:
    """What the stores have done is added up; what is in the database is there once, by whatever name it is opened."""
    other = open_store()
    for one in (store, other):
        instrument(one, registry=registry)
        await one.list_checkpoints()
    await store.save_checkpoint(make_state("c", paused_block_id="ask", pause_prompt="well?", status="paused"))
    await other.save_checkpoint(make_state("d"))
    value_of = functools.partial(asyncio.to_thread, functools.partial(value, database=database))
    assert await value_of("paused_runs") == 1
    assert await value_of("checkpoint_up") == 1
    assert await value_of("checkpoint_database_bytes") == (await store.take_pulse()).database_bytes
    assert await value_of("checkpoint_wal_bytes") == store._database.dialect.log_bytes()
    assert await value_of("checkpoint_saves_total", status="ok") == 2
    assert await value_of("checkpoint_pool_size") == 20


async def test_databases_of_one_kind_are_added_up(registry: CollectorRegistry, value: Value) -> None:
    """Two stores in memory are two, though they have the same name for people; the longest wait is the worst one's."""
    stores = InMemoryCheckpointStore(), InMemoryCheckpointStore()
    for store, created_at in zip(stores, (time.time() - 100, time.time() - 300), strict=True):
        instrument(store, registry=registry)
        state = make_state("c", created_at=created_at, paused_block_id="ask", pause_prompt="well?", status="paused")
        await store.save_checkpoint(state)
        value("paused_runs", database="memory")
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert value("paused_runs", database="memory") == 2
    assert value("oldest_pause_seconds", database="memory") == pytest.approx(300, abs=30)
    assert value("checkpoint_up", database="memory") == 1


async def test_what_is_watched_no_more_stays_counted_and_takes_no_memory(
    registry: CollectorRegistry, value: Value
) -> None:
    """Neither when it was closed nor when it was let go of; what was under way is told to its end."""
    goes_on, is_at_work, is_loading = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def notice(event: Event) -> None:
        if isinstance(event, BlockStarted):
            is_at_work.set()

    class Waiting(InMemoryCheckpointStore):
        async def load_checkpoint(self, checkpoint_id: str) -> Any:
            is_loading.set()
            await goes_on.wait()
            return await super().load_checkpoint(checkpoint_id)

    for number in range(20):
        store = InMemoryCheckpointStore()
        watching = instrument(WorkflowExecutor(store), registry=registry)
        await store.save_checkpoint(make_state())
        if number % 2:
            watching.close()
        del store, watching
    waiting = Waiting()
    executor = WorkflowExecutor(waiting, on_event=notice)
    with instrument(executor, registry=registry):
        loading = asyncio.create_task(waiting.load_checkpoint("absent"))
        running = asyncio.create_task(executor.execute_workflow(text(shell("a", "sleep 60"))))
        await asyncio.gather(is_at_work.wait(), is_loading.wait())
    assert value("runs_in_progress") == 1
    goes_on.set()
    running.cancel()
    await asyncio.wait({loading, running})
    gc.collect()
    assert value("runs_in_progress") == 0
    assert value("runs_total", outcome="cancelled") == 1
    assert value("checkpoint_operation_duration_seconds_count", database="memory", operation="load") == 1
    saves = value("checkpoint_saves_total", database="memory", status="ok")
    assert saves is not None
    assert saves >= 20
    exporter = Exporter.of(registry)
    assert exporter._stores._attached == []
    assert exporter._executors._attached == []


async def test_the_number_of_series_does_not_grow_with_names_and_ids(
    registry: CollectorRegistry, store: SQLAlchemyCheckpointStore
) -> None:
    """No label holds an id or a workflow's name; the census names fifty workflows, and the others together."""
    instrument(store, registry=registry)

    async def save(first: int, last: int) -> int:
        states = [make_state(f"c{n}", workflow_name=f"w{n}", run_id=f"r{n}") for n in range(first, last)]
        await asyncio.gather(*map(store.save_checkpoint, states))
        # Gauges of the database come when it has answered.
        return sum(len(family.samples) for family in registry.collect() if family.type != "gauge")

    assert await save(0, 5) == await save(5, 70)
    written = exposition(of_census(store.system, await store.take_census()))
    assert written.count("workflows_checkpoints{") == 51
    assert 'workflow="other"} 20.0' in written


async def test_an_observer_that_fails_harms_no_call(
    store: SQLAlchemyCheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged without what it said, which might be anything."""

    class Failing(StoreObserver):
        def began(self, operation: Operation) -> object:  # noqa: ARG002 - as the base class has it
            raise RuntimeError("canary")

        def ended(self, operation: Operation, mark: object) -> None:  # noqa: ARG002 - as above
            raise RuntimeError("canary")

        def committed(self, rows: int, payload_bytes: int, seconds: float) -> None:  # noqa: ARG002 - as above
            raise RuntimeError("canary")

    store.observe(Failing())
    await store.save_checkpoint(make_state("c"))
    assert await store.load_checkpoint("c") is not None
    assert caplog.messages.count("an observer failed: RuntimeError") == 5
    assert "canary" not in caplog.text


def test_a_pulse_needs_a_time() -> None:
    """Zero would ask the database at every look."""
    with pytest.raises(ValueError, match="pulse_seconds"):
        instrument(InMemoryCheckpointStore(), pulse_seconds=0)
