"""Histories that move: equal where they arrive, and stored there as deltas, too."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import OpenStore
from tests.migrations import raw
from tests.persistence.chained import bases_of, broken_of, run_of, save_run
from workflows_mcp import (
    CheckpointConflictError,
    CheckpointDecodeError,
    CheckpointState,
    CheckpointStatus,
    InMemoryCheckpointStore,
    copy_checkpoints,
    export_checkpoints,
    import_checkpoints,
)
from workflows_mcp.engine.stored import StoredCheckpoint
from workflows_mcp.persistence.keys import new_key

KEY = new_key("k")


async def memory_of(states: Sequence[CheckpointState]) -> InMemoryCheckpointStore:
    """A store in memory that has some states."""
    memory = InMemoryCheckpointStore()
    await save_run(memory, states)
    return memory


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


def is_without_circles(bases: dict[str, str]) -> bool:
    """Whether every chain ends."""
    while ends := [name for name, base in bases.items() if base not in bases]:
        for name in ends:
            del bases[name]
    return not bases


@pytest.mark.parametrize("kind", ["import", "copy"])
async def test_what_was_deleted_is_imported_again_by_the_same_store(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """What the store knows of the first time is gone, and nothing of it is a base; nor is any of it kept in memory."""
    monkeypatch.setattr("workflows_mcp.persistence.batches._BYTES", 30_000)
    states = run_of(10)
    memory = await memory_of(states)
    await export_checkpoints(memory, tmp_path / "export")
    store = open_store()
    for _ in range(2):
        done = import_checkpoints(store, tmp_path / "export") if kind == "import" else copy_checkpoints(memory, store)
        assert await done == 10
        assert store._storing._arrivals.kept_bytes == 0
        bases = await bases_of(database_url)
        assert len(bases) == 9
        assert is_without_circles(bases)
        assert await broken_of(open_store(), states) == {}
        assert await store.delete_run("run") == 10


async def test_batches_in_any_order_make_no_circles(open_store: OpenStore, database_url: str) -> None:
    """Whatever was deleted before, and whoever imports the same at the same time."""
    states = run_of(8)
    order, first, second = random.Random(5), open_store(), open_store()
    for _ in range(2):
        order.shuffle(states)
        batch = [StoredCheckpoint(one) for one in states]
        await asyncio.gather(first.write_stored(batch), first.write_stored(batch[::-1]), second.write_stored(batch))
        assert is_without_circles(await bases_of(database_url))
        for one in states[: order.choice((4, 8))]:
            await second.delete_checkpoint(one.checkpoint_id)
        for part in (batch[:4], batch[4:]):
            await first.write_stored(part)
        assert is_without_circles(await bases_of(database_url))
        assert await broken_of(open_store(), sorted(states, key=lambda one: one.created_at)) == {}
        assert await first.delete_run("run") == 8


async def test_a_base_is_never_what_comes_later_in_a_batch(open_store: OpenStore, database_url: str) -> None:
    """Also where a batch goes on from the one before, as far as its order tells."""
    states = run_of(8)
    store = open_store()
    newest, *others = [StoredCheckpoint(one) for one in states[::-1]]
    await store.write_stored([newest, *others[:3]])
    for state in states:
        await store.delete_checkpoint(state.checkpoint_id)
    await store.write_stored([*others[3:], *others[:3], newest])
    assert is_without_circles(await bases_of(database_url))
    assert await broken_of(open_store(), states) == {}


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_run_that_is_over_arrives_with_one_whole_state(open_store: OpenStore, database_url: str) -> None:
    """Its last one, which comes first."""
    *states, last = run_of(6)
    states.append(replace(last, status=CheckpointStatus.COMPLETED))
    assert await copy_checkpoints(await memory_of(states), open_store()) == 6
    assert len(await bases_of(database_url)) == 5
    assert await broken_of(open_store(), states) == {}


@pytest.mark.parametrize("database", ["sqlite"])
async def test_an_import_that_begins_anew_knows_nothing_of_the_one_before(
    open_store: OpenStore, database_url: str
) -> None:
    """What that one has written may be gone, and a batch whose base is gone is stored whole."""
    states = run_of(8)
    store = open_store()
    batch = [StoredCheckpoint(one) for one in states[::-1]]
    await store.write_stored(batch[:4])
    assert await store.delete_run("run") == 4
    await store.write_stored(batch[:2])
    assert await bases_of(database_url) == {"run-006": "run-007"}
