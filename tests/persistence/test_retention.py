"""Retention in the background, over real stores."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.conftest import OpenStore
from tests.migrations import raw
from tests.persistence.test_writer import locked, row_lock, until
from workflows_mcp import (
    CheckpointConfig,
    CheckpointStore,
    InMemoryCheckpointStore,
    SQLAlchemyCheckpointStore,
    StoreUnavailableError,
)
from workflows_mcp.engine.policies import RetentionPolicy
from workflows_mcp.engine.retention import RetentionTask
from workflows_mcp.persistence import retention_statements
from workflows_mcp.testing import make_state

SOON = 0.01
"""An interval that a test need not wait for."""


async def until_left(store: CheckpointStore, names: set[str]) -> None:
    """Wait until exactly these checkpoints are left."""
    while {one.checkpoint_id for one in await store.list_checkpoints()} != names:  # noqa: ASYNC110 - retention is silent
        await asyncio.sleep(SOON)


async def fill(store: CheckpointStore) -> None:
    """Save what is old, what is many, and what waits."""
    for n in range(4):
        await store.save_checkpoint(make_state(f"old {n}", created_at=float(n)))
        await store.save_checkpoint(make_state(f"new {n}", created_at=time.time() + n))
    await store.save_checkpoint(make_state("waits", created_at=1.0, paused_block_id="b"))


async def test_each_round_expires_and_trims(store: SQLAlchemyCheckpointStore, caplog: pytest.LogCaptureFixture) -> None:
    """Also what is saved between two rounds. Nobody has asked for it, and so it is logged."""
    caplog.set_level(logging.INFO, "workflows_mcp")
    await fill(store)
    config = CheckpointConfig(ttl_seconds=60, max_per_workflow=2, cleanup_interval_seconds=SOON)
    async with RetentionTask(store, config):
        await until_left(store, {"new 3", "new 2", "waits"})
        await store.save_checkpoint(make_state("newer", created_at=time.time() + 10))
        await until_left(store, {"newer", "new 3", "waits"})
    told = [one.getMessage() for one in caplog.records if one.name.endswith("engine.retention")]
    assert told[0] == "retention deleted 6 checkpoints: 4 by their age, 2 by their number"


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"ttl_seconds": None, "max_per_workflow": 5}, {"new 0", "new 1", "new 2", "new 3", "old 3", "waits"}),
        ({"ttl_seconds": 60, "max_per_workflow": None}, {"new 0", "new 1", "new 2", "new 3", "waits"}),
        ({"ttl_seconds": 60, "max_per_workflow": 3, "keep_paused": False}, {"new 1", "new 2", "new 3"}),
    ],
)
async def test_a_limit_of_none_is_left_out(limits: dict[str, Any], left: set[str]) -> None:
    """And waiting ones go only when they are to."""
    store = InMemoryCheckpointStore()
    await fill(store)
    async with RetentionTask(store, CheckpointConfig(**limits, cleanup_interval_seconds=SOON)):
        await until_left(store, left)


async def test_without_auto_cleanup_nothing_is_deleted() -> None:
    """There is no task, and stopping it is fine."""
    store = InMemoryCheckpointStore()
    await fill(store)
    before = len(asyncio.all_tasks())
    async with RetentionTask(store, CheckpointConfig(auto_cleanup=False, cleanup_interval_seconds=SOON)):
        assert len(asyncio.all_tasks()) == before
        await asyncio.sleep(SOON * 3)
    assert len(await store.list_checkpoints()) == 9


async def test_the_first_round_comes_after_a_random_part_of_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once on every server that starts."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    monkeypatch.setattr("workflows_mcp.engine.retention.random.uniform", uniform)
    store = InMemoryCheckpointStore()
    await fill(store)
    async with RetentionTask(store, CheckpointConfig(cleanup_interval_seconds=3600)):
        await asyncio.sleep(SOON)
    assert drawn == [(0, 3600)]
    assert len(await store.list_checkpoints()) == 9


async def test_a_round_that_fails_is_logged_and_the_next_one_comes(
    open_store: OpenStore, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In words that say what was the matter, and show no password."""
    store = open_store(deadline_seconds=0.3)
    await fill(store)
    caplog.set_level(logging.WARNING)
    config = CheckpointConfig(ttl_seconds=60, max_per_workflow=2, cleanup_interval_seconds=SOON)
    async with raw.locked(database_url):
        retention = RetentionTask(store, config)
        retention.start()
        await until(lambda: caplog.records)
    await until_left(store, {"new 3", "new 2", "waits"})
    await retention.stop()
    message = caplog.records[0].getMessage()
    assert message.startswith("retention failed, and is tried again in 0.01 s: ")
    assert "database" in message
    assert "@" not in message
    assert caplog.records[0].exc_info is None


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_row_that_somebody_has_locked_is_left_for_the_next_round(
    open_store: OpenStore, database_url: str
) -> None:
    """All behind it goes, whatever is to go; nothing waits for it."""
    store = open_store(deadline_seconds=5.0)
    names = [f"{n:03}" for n in range(300)]
    now = time.time()
    await asyncio.gather(*(store.save_checkpoint(make_state(n, created_at=now + int(n))) for n in names))
    await asyncio.gather(*(store.save_checkpoint(make_state(f"old {n}", created_at=float(n))) for n in range(300)))
    trims, expires = (
        CheckpointConfig(ttl_seconds=None, max_per_workflow=310),
        CheckpointConfig(ttl_seconds=60, max_per_workflow=None),
    )
    kept = set(names)
    async with locked(database_url, row_lock("old 5")):
        started = time.monotonic()
        assert await RetentionTask(store, trims).run_once() == 289
        assert {one.checkpoint_id for one in await store.list_checkpoints()} == {
            "old 5",
            *kept,
            *(f"old {n}" for n in range(290, 300)),
        }
        assert await RetentionTask(store, expires).run_once() == 10
        assert time.monotonic() - started < 2
    assert await RetentionTask(store, expires).run_once() == 1
    assert {one.checkpoint_id for one in await store.list_checkpoints()} == kept


