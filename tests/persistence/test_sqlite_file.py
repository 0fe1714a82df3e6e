"""What happens to a SQLite file while it is open is noticed; a forked process keeps off it."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.conftest import OpenStore
from tests.faults.leftovers import count_threads, threads_left
from workflows_mcp import (
    CheckpointStoreError,
    SchemaOutOfDateError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    StoreUnavailableError,
)
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.persistence.statements import Query
from workflows_mcp.settings import Settings
from workflows_mcp.testing import make_state


@pytest.fixture
def path(sqlite_template: Path, tmp_path: Path) -> Path:
    """A database at head."""
    return Path(shutil.copyfile(sqlite_template, tmp_path / "open.db"))


def replace(path: Path) -> None:
    """Put a copy in the place of a file."""
    Path(shutil.copyfile(path, path.with_suffix(".copy"))).rename(path)


async def test_a_write_through_a_callers_engine_to_a_file_that_is_gone_is_not_acknowledged(path: Path) -> None:
    """Nor through a connection that the engine still has when the next store is opened."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    try:
        async with SQLAlchemyCheckpointStore(engine) as store:
            await store.save_checkpoint(make_state("before"))
            replace(path)
            with pytest.raises(StoreConfigurationError, match="deleted or replaced"):
                await store.save_checkpoint(make_state("after"))
        async with SQLAlchemyCheckpointStore(engine) as store:
            with pytest.raises(StoreConfigurationError, match="deleted or replaced"):
                await store.save_checkpoint(make_state("after"))
    finally:
        await engine.dispose()


async def test_a_read_from_a_file_that_is_gone_is_refused(path: Path) -> None:
    """Within a moment: small loads look only now and then."""
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        await store.save_checkpoint(make_state("before"))
        await store.load_checkpoint("before")
        replace(path)
        await asyncio.sleep(0.05)
        for call in (store.load_checkpoint("before"), store.list_checkpoints(), store.get_stats(), store.vacuum()):
            with pytest.raises(StoreConfigurationError, match="deleted or replaced"):
                await call


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_a_file_beside_the_database_that_is_gone_costs_nothing_acknowledged(path: Path, suffix: str) -> None:
    """What is saved then is refused; what was saved before is put into the database at the close."""
    states = [make_state(f"{number}") for number in range(5)]
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        for state in states:
            await store.save_checkpoint(state)
        await store.list_checkpoints()
        path.with_name(path.name + suffix).unlink()
        with pytest.raises(StoreConfigurationError, match=f"{suffix} file of .* was deleted or replaced"):
            await store.save_checkpoint(make_state("after"))
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        assert [await store.load_checkpoint(state.checkpoint_id) for state in states] == states


async def test_a_file_with_two_names_is_refused_for_as_long_as_it_has_them(path: Path) -> None:
    """Opened by both, it would have two -wal files."""
    link = path.with_suffix(".link")
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        await store.save_checkpoint(make_state("before"))
        os.link(path, link)
        with pytest.raises(StoreConfigurationError, match="2 names"):
            await store.save_checkpoint(make_state("between"))
        async with SQLAlchemyCheckpointStore(str(link)) as other:
            with pytest.raises(StoreConfigurationError, match="2 names"):
                await other.list_checkpoints()
        link.unlink()
        await store.save_checkpoint(make_state("after"))


async def test_an_empty_file_is_refused_untouched(tmp_path: Path) -> None:
    """It may be anything's."""
    path = tmp_path / "empty.db"
    path.touch()
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        with pytest.raises(SchemaOutOfDateError, match="upgrade"):
            await store.save_checkpoint(make_state())
    assert path.stat().st_size == 0


def test_a_file_whose_maker_was_stopped_too_early_counts_as_new(tmp_path: Path) -> None:
    """A server that is started and killed at once leaves one behind; the next one must not be stuck with it."""
    path = tmp_path / "left.db"
    assert SchemaManager(str(path)).is_new
    with contextlib.closing(sqlite3.connect(path)) as maker:
        maker.execute("PRAGMA journal_mode=WAL")
        assert SchemaManager(str(path)).is_new
        maker.execute("CREATE TABLE somebodys (x)")
        assert path.stat().st_size == 4096  # the table is in the -wal file
        assert not SchemaManager(str(path)).is_new
    assert not SchemaManager(str(path)).is_new
    path.write_bytes(b"no database")
    assert not SchemaManager(str(path)).is_new


async def test_damage_that_sqlite_cannot_tell_of_in_text_is_told_at_once(path: Path) -> None:
    """Its message quotes the damaged schema, which is no UTF-8."""
    whole = path.read_bytes()
    assert b" WHERE is_paused" in whole
    path.write_bytes(whole.replace(b" WHERE is_paused", b" \xa3HERE is_paused"))
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        began = time.perf_counter()
        with pytest.raises(CheckpointStoreError, match="is damaged; restore a backup"):
            await store.list_checkpoints()
        assert time.perf_counter() - began < 1


async def test_a_query_that_nobody_waits_for_any_more_ends(path: Path) -> None:
    """Its thread would keep the process alive, and a processor busy."""
    endless = Query(text("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"), {})
    before = count_threads()
    async with SQLAlchemyCheckpointStore(str(path), settings=Settings(deadline_seconds=0.5)) as store:
        await store.list_checkpoints()
        for fetch in (store._database.fetch_long, store._database.fetch):
            with pytest.raises(StoreUnavailableError):
                await fetch(endless)
    assert await threads_left(before) == 0


async def test_a_deletion_that_was_given_up_is_not_carried_out_later(path: Path) -> None:
    """On a caller's engine in AUTOCOMMIT the driver waits for a lock by itself, and for longer than the caller."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", isolation_level="AUTOCOMMIT")
    try:
        async with SQLAlchemyCheckpointStore(engine, settings=Settings(deadline_seconds=0.3)) as store:
            await store.save_checkpoint(make_state())
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as locker:
                locker.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreUnavailableError):
                    await store.delete_checkpoint("checkpoint")
                locker.execute("ROLLBACK")
            await store.save_checkpoint(make_state("another"))  # comes after it
            assert await store.load_checkpoint("checkpoint") is not None
    finally:
        await engine.dispose()


async def test_a_renewal_in_another_event_loop_waits_for_none_of_this_one(open_store: OpenStore) -> None:
    """It is refused at once, though it could share the one that is under way here."""
    store = open_store()
    await store.save_checkpoint(make_state())
    await store.claim_checkpoint("checkpoint", "owner", 60)
    renewing = asyncio.create_task(store.renew_lease("checkpoint", "owner", 60))
    await asyncio.sleep(0)

    def elsewhere() -> None:
        with pytest.raises(StoreConfigurationError, match="another event loop"):
            asyncio.run(asyncio.wait_for(store.renew_lease("checkpoint", "owner", 60), 5))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10)  # this event loop stands still meanwhile, so that the renewal stays under way
    assert not thread.is_alive()
    await renewing
