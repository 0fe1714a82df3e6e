"""What exports, imports and copies must not take for something else, nor leave behind."""

import asyncio
import errno
import fcntl
import io
import json
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import OpenStore
from workflows_mcp import (
    CheckpointConflictError,
    CheckpointDecodeError,
    CheckpointFileError,
    CheckpointKeyError,
    CheckpointStore,
    InMemoryCheckpointStore,
    SQLAlchemyCheckpointStore,
    copy_checkpoints,
    export_checkpoints,
    import_checkpoints,
)
from workflows_mcp.engine.filters import CheckpointFilter
from workflows_mcp.engine.moving import MovingCheckpoints
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.engine.stored import StoredCheckpoint, Writing
from workflows_mcp.persistence.copying import copy
from workflows_mcp.persistence.guide_array import read_array
from workflows_mcp.persistence.importing import checked_file, import_checked
from workflows_mcp.persistence.keys import new_key
from workflows_mcp.testing import make_state
from workflows_mcp.testing.transfer import fill

KEY = new_key("k1")
STATE = make_state("one", created_at=1.0, run_id="r")


def change(path: str, statement: str, *values: object) -> None:
    """Change rows behind the store's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


async def one_by_one(store: CheckpointStore) -> AsyncIterator[StoredCheckpoint]:
    """What a store streams that does nothing in bulk."""
    async for one in MovingCheckpoints.iter_stored(store, on_unreadable=lambda *_: None):
        yield one


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize(
    ("saved_with", "read_with"),
    [
        ({"encryption_keys": KEY.entry}, {"encryption": "off"}),
        ({}, {"encryption_keys": KEY.entry, "encryption": "required"}),
    ],
    ids=["no key", "not sealed"],
)
async def test_what_does_not_fit_the_keys_is_neither_damaged_nor_other_content(
    open_store: OpenStore, tmp_path: Path, saved_with: dict[str, str], read_with: dict[str, str]
) -> None:
    """An export keeps the file that is there, an import and a copy what is in the database, whatever they may do."""
    right, wrong = open_store(**saved_with), open_store(**read_with)
    await right.save_checkpoint(STATE)
    await export_checkpoints(right, tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    source = InMemoryCheckpointStore()
    await source.save_checkpoint(STATE)
    calls = (
        lambda: export_checkpoints(wrong, tmp_path / "x", overwrite=True, on_damaged=lambda *_: None),
        lambda: import_checkpoints(wrong, tmp_path / "x", on_conflict="replace"),
        lambda: import_checkpoints(wrong, tmp_path / "x", on_conflict="skip"),
        lambda: copy_checkpoints(source, wrong, on_conflict="replace"),
        lambda: copy_checkpoints(wrong, source, on_damaged=lambda *_: None),
        lambda: MovingCheckpoints.load_stored(wrong, ["one"], on_unreadable=lambda *_: None),
        lambda: anext(one_by_one(wrong)),
    )
    for call in calls:
        with pytest.raises(CheckpointKeyError):
            await call()
    assert (tmp_path / "x").read_bytes() == before
    assert await right.load_checkpoint("one") == STATE
    [kept] = await right.list_checkpoints()
    assert kept.encoding.startswith("aes-256-gcm:k1:" if saved_with else "json")


@pytest.mark.parametrize("database", ["sqlite"])
async def test_an_export_of_nothing_but_damage_makes_no_file(
    store: SQLAlchemyCheckpointStore, database_url: str, tmp_path: Path
) -> None:
    """It would replace a good one by an empty one that says it is whole."""
    await store.save_checkpoint(STATE)
    await export_checkpoints(store, tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    change(database_url, "UPDATE checkpoints SET payload = x'00'")
    with pytest.raises(CheckpointFileError, match="none of the 1 checkpoints"):
        await export_checkpoints(store, tmp_path / "x", overwrite=True, on_damaged=lambda *_: None)
    assert (tmp_path / "x").read_bytes() == before
    assert not list(tmp_path.glob(".x*"))


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize(
    "column",
    [
        "created_at = 5",
        "workflow_name = 'evil'",
        "run_id = 'other'",
        "run_id = NULL",
        "status = 'failed'",
        "parent_checkpoint_id = 'x'",
        "current_wave_index = 7",
        "schema_version = 0",
        "pause_prompt = 'Delete all?'",
        "is_paused = 1",
    ],
)
async def test_a_row_whose_columns_say_something_else_is_not_there_as_it_was_copied(
    store: SQLAlchemyCheckpointStore, database_url: str, tmp_path: Path, column: str
) -> None:
    """Listings, runs and retention go by them. It is told, and replacing mends it."""
    source = InMemoryCheckpointStore()
    await source.save_checkpoint(STATE)
    await copy_checkpoints(source, store)
    before = await store.list_checkpoints()
    change(database_url, f"UPDATE checkpoints SET {column}")
    with pytest.raises(CheckpointConflictError):
        await copy_checkpoints(source, store)
    with pytest.raises(CheckpointDecodeError, match="its column"):
        await export_checkpoints(store, tmp_path / "x")
    assert await copy_checkpoints(source, store, on_conflict="replace") == 1
    assert await store.list_checkpoints() == before
    done = await copy(source, store, CheckpointFilter(), on_conflict="fail")
    assert (done.present, done.differing_count) == (1, 0)


@pytest.mark.parametrize("database", ["sqlite"])
async def test_rows_of_the_guide_and_odd_prompts_are_as_they_were_saved(
    store: SQLAlchemyCheckpointStore, database_url: str
) -> None:
    """A prompt with U+0000 has another character in its column; the guide's payload leaves fields to the columns."""
    await fill(store)
    await store.save_checkpoint(make_state("guide", created_at=4))
    left_out = {"checkpoint_id", "workflow_name", "created_at", "status", "run_id", "schema_version"}
    fields = json.loads(encode_state(make_state("guide", created_at=4)))
    payload = json.dumps({name: value for name, value in fields.items() if name not in left_out}).encode()
    statement = "UPDATE checkpoints SET encoding = 'guide-json', payload = ? WHERE checkpoint_id = 'guide'"
    change(database_url, statement, payload)
    target = InMemoryCheckpointStore()
    assert await copy_checkpoints(store, target) == 8
    assert await copy_checkpoints(target, store) == 8


