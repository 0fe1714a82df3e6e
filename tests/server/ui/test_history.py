"""The history of a run, as its page asks for it."""

import asyncio

import pytest

from tests.conftest import OpenStore
from workflows_mcp import InMemoryCheckpointStore
from workflows_mcp.server.ui import history
from workflows_mcp.testing import make_state


@pytest.mark.parametrize("many", [4, 5, 6, 7, 11])
async def test_a_history_that_is_asked_for_in_parts_is_one(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    """Whatever stands at the end of a part."""
    monkeypatch.setattr(history, "MOST_IN_HISTORY", 6)
    monkeypatch.setattr(history, "_AT_ONCE", 3)
    store = InMemoryCheckpointStore()
    for number in range(many):
        await store.save_checkpoint(make_state(f"c{number:02}", created_at=float(number), run_id="r"))
        await store.save_checkpoint(make_state(f"d{number:02}", created_at=float(number), run_id="s"))
    found = await history.find_history(store, "r")
    ids = [f"c{number:02}" for number in reversed(range(many))]
    assert found is not None
    assert [one.checkpoint_id for one in found.found] == ids[:6]
    assert (None if found.older is None else found.older.checkpoint_id) == (ids[6] if many > 6 else None)
    assert await history.find_history(store, "nobody") is None


async def test_a_run_is_looked_at_while_searches_take_long(open_store: OpenStore) -> None:
    """Nothing of its history waits for a connection of the pool."""
    store = open_store(pool_size=1, deadline_seconds=10)
    await store.save_checkpoint(make_state("a", run_id="r"))
    assert await store.load_checkpoint("a") is not None  # the connection that is held for reading comes from the pool
    async with store._database.engine.connect():
        searching = asyncio.create_task(store.list_checkpoints(id_contains="r", limit=1))
        found = await history.find_history(store, "r")
        assert not searching.done()
    assert found is not None
    assert [one.checkpoint_id for one in await searching] == ["a"]
