"""What a checkpoint is stored as a delta of can be seen, and is counted."""

import pytest

from tests.persistence.chained import run_of, save_run
from workflows_mcp import InMemoryCheckpointStore, SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.engine.census import count_census
from workflows_mcp.errors import StoreConfigurationError
from workflows_mcp.persistence.keys import new_key
from workflows_mcp.settings import load_settings
from workflows_mcp.testing import make_state


async def test_bases_are_listed_from_the_nearest_to_one_that_is_whole(store: SQLAlchemyCheckpointStore) -> None:
    """They are levels, as a skip list has: number 19 is a delta of 18, 17, 16, 8 and the first."""
    await save_run(store, run_of(20, text_bytes=20_000))
    bases = await store.list_bases("run-019")
    assert [one.checkpoint_id for one in bases] == ["run-018", "run-017", "run-016", "run-008", "run-000"]
    assert [one.is_delta for one in bases] == [True, True, True, True, False]
    listed = {one.checkpoint_id: one for one in await store.list_checkpoints()}
    assert bases == [listed[one.checkpoint_id] for one in bases]
    assert all(one.stored_bytes < one.full_bytes / 50 for one in listed.values() if one.is_delta)


async def test_what_is_sealed_shows_its_bases_without_a_key(
    database_url: str, store: SQLAlchemyCheckpointStore
) -> None:
    """They are ids and sizes, which a listing shows as well."""
    settings = load_settings(encryption_keys=new_key().entry)
    async with SQLAlchemyCheckpointStore(database_url, settings=settings) as sealing:
        await save_run(sealing, run_of(3))
    assert [one.checkpoint_id for one in await store.list_bases("run-002")] == ["run-001", "run-000"]
    assert (await store.take_census()).deltas == 2


async def test_deltas_are_counted(store: SQLAlchemyCheckpointStore) -> None:
    """By the database, and alike by whoever goes by a listing."""
    await save_run(store, run_of(4))
    await store.save_checkpoint(make_state("alone"))
    census = await store.take_census()
    assert census.deltas == 3
    assert census == count_census(await store.list_checkpoints(), census.pulse.database_bytes)


async def test_what_is_whole_has_no_bases(store: SQLAlchemyCheckpointStore) -> None:
    """Nor has what is not there; what can be no id is refused."""
    await save_run(store, run_of(1))
    assert await store.list_bases("run-000") == []
    assert await store.list_bases("nothing") == []
    with pytest.raises(ValueError, match="512 bytes"):
        await store.list_bases("")


async def test_a_store_without_deltas_says_so() -> None:
    """All that is in memory is whole."""
    store = InMemoryCheckpointStore()
    await save_run(store, run_of(2))
    assert await store.list_bases("run-001") == []
    assert (await store.take_census()).deltas == 0
    with pytest.raises(ValueError, match="512 bytes"):
        await store.list_bases("")


@pytest.mark.parametrize(("size", "deltas"), [("0", 0), ("0.001", 0), ("1", 1)])
async def test_the_setting_says_how_much_is_kept_to_make_deltas_of(
    monkeypatch: pytest.MonkeyPatch, database_url: str, size: str, deltas: int
) -> None:
    """Without, or where no state fits, all are whole."""
    monkeypatch.setenv("WORKFLOWS_DELTA_CACHE_MB", size)
    await upgrade_schema(database_url)
    async with SQLAlchemyCheckpointStore(database_url, settings=load_settings()) as store:
        await save_run(store, run_of(2))
        assert sum(one.is_delta for one in await store.list_checkpoints()) == deltas


@pytest.mark.parametrize("size", ["-1", "much", "nan", "inf"])
def test_a_size_that_makes_no_sense_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    """Before anything is opened."""
    monkeypatch.setenv("WORKFLOWS_DELTA_CACHE_MB", size)
    with pytest.raises(StoreConfigurationError, match="WORKFLOWS_DELTA_CACHE_MB"):
        load_settings()
