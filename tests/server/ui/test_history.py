"""The history of a run, as its page asks for it."""

import asyncio

import pytest

from tests.conftest import OpenStore
from workflows_mcp import CheckpointMetadata, InMemoryCheckpointStore
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


def numbered(count: int, place: int, *, older: bool = False) -> history.History:
    """A history of checkpoints that are called by their numbers, the newest first."""
    found = [CheckpointMetadata(str(number), "w", float(number), is_paused=False) for number in range(count, 0, -1)]
    return history.History(found, place, older=CheckpointMetadata("0", "w", 0.0, is_paused=False) if older else None)


@pytest.mark.parametrize("older", [False, True])
def test_steps_lead_to_what_there_is(older: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Back from the first one to an older stretch, if there is one; forth from the newest nowhere."""
    newest, middle, first = (numbered(3, place, older=older) for place in range(3))
    steps = [(one.previous, one.number, one.following) for one in (newest, middle, first)]
    names = [tuple(getattr(one, "checkpoint_id", one) for one in step) for step in steps]
    assert names == [("2", 3, None), ("1", 2, "3"), ("0" if older else None, 1, "2")]
    assert newest.earlier == (first.chosen.cursor if older else None)


@pytest.mark.parametrize("count", [1, 8, 9, 10, 49, 50, 51, 120, 1000])
def test_some_around_the_chosen_one_and_some_of_all_others_are_offered(count: int) -> None:
    """Each by its own number, the newest first; as many near the ends as in the middle, and never too many."""
    for place in {0, 1, count // 2, count - 1} & set(range(count)):
        shown = numbered(count, place)
        for offered in (shown.near, shown.sample):
            assert [one.checkpoint_id for _, one in offered] == [str(number) for number, _ in offered]
            assert [number for number, _ in offered] == sorted({number for number, _ in offered}, reverse=True)
        near, sample = ({number for number, _ in offered} for offered in (shown.near, shown.sample))
        assert len(near) == min(count, 9)
        assert shown.number in near
        assert shown.number not in sample
        beside = {shown.number + step for step in range(-4, 5)} & set(range(1, count + 1))
        assert sample >= ({1, count} | beside) - {shown.number}
        assert len(sample) <= 120
