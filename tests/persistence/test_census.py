"""What the database counts is what there is."""

import time

import pytest

from tests.conftest import OpenStore
from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.engine.census import count_census
from workflows_mcp.testing import make_state


async def _fill(store: SQLAlchemyCheckpointStore) -> None:
    now = time.time()
    asking = {"paused_block_id": "ask", "pause_prompt": "well?", "status": "paused"}
    await store.save_checkpoint(make_state("a", workflow_name="w", created_at=now - 9e4, context={"x": "y" * 9000}))
    await store.save_checkpoint(make_state("b", workflow_name="w", created_at=now - 7200, status="failed"))
    await store.save_checkpoint(make_state("c", workflow_name="w", created_at=now - 50, **asking))
    await store.save_checkpoint(make_state("d", workflow_name="é", created_at=now - 40, **asking))
    await store.save_checkpoint(make_state("e", workflow_name="v", status="running"), owner="o", lease_seconds=60)
    await store.save_checkpoint(make_state("f", workflow_name="v", status="running"), owner="o", lease_seconds=1e-3)
    await store.save_checkpoint(make_state("h", workflow_name="v", status="running"), owner="o", lease_seconds=60)
    await store.save_checkpoint(make_state("g", workflow_name="v", status="completed"), follows="a")
    await store.pin_checkpoint("b")


async def test_a_census_by_the_database_is_one_by_hand(store: SQLAlchemyCheckpointStore) -> None:
    """By workflow, by status, by age, and what waits; with the sizes that a listing shows."""
    await _fill(store)
    census = await store.take_census()
    assert census == count_census(await store.list_checkpoints(), census.pulse.database_bytes)
    assert (census.checkpoints, census.heads, census.pinned) == (8, 7, 1)
    assert census.statuses == {"running": 4, "paused": 2, "completed": 1, "failed": 1, "cancelled": 0}
    assert sum(census.head_statuses.values()) == census.heads
    assert (census.head_statuses["paused"], census.head_statuses["completed"]) == (2, 1)
    assert (census.last_hour, census.last_day) == (6, 7)
    assert {name: one.checkpoints for name, one in census.workflows.items()} == {"v": 4, "w": 3, "é": 1}
    assert census.workflows["w"].waiting == 1
    assert (census.pulse.waiting, census.pulse.leased, census.pulse.abandoned) == (2, 2, 1)
    assert census.pulse.oldest_waiting is not None
    assert 49 < time.time() - census.pulse.oldest_waiting < 60
    assert census.pulse == await store.take_pulse()
    assert census.full_bytes > 9000 > census.stored_bytes
    assert census.pulse.database_bytes == (await store.get_stats()).database_bytes


async def test_an_empty_store_has_an_empty_census(store: SQLAlchemyCheckpointStore) -> None:
    """Zeros, and no times."""
    census = await store.take_census()
    assert (census.checkpoints, census.oldest, census.newest, census.workflows) == (0, None, None, {})
    assert set(census.statuses.values()) == {0}
    assert (census.pulse.waiting, census.pulse.oldest_waiting) == (0, None)


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_pulse_does_not_walk_the_table(store: SQLAlchemyCheckpointStore) -> None:
    """It goes by two small indexes, so that it is quick however much is stored."""
    from workflows_mcp.persistence.census import _PULSE

    sql = str(_PULSE.compile(dialect=store._database.engine.dialect))
    async with store._database.engine.connect() as connection:
        plan = [row.detail for row in (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")).all()]
    steps = [step for step in plan if "checkpoints" in step]
    assert len(steps) == 4
    assert all("USING INDEX ix_checkpoints_waiting" in one or "INDEX ix_checkpoints_leases" in one for one in steps)


async def test_a_row_that_no_store_has_written_spoils_no_census(open_store: OpenStore, database: str) -> None:
    """A SQLite file may hold anything in any column."""
    store = open_store()
    await store.save_checkpoint(make_state("a"))
    await store.save_checkpoint(make_state("b", created_at=5.0, status="failed"))
    odd = "'soon'" if database == "sqlite" else "'NaN'"
    async with store._database.engine.connect() as connection:
        await connection.exec_driver_sql(f"UPDATE checkpoints SET created_at = {odd} WHERE checkpoint_id = 'a'")
    census = await store.take_census()
    assert census.checkpoints == 2
    assert (census.oldest, census.newest, census.workflows["workflow"].newest) == (5.0, 5.0, 5.0)