@pytest.mark.parametrize("lock", ["UPDATE", "NO KEY UPDATE"])
@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_base_of_what_somebody_has_locked_is_left_for_the_next_round(
    open_store: OpenStore, database_url: str, lock: str
) -> None:
    """It can be parted from its delta only where that is free. Nobody waits, and all else goes."""
    text = random.Random(1).randbytes(5000).hex()
    store, now = open_store(), time.time()
    for number in range(6):
        created_at = now - 1000 + number if number < 4 else now
        await store.save_checkpoint(
            make_state(f"c{number}", run_id="r", created_at=created_at, context={"text": text, "number": number})
        )
    async with locked(database_url, f"SELECT 1 FROM checkpoints WHERE checkpoint_id = 'c4' FOR {lock}"):
        began = time.monotonic()
        assert await store.cleanup_expired(500) == 3
        assert time.monotonic() - began < store._database.settings.deadline_seconds / 2
        assert {one.checkpoint_id for one in await store.list_checkpoints()} == {"c3", "c4", "c5"}
    assert await store.cleanup_expired(500) == 1
    for name in ("c4", "c5"):
        loaded = await store.load_checkpoint(name)
        assert loaded is not None
        assert loaded.context == {"text": text, "number": int(name[1:])}


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_row_that_changes_while_it_is_deleted_stays(open_store: OpenStore, database_url: str) -> None:
    """The deletion's conditions are asked of what the row is when it is locked, not of what it was."""
    store = open_store()
    await store.save_checkpoint(make_state("pinned", created_at=1.0))
    await store.save_checkpoint(make_state("free", created_at=2.0))
    remove = retention_statements.removing(store._database.dialect)
    doomed = retention_statements.expired(60.0, 60.0, keep_paused=True)
    sql, values = store._database.compiler.query(remove(doomed, (0.0, ""), (9.0, "z")))
    connection = await asyncpg.connect(database_url)
    try:
        # It has looked at the table before the change, and waits until after it, as on a busy server.
        slow = sql.replace("WHERE ", "WHERE (SELECT pg_sleep(0.2) IS NOT NULL) AND ")
        deletion = asyncio.create_task(connection.execute(slow, *values))
        await asyncio.sleep(0.1)
        await store.pin_checkpoint("pinned")
        assert await deletion == "DELETE 1"
    finally:
        await connection.close()
    assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["pinned"]


async def test_a_round_trims_though_expiring_failed() -> None:
    """And fails with the first error."""

    class Broken(InMemoryCheckpointStore):
        async def cleanup_expired(self, max_age_seconds: float, *, keep_paused: bool = True) -> int:  # type: ignore[override] # noqa: ARG002 - as before there were policies
            raise StoreUnavailableError("for a while")

    store = Broken()
    await fill(store)
    with pytest.raises(StoreUnavailableError, match="for a while"):
        await RetentionTask(store, CheckpointConfig(ttl_seconds=60, max_per_workflow=2)).run_once()
    assert {one.checkpoint_id for one in await store.list_checkpoints()} == {"new 3", "new 2", "waits"}


