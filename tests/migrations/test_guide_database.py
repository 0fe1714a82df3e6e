"""A database that was made by following the guide is taken over with all that it holds, and given back."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import OpenStore
from tests.migrations import raw
from workflows_mcp import (
    CheckpointDecodeError,
    CheckpointStoreError,
    SchemaOutOfDateError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    upgrade_schema,
)
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.testing import assert_same, make_state

ROWS = 2_050
"""More than twenty of the batches that rows are moved in, the last of them not full."""

GUIDE_COLUMNS = (
    "checkpoint_id TEXT PRIMARY KEY, workflow_name TEXT, created_at REAL, is_paused BOOLEAN, checkpoint_data TEXT"
)


def guide_row(checkpoint_id: str, **fields: Any) -> tuple[Any, ...]:
    """A row as the guide's store writes it."""
    state = {
        "runtime_inputs": {"n": 1},
        "context": {},
        "completed_blocks": ["a"],
        "current_wave_index": 1,
        "execution_waves": [["a"], ["b"]],
        "block_definitions": {"a": {"type": "Shell"}},
        "workflow_stack": [],
        "parent_checkpoint_id": None,
        "paused_block_id": None,
        "pause_prompt": None,
        "pause_metadata": None,
        "child_checkpoint_id": None,
        "schema_version": 1,
    }
    workflow = fields.pop("workflow_name", "workflow")
    created_at = fields.pop("created_at", 1763884800.0)
    state.update(fields)
    return checkpoint_id, workflow, created_at, state["paused_block_id"] is not None, json.dumps(state)


