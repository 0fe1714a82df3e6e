"""No deletion takes away what others need that cannot be stored without it, since something is damaged."""

import dataclasses
import logging
from pathlib import Path

import pytest

from tests.conftest import OpenStore
from tests.migrations import raw
from tests.persistence.chained import bases_of, broken_of, needs, run_of, save_run
from tests.persistence.examined import examined, problems
from workflows_mcp import (
    CheckpointDecodeError,
    CheckpointState,
    CheckpointStoreError,
    StoreUnavailableError,
    export_checkpoints,
    import_checkpoints,
)
from workflows_mcp.persistence.store import SQLAlchemyCheckpointStore

LINK = "run-003"


@pytest.fixture
async def states(open_store: OpenStore, database_url: str, tmp_path: Path) -> list[CheckpointState]:
    """Twelve of a run, exported, of which one is damaged that four others need."""
    states = run_of(12)
    store = open_store()
    await save_run(store, states)
    await export_checkpoints(store, tmp_path / "good.jsonl")
    await _damage(database_url)
    assert needs(await bases_of(database_url), LINK) == {f"run-00{number}" for number in (3, 4, 5, 6, 7)}
    return states


async def _damage(url: str) -> None:
    value = r"'\x00112233'::bytea" if raw.is_postgres(url) else "x'00112233'"
    await raw.execute(url, f"UPDATE checkpoints SET payload = {value} WHERE checkpoint_id = '{LINK}'")


async def test_a_deletion_says_who_needs_what_is_damaged(
    open_store: OpenStore, database_url: str, states: list[CheckpointState], tmp_path: Path
) -> None:
    """And does nothing, so that a good copy of it mends all the others."""
    store = open_store()
    bases = await bases_of(database_url)
    for name, count in ((LINK, 4), ("run-004", 3)):
        with pytest.raises(
            CheckpointDecodeError, match=f"{name}' was not deleted: {count} checkpoints need it"
        ) as told:
            await store.delete_checkpoint(name)
        assert told.value.link == LINK
        assert "'run-003' is damaged: its checksum does not match; put 'run-003' back (" in str(told.value)
    with pytest.raises(CheckpointDecodeError, match="checkpoint 'run-007' needs it, and could never"):
        await store.delete_checkpoint("run-006")
    assert await bases_of(database_url) == bases
    assert await store.count_needing(LINK) == 4
    assert await store.count_needing("run-011") == await store.count_needing("nothing") == 0
    await import_checkpoints(store, tmp_path / "good.jsonl", on_conflict="replace")
    assert await broken_of(open_store(), states) == {}
    assert await store.delete_checkpoint(LINK)
    assert await broken_of(open_store(), [one for one in states if one.checkpoint_id != LINK]) == {}


async def test_what_needs_it_can_be_deleted_first(
    open_store: OpenStore, database_url: str, states: list[CheckpointState]
) -> None:
    """From the newest on; what it needs itself may go before it."""
    store = open_store()
    assert await store.delete_checkpoint("run-002")
    for number in (7, 6, 5, 4, 3):
        assert await store.delete_checkpoint(f"run-00{number}")
    rest = [states[number] for number in (0, 1, 8, 9, 10, 11)]
    assert await broken_of(store, rest) == {}
    assert problems(await examined(database_url, deep=True)) == set()


async def test_a_run_goes_as_a_whole(open_store: OpenStore, states: list[CheckpointState]) -> None:
    """Whatever of it is damaged."""
    assert await open_store().delete_run("run") == len(states)


async def test_retention_leaves_it_as_long_as_something_needs_it(
    open_store: OpenStore, states: list[CheckpointState], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """All else goes, and one line tells of it. When what needs it is to go, too, it does."""
    store = open_store()
    with caplog.at_level(logging.WARNING, "workflows_mcp"):
        assert await store.trim_per_workflow(6) == 3
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("3 checkpoints were left that retention would delete, since others need them")
    assert "'run-005' is the first, because 'run-003' is damaged: its checksum does not match. Put that one" in line
    left = [states[number] for number in (3, 4, 5, 6, 7, 8, 9, 10, 11)]
    assert (await broken_of(store, left)).keys() == {f"run-00{number}" for number in (3, 4, 5, 6, 7)}
    await import_checkpoints(store, tmp_path / "good.jsonl", on_conflict="replace")
    assert await broken_of(open_store(), states) == {}


async def test_retention_takes_it_with_what_needs_it(
    open_store: OpenStore, states: list[CheckpointState], caplog: pytest.LogCaptureFixture
) -> None:
    """In whatever batches."""
    with caplog.at_level(logging.WARNING, "workflows_mcp"):
        assert await open_store().trim_per_workflow(4) == len(states) - 4
    assert not caplog.records


async def test_another_state_in_its_place_lets_them_go(
    store: SQLAlchemyCheckpointStore, database_url: str, states: list[CheckpointState]
) -> None:
    """It replaces what they need. That they are deltas of nothing is found by whoever looks."""
    await store.save_checkpoint(dataclasses.replace(states[3], context={"n": 1}))
    assert (await bases_of(database_url)).get("run-004") is None
    found = await examined(database_url)
    assert "of 10 checkpoints that are stored as deltas, 1 lack" in found["deltas"].found


async def test_what_a_table_of_somebody_elses_refers_to_is_left(open_store: OpenStore, database_url: str) -> None:
    """The error names the table; retention deletes all else, and stores whole what stays, as ever."""
    states = run_of(12)
    store = open_store()
    await save_run(store, states)
    await raw.execute(
        database_url,
        "CREATE TABLE notes (checkpoint_id varchar(512) REFERENCES checkpoints (checkpoint_id))",
        "INSERT INTO notes VALUES ('run-003'), ('run-008')",
    )
    told = "rows of its table 'notes' refer to it"
    for name in ("run-003", "run-008"):
        with pytest.raises(CheckpointStoreError, match=told) as caught:
            await store.delete_checkpoint(name)
        assert not isinstance(caught.value, StoreUnavailableError), "trying again is no use"
    assert await store.delete_checkpoint("run-010")
    with pytest.raises(CheckpointStoreError, match=f"but 2 checkpoints were left: .*{told}"):
        await store.trim_per_workflow(2)
    assert await broken_of(open_store(), [states[number] for number in (3, 8, 9, 11)]) == {}
    with pytest.raises(CheckpointStoreError, match=told):
        await store.delete_run("run")
    await raw.execute(database_url, "DELETE FROM notes")
    assert await store.delete_run("run") >= 2
    assert await store.list_checkpoints() == []