@pytest.mark.parametrize("name", ["runs.db", "link", "runs.db-wal", "runs.db-shm", "runs.db-journal"])
async def test_an_export_never_takes_the_place_of_a_database(sqlite_template: Path, tmp_path: Path, name: str) -> None:
    """Nor of what lies beside it, or would be taken for that."""
    (tmp_path / "runs.db").write_bytes(sqlite_template.read_bytes())
    (tmp_path / "link").symlink_to("runs.db")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for overwrite in (True, False):
        with pytest.raises(CheckpointFileError, match="is a database"):
            await export_checkpoints(InMemoryCheckpointStore(), tmp_path / name, overwrite=overwrite)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


async def test_an_export_that_is_cancelled_when_all_is_written_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bringing it to the disk may take long. Who cancels it twice does not leave half of it behind, either."""
    begun, go_on, sync = asyncio.Event(), threading.Event(), os.fsync
    loop = asyncio.get_running_loop()

    def slowly(descriptor: int) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(20)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slowly)
    task = asyncio.create_task(export_checkpoints(InMemoryCheckpointStore(), tmp_path / "x"))
    await begun.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    assert await task == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


async def test_an_export_that_fails_when_it_was_cancelled_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it is left."""
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def fail(_descriptor: int) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(20)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fail)
    task = asyncio.create_task(export_checkpoints(InMemoryCheckpointStore(), tmp_path / "x"))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x", "\u00e9" * 127])
async def test_what_a_killed_export_left_is_used_again(tmp_path: Path, name: str) -> None:
    """Also where it was killed when the file had its name already, which stays as it is."""
    seen: list[Path] = []

    class Watched(InMemoryCheckpointStore):
        async def iter_stored(self, *_arguments: Any, **_options: Any) -> AsyncIterator[StoredCheckpoint]:
            seen.extend(path for path in tmp_path.iterdir() if path.name.endswith(".workflows-export"))
            yield StoredCheckpoint(STATE)

    await export_checkpoints(Watched(), tmp_path / name)
    [part] = seen
    part.write_text("left" * 1000)
    part.chmod(0o666)
    assert await export_checkpoints(Watched(), tmp_path / name, overwrite=True) == 1
    assert b"left" not in (tmp_path / name).read_bytes()
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    (tmp_path / "published").write_text("whole")
    part.hardlink_to(tmp_path / "published")
    assert await export_checkpoints(Watched(), tmp_path / name, overwrite=True) == 1
    assert (tmp_path / "published").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {name, "published"}