def guide_rows(number: int) -> list[tuple[Any, ...]]:
    """Rows of all kinds, among them paused ones and values that the product itself would refuse to save."""
    chance = random.Random(7)
    rows = []
    for index in range(number):
        paused = index % 11 == 0
        rows.append(
            guide_row(
                f"{chance.getrandbits(64):x}-{index}",
                workflow_name=chance.choice(["a", "b", "ünï cödé", "quote ' \" %"]),
                created_at=float(1763884800 + index // 3),
                context={
                    "text": "äöü🙂\0\\\"'" * (index % 5),
                    "big": 2**70 if index % 97 == 0 else index,
                    "surrogate": "\ud800" if index % 101 == 0 else "",
                    "list": [0.1, -0.0, 1e308, True, None, {"deep": [[[index]]]}],
                },
                paused_block_id="ask" if paused else None,
                pause_prompt=f"Go on with {index}?\0" if paused else None,
                pause_metadata={"choices": ["yes", "no"]} if paused else None,
                parent_checkpoint_id=f"parent-{index}" if index % 5 == 0 else None,
            )
        )
    return rows


async def assert_rows_load(store: SQLAlchemyCheckpointStore, rows: raw.Rows) -> None:
    """Every row is there, with exactly what its JSON says."""
    loaded = {state.checkpoint_id: state async for state in store.iter_checkpoints()}
    assert len(loaded) == len(rows)
    for checkpoint_id, workflow, created_at, is_paused, data in rows:
        state = loaded[checkpoint_id]
        fields = {name: getattr(state, name) for name in json.loads(data)}
        assert json.dumps(fields) == data
        assert (state.workflow_name, state.created_at, state.is_paused) == (workflow, created_at, is_paused)
        assert state.run_id is None


async def test_thousands_of_rows_go_up_down_and_up_again(empty_url: str, open_store: OpenStore) -> None:
    """In place, none lost, none changed."""
    await raw.make_guide_database(empty_url, guide_rows(ROWS))
    before = await raw.contents(empty_url)
    rows = before["rows"]  # as the database has them: the guide's REAL is a 4-byte float on PostgreSQL
    assert len(rows) == ROWS
    manager = SchemaManager(empty_url)

    await manager.upgrade()
    await manager.check()
    await assert_rows_load(open_store(empty_url), rows)

    await manager.downgrade("0001")
    after = await raw.contents(empty_url)
    assert after["rows"] == before["rows"]
    assert set(before["names"]) <= set(after["names"])

    await manager.upgrade()
    store = open_store(empty_url)
    await assert_rows_load(store, rows)
    paused = [row for row in rows if row[3]]
    listed = await store.list_checkpoints(is_paused=True)
    assert len(listed) == len(paused)
    prompts = {one.checkpoint_id: one.pause_prompt for one in listed}
    assert prompts == {row[0]: json.loads(row[4])["pause_prompt"].replace("\0", "\ufffd") for row in paused}


async def test_an_adopted_checkpoint_can_be_saved_again(empty_url: str, open_store: OpenStore) -> None:
    """It is then encoded like any other."""
    await raw.make_guide_database(empty_url, [guide_row("one", context={"a": 1})])
    await upgrade_schema(empty_url)
    store = open_store(empty_url)
    state = await store.load_checkpoint("one")
    assert state is not None
    [metadata] = await store.list_checkpoints()
    assert metadata.encoding == "guide-json"
    await store.save_checkpoint(state)
    assert_same(await store.load_checkpoint("one"), state)
    [metadata] = await store.list_checkpoints()
    assert metadata.encoding == "json"


async def test_the_guides_reader_understands_what_the_product_saved(
    empty_url: str, open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    """After a downgrade a row is what the guide's store would have written of that state; what is lost is said."""
    await upgrade_schema(empty_url)
    store = open_store(empty_url)
    states = [
        make_state("small", context={"a": [1, 2.5, "ü\0"]}, paused_block_id="b", pause_prompt="Go?", run_id="run"),
        make_state("large", context={"text": "word " * 1000}, status="completed"),
    ]
    for state in states:
        await store.save_checkpoint(state)
    manager = SchemaManager(empty_url)
    assert (await manager.count_cut_off("0001"), await manager.count_cut_off("base")) == (1, 0)
    await manager.downgrade("0001")
    assert await manager.count_cut_off("0001") == 0
    assert "1 checkpoints belong to runs" in caplog.text
    rows = {row[0]: row for row in await raw.fetch(empty_url, "SELECT * FROM checkpoints")}
    for state in states:
        _, workflow, created_at, is_paused, data = rows[state.checkpoint_id]
        assert (workflow, created_at, bool(is_paused)) == (state.workflow_name, state.created_at, state.is_paused)
        fields = json.loads(data)
        assert len(fields) == 13
        assert fields == {name: getattr(state, name) for name in fields}


async def test_damaged_json_is_kept_and_breaks_only_its_own_loading(empty_url: str, open_store: OpenStore) -> None:
    """The upgrade does not stop at it, and a downgrade gives it back as it was."""
    damaged = [
        ("cut", "workflow", 5.0, False, '{"context": {'),
        ("list", "workflow", 4.0, True, "[1, 2]"),
        ("alien", "workflow", 3.0, False, '{"context": {}, "unknown": 1}'),
        ("deep", "workflow", 2.0, False, "[" * 100_000),
        ("wrong", "workflow", 1.0, False, guide_row("wrong")[4].replace('"context": {}', '"context": 7')),
    ]
    await raw.make_guide_database(empty_url, [*damaged, guide_row("whole", created_at=0.5)])
    before = await raw.contents(empty_url)
    await upgrade_schema(empty_url)
    store = open_store(empty_url)
    assert [one.checkpoint_id for one in await store.list_checkpoints()] == [*(row[0] for row in damaged), "whole"]
    for row in damaged:
        with pytest.raises(CheckpointDecodeError, match=row[0]):
            await store.load_checkpoint(row[0])
    reported: list[str] = []
    states = [
        state.checkpoint_id
        async for state in store.iter_checkpoints(on_damaged=lambda one, _error: reported.append(one.checkpoint_id))
    ]
    assert (states, reported) == (["whole"], [row[0] for row in damaged])
    await SchemaManager(empty_url).downgrade("0001")
    assert (await raw.contents(empty_url))["rows"] == before["rows"]


async def test_a_guide_table_with_missing_indexes_is_adopted(empty_url: str) -> None:
    """They are made when it goes back down."""
    await raw.execute(empty_url, raw.GUIDE_DDL[0])
    await raw.insert(empty_url, [guide_row("one")])
    manager = SchemaManager(empty_url)
    await manager.upgrade("0001")
    assert {"idx_workflow_name", "idx_created_at", "idx_is_paused"} <= set((await raw.contents(empty_url))["names"])
    await manager.upgrade()
    await manager.check()


@pytest.mark.parametrize(
    "columns",
    [
        "thread_id TEXT, checkpoint_ns TEXT, checkpoint BYTEA",
        f"{GUIDE_COLUMNS}, extra TEXT",
        GUIDE_COLUMNS.replace("workflow_name TEXT, ", ""),
        GUIDE_COLUMNS.replace("TEXT PRIMARY KEY", "INTEGER PRIMARY KEY"),
        GUIDE_COLUMNS.replace(" PRIMARY KEY", ""),
        GUIDE_COLUMNS.replace("REAL", "TEXT"),
    ],
)
async def test_another_products_table_is_refused_untouched(empty_url: str, open_store: OpenStore, columns: str) -> None:
    """Whatever it is, it is not ours to change."""
    await raw.execute(empty_url, f"CREATE TABLE checkpoints ({columns})", "CREATE TABLE other (a INTEGER)")
    before = await raw.contents(empty_url)
    data = None if raw.is_postgres(empty_url) else Path(empty_url).read_bytes()
    with pytest.raises(StoreConfigurationError, match="not ours"):
        await upgrade_schema(empty_url)
    with pytest.raises(SchemaOutOfDateError, match="not under our revisions"):
        await open_store(empty_url).list_checkpoints()
    assert await raw.contents(empty_url) == before
    if data is not None:
        assert Path(empty_url).read_bytes() == data


async def test_other_tables_in_the_database_are_left_alone(empty_url: str) -> None:
    """An embedder's own tables, its own Alembic history among them, stay through up, check and down."""
    await raw.execute(
        empty_url,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        "INSERT INTO alembic_version VALUES ('theirs')",
        "CREATE TABLE other (a INTEGER)",
    )
    manager = SchemaManager(empty_url)
    await manager.upgrade()
    await manager.check()
    await manager.downgrade("base")
    assert await raw.fetch(empty_url, "SELECT version_num FROM alembic_version") == [("theirs",)]
    assert await raw.fetch(empty_url, "SELECT * FROM other") == []


async def test_views_and_foreign_keys_of_others_stay_whole(sqlite_path: Path) -> None:
    """Renaming a table would take them along to its new name."""
    url = str(sqlite_path)
    await raw.make_guide_database(url, [guide_row("one", paused_block_id="b")])
    await raw.execute(
        url,
        "CREATE VIEW paused AS SELECT checkpoint_id FROM checkpoints WHERE is_paused",
        "CREATE TABLE notes (note TEXT, checkpoint_id TEXT REFERENCES checkpoints (checkpoint_id))",
        "INSERT INTO notes VALUES ('mine', 'one')",
        "CREATE TABLE broken (a TEXT REFERENCES nowhere (a))",
        "INSERT INTO broken VALUES ('broken long before')",
        "CREATE INDEX idx_created_at_2 ON notes (note)",
    )
    manager = SchemaManager(url)
    for change in (manager.upgrade(), manager.downgrade("0001"), manager.upgrade()):
        await change
        assert await raw.fetch(url, "SELECT * FROM paused") == [("one",)]
        await raw.execute(url, "PRAGMA foreign_keys = ON", "INSERT INTO notes VALUES ('another', 'one')")
    await manager.check()


async def test_an_index_of_another_table_may_have_the_guides_name(empty_url: str) -> None:
    """It is left alone, up and down."""
    await raw.execute(empty_url, "CREATE TABLE mine (a TEXT)", "CREATE INDEX idx_created_at ON mine (a)")
    manager = SchemaManager(empty_url)
    await manager.upgrade()
    await manager.check()
    await manager.downgrade("base")
    assert "idx_created_at" in await raw.table_names(empty_url)


@pytest.mark.parametrize(
    ("column", "value"), [("created_at", "'yesterday'"), ("workflow_name", "x'00ff'"), ("is_paused", "'maybe'")]
)
async def test_a_row_of_wrong_types_stops_the_upgrade_by_its_name(sqlite_path: Path, column: str, value: str) -> None:
    """SQLite holds any type in any column; the old database stays as it is."""
    url = str(sqlite_path)
    await raw.make_guide_database(url, [guide_row("fine"), guide_row("odd")])
    await raw.execute(url, f"UPDATE checkpoints SET {column} = {value} WHERE checkpoint_id = 'odd'")
    before = await raw.contents(url)
    with pytest.raises(CheckpointStoreError, match=f"'odd' cannot be taken over: its {column}"):
        await upgrade_schema(url)
    assert await raw.contents(url) == before


async def test_a_table_in_another_schema_is_not_moved(postgres_url: str) -> None:
    """Found by search_path, it would end up in the first schema of it."""
    await raw.make_guide_database(postgres_url, [guide_row("one")])
    await raw.execute(postgres_url, "CREATE SCHEMA mine")
    with pytest.raises(StoreConfigurationError, match="in schema 'public'"):
        await upgrade_schema(postgres_url + "&options=-c%20search_path%3Dmine,public")
    assert len((await raw.contents(postgres_url))["rows"]) == 1
