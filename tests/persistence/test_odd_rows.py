"""Rows that no store has written: each is its own trouble and nobody else's."""

import asyncio
import contextlib
import json
import logging
import sqlite3
from typing import Any

import pytest

from tests.conftest import OpenStore
from tests.persistence.chained import run_of, save_run
from workflows_mcp import CheckpointDecodeError, CheckpointMetadata, SQLAlchemyCheckpointStore
from workflows_mcp.engine.filters import position_before, position_of
from workflows_mcp.testing import make_state

FIELDS = ("runtime_inputs", "context", "completed_blocks", "execution_waves", "block_definitions", "workflow_stack")


async def put(store: SQLAlchemyCheckpointStore, url: str, checkpoint_id: str, change: str, *values: object) -> None:
    """Save a checkpoint, and change its row behind the store's back."""
    await store.save_checkpoint(make_state(checkpoint_id, created_at=1.0))
    with contextlib.closing(sqlite3.connect(url)) as file:
        file.execute(f"UPDATE checkpoints SET {change} WHERE checkpoint_id = ?", (*values, checkpoint_id))
        file.commit()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_adopted_json_of_a_whole_second_can_be_claimed(
    store: SQLAlchemyCheckpointStore, database_url: str
) -> None:
    """SQLite's RETURNING gives its time as an integer."""
    plain = json.dumps({name: [] if name.endswith(("s", "k")) else {} for name in FIELDS} | {"current_wave_index": 0})
    plain = plain.replace('"runtime_inputs": []', '"runtime_inputs": {}').replace(
        '"block_definitions": []', '"block_definitions": {}'
    )
    await put(store, database_url, "a", "encoding = 'guide-json', payload = ?", plain.encode())
    state = await store.claim_checkpoint("a", "owner")
    assert type(state.created_at) is float


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_payload_that_is_no_bytes_spoils_no_load_beside_it(
    store: SQLAlchemyCheckpointStore, database_url: str
) -> None:
    """They share a trip."""
    states = [make_state(f"{n}") for n in range(100)]
    await asyncio.gather(*(store.save_checkpoint(state) for state in states))
    await put(store, database_url, "7", "payload = 5")
    loaded = await asyncio.gather(*(store.load_checkpoint(f"{n}") for n in range(100)), return_exceptions=True)
    assert isinstance(loaded.pop(7), CheckpointDecodeError)
    assert loaded == [state for state in states if state.checkpoint_id != "7"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_what_is_no_text_in_an_id_hides_no_other_one(store: SQLAlchemyCheckpointStore, database_url: str) -> None:
    """Text is looked for in whatever is there, and a series counts what has a time."""
    await put(store, database_url, "a", "run_id = x'ff00fe'")
    await put(store, database_url, "b", "checkpoint_id = x'6e6f206e65656464ff'")
    await put(store, database_url, "c", "created_at = 'soon', run_id = CAST(x'6e656564ff' AS TEXT)")
    await put(store, database_url, "d", "run_id = 5.5, full_bytes = 'many', stored_bytes = 1e400")
    await store.save_checkpoint(make_state("needle", created_at=1.0))
    assert len(await store.list_checkpoints(id_contains="need")) == 3
    assert [one.checkpoint_id for one in await store.list_checkpoints(id_contains="needle")] == ["needle"]
    assert [one.checkpoint_id for one in await store.list_checkpoints(id_contains="5.5")] == ["d"]
    assert [one.checkpoints for one in await store.take_series(0, 3, 3)] == [0, 4, 0]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_ids_that_are_no_text_are_paged_over_and_told_of(
    store: SQLAlchemyCheckpointStore, database_url: str
) -> None:
    """Every row comes once, whatever the size of a page, and retention takes what it can."""
    for checkpoint_id in "abcdefgh":
        await store.save_checkpoint(make_state(checkpoint_id, created_at=1.0))
    await put(store, database_url, "x", "checkpoint_id = CAST(X'63FF80' AS TEXT)")
    await put(store, database_url, "y", "checkpoint_id = X'FF'")
    await put(store, database_url, "z", "checkpoint_id = ?", "c\0d")
    for size in (1, 3):
        found: list[CheckpointMetadata] = []
        while page := await store.list_checkpoints(limit=size, before=found[-1] if found else None):
            found += page
            assert len(found) <= 11
        assert len({one.checkpoint_id for one in found}) == 11
    damaged: list[object] = []
    good = [
        one async for one in store.iter_checkpoints(on_damaged=lambda known, _: damaged.append(known.checkpoint_id))
    ]
    assert [one.checkpoint_id for one in good] == list("hgfedcba")
    assert damaged == [b"\xff", "c\udcff\udc80", "c\0d"]
    await store.cleanup_expired(0)
    left: list[object] = [one.checkpoint_id for one in await store.list_checkpoints()]
    assert [one for one in left if isinstance(one, str)] == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_workflows_whose_names_are_no_text_do_not_stop_a_trim(open_store: OpenStore, database_url: str) -> None:
    """Those behind them in the order are trimmed, too."""
    store = open_store()
    for checkpoint_id in "ab":
        await store.save_checkpoint(make_state(checkpoint_id, workflow_name="ü", created_at=ord(checkpoint_id)))
    for checkpoint_id, name in {"x": "CAST(X'80' AS TEXT)", "y": "CAST(X'FF' AS TEXT)", "z": "X'00'"}.items():
        await put(store, database_url, checkpoint_id, f"workflow_name = {name}")
    assert await store.trim_per_workflow(1) == 1
    assert (await store.get_stats()).workflows == dict.fromkeys(["b'\\x00'", "\udc80", "\udcff", "ü"], 1)


@pytest.mark.parametrize("checkpoint_id", ["a", "c\udcff", "c\0d", b"\xff", "\0", ""])
@pytest.mark.parametrize("created_at", [1.0, float("inf"), float("nan"), "now", b"x"])
def test_a_cursor_leads_behind_its_row(checkpoint_id: Any, created_at: Any) -> None:
    """As text, also where no text can say where that is: never to the same row once more."""
    metadata = CheckpointMetadata(checkpoint_id, "workflow", created_at, is_paused=False)
    place = position_before(metadata.cursor)
    assert place is not None
    if isinstance(checkpoint_id, str) and created_at == 1.0:
        assert place <= position_of(metadata)


async def test_sqlalchemys_log_tells_no_row(store: SQLAlchemyCheckpointStore, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG it tells all that it fetches, parameters hidden or not."""
    caplog.set_level(logging.DEBUG, logger="sqlalchemy.engine")
    # An engine asks for its level when it is made; this one was made before.
    store._database.engine.sync_engine._should_log_debug = lambda: True  # type: ignore[method-assign]
    await store.save_checkpoint(make_state(context={"a": "canary"}, paused_block_id="b", pause_prompt="canary"))
    await store.list_checkpoints()
    assert [one async for one in store.iter_checkpoints()]
    assert "checkpoints.pause_prompt" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_delta_with_an_odd_id_and_no_base_is_told_of(open_store: OpenStore, database_url: str) -> None:
    """It cannot be looked for by its id, and is not passed over for that."""
    await save_run(open_store(), run_of(2))
    with contextlib.closing(sqlite3.connect(database_url)) as file:
        file.execute("UPDATE checkpoints SET checkpoint_id = x'ff' WHERE base_checkpoint_id = 'run-000'")
        file.execute("DELETE FROM checkpoints WHERE checkpoint_id = 'run-000'")
        file.commit()
    unreadable = dict[str, Any]()
    assert [one async for one in open_store().iter_stored(on_unreadable=unreadable.__setitem__)] == []
    assert [(name, error.link) for name, error in unreadable.items()] == [("b'\\xff'", "run-000")]