async def test_two_exports_to_one_name_do_not_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is refused; and one that got the lock of a file which has its name by now leaves that alone."""
    path, part = tmp_path / "x", tmp_path / ".x.workflows-export"
    with part.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CheckpointFileError, match="another process"):
            await export_checkpoints(InMemoryCheckpointStore(), path)
        assert part.exists()
    part.write_text("whole")
    lock = fcntl.flock

    def late(descriptor: Any, operation: int) -> None:
        if part.exists() and not path.exists():
            part.rename(path)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(CheckpointFileError, match="--overwrite"):
        await export_checkpoints(InMemoryCheckpointStore(), path)
    assert path.read_text() == "whole"


async def test_a_file_system_without_links_or_locks_takes_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is there is still not replaced."""

    def cannot(*_arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "link", cannot)
    monkeypatch.setattr(fcntl, "flock", cannot)
    await export_checkpoints(InMemoryCheckpointStore(), tmp_path / "x")
    with pytest.raises(CheckpointFileError, match="--overwrite"):
        await export_checkpoints(InMemoryCheckpointStore(), tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


class _Streaming(InMemoryCheckpointStore):
    """Streams what it was given."""

    def __init__(self, *states: StoredCheckpoint) -> None:
        super().__init__()
        self._states = states

    async def iter_stored(self, *_arguments: Any, **_options: Any) -> AsyncIterator[StoredCheckpoint]:
        for one in self._states:
            yield one


async def test_one_that_is_saved_anew_during_an_export_stands_in_its_new_place() -> None:
    """With an older time, so that it comes twice; a store that streams in no order is refused at once."""
    new = [StoredCheckpoint(make_state(name, created_at=at)) for name, at in (("a", 3.0), ("b", 2.0), ("a", 1.0))]
    file = io.BytesIO()
    await export_checkpoints(_Streaming(*new), file)
    store = InMemoryCheckpointStore()
    file.seek(0)
    assert await import_checkpoints(store, file) == 2
    assert [(one.checkpoint_id, one.created_at) for one in await store.list_checkpoints()] == [("b", 2.0), ("a", 1.0)]
    with pytest.raises(CheckpointFileError, match="out of order"):
        await export_checkpoints(_Streaming(*reversed(new[:2])), io.BytesIO())


async def test_heads_that_should_be_history_are_told(store: SQLAlchemyCheckpointStore) -> None:
    """Of an import and of a copy: one with a lease, and one that differs."""
    source = InMemoryCheckpointStore()
    for name in ("held", "other", "free"):
        await source.save_checkpoint(make_state(name, run_id=name, created_at=1.0))
    await copy_checkpoints(source, store)
    await store.claim_checkpoint("held", "me")
    await store.save_checkpoint(make_state("other", run_id="other", created_at=1.0, context={"here": 1}))
    for name in ("held", "other", "free"):
        await source.save_checkpoint(make_state(f"{name}-2", run_id=name, created_at=2.0), follows=name)
    file = io.BytesIO()
    await export_checkpoints(source, file)
    file.seek(0)
    async with checked_file(file) as checked:
        done = await import_checked(store, checked, on_conflict="skip")
    assert (done.written, done.present, done.skipped, done.heads) == (3, 2, 1, 2)
    copied = await copy(source, store, CheckpointFilter(), on_conflict="skip")
    assert (copied.present, copied.skipped, copied.heads, copied.differing) == (5, 1, 2, ("held",))
    heads = [one.checkpoint_id for one in await store.list_checkpoints(heads_only=True)]
    assert sorted(heads) == ["free-2", "held", "held-2", "other", "other-2"]


async def test_what_was_saved_since_it_was_looked_at_does_not_become_history(
    store: SQLAlchemyCheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many bytes it has."""
    states = [make_state("one", created_at=1.0, context={"v": value}) for value in ("aaa", "bbb")]
    await store.save_checkpoint(states[0])
    storing = store._storing
    supersede = storing._supersede

    async def late(*arguments: Any) -> Sequence[str]:
        await store.save_checkpoint(states[1])
        return await supersede(*arguments)

    monkeypatch.setattr(storing, "_supersede", late)
    assert await store.write_stored([StoredCheckpoint(states[0], superseded=True)]) == {"one": Writing.HELD}
    assert [one.superseded for one in await store.list_checkpoints()] == [False]


def test_an_array_is_read_record_by_record() -> None:
    """What is no record ends it at once; spaces may stand anywhere."""
    record = {
        "checkpoint_id": "one", "workflow_name": "w", "created_at": 1.0, "runtime_inputs": {}, "context": {},
        "completed_blocks": [], "current_wave_index": 0, "execution_waves": [], "block_definitions": {},
        "workflow_stack": [],
    }  # fmt: skip
    text = json.dumps(record)
    other = text.replace("one", "two")
    assert [one.checkpoint_id for one in read_array(f"\n[ {text}\t,\r\n{other} ]\n".encode())] == ["one", "two"]
    assert read_array(b" [ ] ") == []
    for broken in ("[", f"[{text}", f"[{text},", f"[{text},]", f"[{text}]]", f"[{text} {other}]", "[,]", "\ud800"):
        with pytest.raises(CheckpointFileError, match="cut off or changed"):
            read_array(broken.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointFileError, match="record 2"):
        read_array(f"[{text},1,".encode())