async def test_each_policy_goes_for_its_workflow_and_the_general_limits_for_the_others(
    store: SQLAlchemyCheckpointStore,
) -> None:
    """What a policy does not say is as for all; what is None in it has no limit."""
    now = time.time()
    for workflow in ("audit", "nightly", "other"):
        for n in range(4):
            await store.save_checkpoint(make_state(f"{workflow} old {n}", workflow_name=workflow, created_at=float(n)))
            state = make_state(f"{workflow} new {n}", workflow_name=workflow, created_at=now + n)
            await store.save_checkpoint(state)
    policies = {
        "audit": RetentionPolicy(ttl_seconds=None, max_per_workflow=None),
        "nightly": RetentionPolicy(max_per_workflow=1),
    }
    retention = RetentionTask(store, CheckpointConfig(ttl_seconds=60, max_per_workflow=3, policies=policies))
    assert await retention.run_once() == 4 + 3 + 4 + 1
    kept = sorted([one.checkpoint_id for one in await store.list_checkpoints()])
    audit = [f"audit {age} {n}" for age in ("new", "old") for n in range(4)]
    assert kept == [*audit, "nightly new 3", "other new 1", "other new 2", "other new 3"]


async def test_a_store_that_knows_no_policies_serves_where_there_are_none() -> None:
    """As all did that were written before."""

    class Earlier(InMemoryCheckpointStore):
        async def cleanup_expired(self, max_age_seconds: float, *, keep_paused: bool = True) -> int:  # type: ignore[override] # that is the point
            return await super().cleanup_expired(max_age_seconds, keep_paused=keep_paused)

        async def trim_per_workflow(self, max_per_workflow: int, *, keep_paused: bool = True) -> int:  # type: ignore[override] # that is the point
            return await super().trim_per_workflow(max_per_workflow, keep_paused=keep_paused)

    store = Earlier()
    await fill(store)
    assert await RetentionTask(store, CheckpointConfig(ttl_seconds=60, max_per_workflow=2)).run_once() == 6


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: RetentionPolicy(max_per_workflow=0), "max_per_workflow"),
        (lambda: RetentionPolicy(ttl_seconds=-1), "ttl_seconds"),
        (lambda: RetentionPolicy(ttl_seconds=True), "ttl_seconds"),
        (lambda: RetentionPolicy(keep_paused=None), "keep_paused"),  # type: ignore[arg-type] # that is the point
        (lambda: CheckpointConfig(policies={"": RetentionPolicy()}), "the name of a workflow"),
        (lambda: CheckpointConfig(policies={"w": {}}), "must be a RetentionPolicy"),  # type: ignore[dict-item] # that is the point
        (lambda: CheckpointConfig(policies=[]), "policies"),  # type: ignore[arg-type] # that is the point
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(make: Callable[[], object], problem: str) -> None:
    """When it is made."""
    with pytest.raises(ValueError, match=problem):
        make()


async def test_a_foreign_stores_error_is_logged_by_its_type(caplog: pytest.LogCaptureFixture) -> None:
    """Its text may show anything."""

    class Broken(InMemoryCheckpointStore):
        async def cleanup_expired(self, max_age_seconds: float, *, keep_paused: bool = True) -> int:  # type: ignore[override] # noqa: ARG002 - as before there were policies
            raise RuntimeError("s3cret")

    async with RetentionTask(Broken(), CheckpointConfig(cleanup_interval_seconds=SOON)):
        await until(lambda: len(caplog.records) >= 2)
    assert "RuntimeError" in caplog.text
    assert "s3cret" not in caplog.text


async def test_stopping_in_the_middle_of_a_round_is_prompt(open_store: OpenStore, database_url: str) -> None:
    """Whatever the database is doing; the store goes on."""
    store = open_store()
    await fill(store)
    retention = RetentionTask(store, CheckpointConfig(ttl_seconds=60, cleanup_interval_seconds=SOON))
    async with raw.locked(database_url):
        retention.start()
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        await retention.stop()
        await retention.stop()
        assert time.perf_counter() - started < 0.5
    await store.save_checkpoint(make_state("after"))
    assert await store.load_checkpoint("after") is not None


async def test_many_servers_at_once_are_harmless(open_store: OpenStore) -> None:
    """Together they delete what one would have."""
    stores = [open_store() for _ in range(3)]
    await asyncio.gather(*(stores[0].save_checkpoint(make_state(f"{n:03}", created_at=float(n))) for n in range(400)))
    config = CheckpointConfig(ttl_seconds=None, max_per_workflow=50)
    deleted = await asyncio.gather(*(RetentionTask(store, config).run_once() for store in stores))
    assert sum(deleted) == 350
    assert [one.checkpoint_id for one in await stores[0].list_checkpoints()] == [f"{n:03}" for n in range(399, 349, -1)]
