"""Histories that move: equal where they arrive, and stored there as deltas, too."""

from pathlib import Path

import pytest

from tests.conftest import OpenStore
from tests.migrations import raw
from tests.persistence.chained import bases_of, broken_of, run_of, save_run
from workflows_mcp import (
    CheckpointConflictError,
    CheckpointDecodeError,
    InMemoryCheckpointStore,
    copy_checkpoints,
    export_checkpoints,
    import_checkpoints,
)
from workflows_mcp.persistence.keys import new_key

KEY = new_key("k")


async def test_a_history_that_is_copied_takes_up_little_there(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever batches it comes; retention that keeps the newest finds these whole or next to it."""
    monkeypatch.setattr("workflows_mcp.persistence.batches._BYTES", 100_000)
    states = run_of(60)
    memory = InMemoryCheckpointStore()
    await save_run(memory, states)
    store = open_store(encryption_keys=KEY.entry)
    assert await copy_checkpoints(memory, store) == 60
    assert await broken_of(open_store(encryption_keys=KEY.entry), states) == {}
    bases = await bases_of(database_url)
    assert len(bases) > 50
    assert all(base > name for name, base in bases.items()), "older ones are deltas of newer ones"
    stats = await store.get_stats()
    assert stats.stored_bytes < stats.full_bytes / 10
    # Once more: nothing is written, and what differs is refused, or replaced by what is whole.
    assert await copy_checkpoints(memory, store) == 60
    other, changed = InMemoryCheckpointStore(), run_of(60, text_bytes=7_000)[20:22]
    await save_run(other, changed)
    with pytest.raises(CheckpointConflictError):
        await copy_checkpoints(other, store)
    assert await copy_checkpoints(other, store, on_conflict="replace") == 2
    now = [*states[:20], *changed, *states[22:]]
    assert await broken_of(open_store(encryption_keys=KEY.entry), now) == {}
    assert await store.trim_per_workflow(5) == 55
    assert await broken_of(store, now[-5:]) == {}


@pytest.mark.parametrize("database", ["sqlite"])
async def test_an_export_of_deltas_is_that_of_whole_states(open_store: OpenStore, database_url: str) -> None:
    """Line by line, also of some of them; without a cache nothing is imported as a delta."""
    states = run_of(12)
    store = open_store()
    await save_run(store, states)
    memory = InMemoryCheckpointStore()
    await save_run(memory, states)
    lines = []
    for one in (store, memory):
        file = Path(f"{database_url}.{type(one).__name__}")
        assert await export_checkpoints(one, file, created_after=1_003.0) == 9
        lines.append(file.read_text().splitlines()[1:])
    assert lines[0] == lines[1]
    assert await store.delete_run("run") == 12
    assert await import_checkpoints(open_store(delta_cache_mb=0), file) == 9
    assert await bases_of(database_url) == {}
    assert await broken_of(store, states[3:]) == {}


@pytest.mark.parametrize("database", ["sqlite"])
async def test_what_a_newer_version_has_saved_is_made_whole_as_it_is(open_store: OpenStore, database_url: str) -> None:
    """This version cannot load it, and yet must not lose it when what it is a delta of goes."""
    states = run_of(4)
    store = open_store()
    await save_run(store, states)
    await store.close()
    newer = open_store()
    [before] = await raw.fetch(database_url, "SELECT full_bytes FROM checkpoints WHERE checkpoint_id = 'run-003'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workflows_mcp.engine.state_json.STATE_SCHEMA_VERSION", 0)
        with pytest.raises(CheckpointDecodeError, match="upgrade workflows-mcp"):
            await newer.load_checkpoint("run-003")
        assert await newer.trim_per_workflow(1) == 3
    assert await bases_of(database_url) == {}
    [after] = await raw.fetch(database_url, "SELECT full_bytes FROM checkpoints")
    assert after == before
    assert await broken_of(open_store(), states[3:]) == {}
