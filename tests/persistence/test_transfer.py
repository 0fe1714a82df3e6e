"""Export, import and copy, between real files and real databases."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from sqlalchemy.ext.asyncio import create_async_engine

from tests.conftest import OpenStore
from workflows_mcp import (
    CheckpointConflictError,
    CheckpointDecodeError,
    CheckpointFileError,
    CheckpointStore,
    CheckpointStoreError,
    InMemoryCheckpointStore,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    copy_checkpoints,
    export_checkpoints,
    import_checkpoints,
    upgrade_schema,
)
from workflows_mcp.engine.filters import CheckpointFilter
from workflows_mcp.engine.stored import StoredCheckpoint, Writing
from workflows_mcp.persistence.copying import copy
from workflows_mcp.persistence.guide_array import MAX_ARRAY_BYTES
from workflows_mcp.persistence.transfer_file import Closing, Digest, Header, line_of
from workflows_mcp.testing import make_state
from workflows_mcp.testing.transfer import fill, view

ONE = StoredCheckpoint(make_state("one", created_at=1.0, context={"text": "secret-payload"}))
TWO = StoredCheckpoint(make_state("two", created_at=2.0), pinned=True, lease_ended_at=5.0)


def export_of(*lines: bytes, header: bytes | None = None, closing_line: bytes | None = None) -> bytes:
    """A file with these lines of checkpoints, closed as an export would close it."""
    digest = Digest()
    for line in lines:
        digest.add(line)
    head = Header("somewhere", "2026-11-27T10:00:00+00:00").line if header is None else header
    end = Closing(len(lines), 0, str(digest)).line if closing_line is None else closing_line
    return head + b"".join(lines) + end


async def filled() -> InMemoryCheckpointStore:
    """A store with a checkpoint of each kind."""
    store = InMemoryCheckpointStore()
    await fill(store)
    return store


async def text_of(store: CheckpointStore, folder: Path, **options: Any) -> str:
    """What is exported of a store, without the header, which says when and from where."""
    await export_checkpoints(store, folder / "text.jsonl", overwrite=True, **options)
    return (folder / "text.jsonl").read_text().partition("\n")[2]


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.zst"])
async def test_an_import_is_what_was_exported(store: SQLAlchemyCheckpointStore, tmp_path: Path, name: str) -> None:
    """From memory to each database and back, by a file: the same bytes, and so the same digest."""
    source, back = await filled(), InMemoryCheckpointStore()
    assert await export_checkpoints(source, tmp_path / name) == 7
    assert await import_checkpoints(store, tmp_path / name) == 7
    assert [view(one) for one in await store.list_checkpoints()] == [
        view(one) for one in await source.list_checkpoints()
    ]
    await export_checkpoints(store, str(tmp_path / f"2{name}"))
    await import_checkpoints(back, tmp_path / f"2{name}")
    assert await text_of(back, tmp_path) == await text_of(store, tmp_path)
    ended = {one.checkpoint_id: one.lease_expires_at for one in await store.list_abandoned()}
    assert list(ended) == [one.checkpoint_id for one in await back.list_abandoned()] == ["free", "held"]
    assert ended == {one.checkpoint_id: one.lease_expires_at for one in await back.list_abandoned()}


async def test_a_file_is_lines_of_json_between_a_header_and_a_closing_line(tmp_path: Path) -> None:
    """The digest is that of the lines between the two; what the filters leave out is not there."""
    await export_checkpoints(await filled(), tmp_path / "x", run_id="done", created_after=1.5)
    first, *lines, last = (tmp_path / "x").read_bytes().splitlines(keepends=True)
    header, end = json.loads(first), json.loads(last)
    assert (header["format"], header["version"], header["count"]) == ("workflows-mcp checkpoints", 1, 1)
    assert header["filters"] == {"run_id": "done", "created_after": 1.5}
    assert [json.loads(line)["state"]["checkpoint_id"] for line in lines] == ["done-2"]
    assert end == {"count": 1, "damaged": 0, "digest": f"sha256:{hashlib.sha256(b''.join(lines)).hexdigest()}"}


class _Watched(InMemoryCheckpointStore):
    """Looks into a folder while it is read."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    async def iter_stored(self, *arguments: Any, **options: Any) -> AsyncIterator[StoredCheckpoint]:
        async for one in super().iter_stored(*arguments, **options):
            self._look()
            yield one


async def test_a_file_has_its_name_when_it_is_whole_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """From its first byte on, whatever the umask."""
    seen: list[tuple[str, int]] = []
    store = _Watched(lambda: seen.extend((one.name, one.stat().st_mode & 0o777) for one in tmp_path.iterdir()))
    await store.write_stored([ONE])
    before = os.umask(0)
    try:
        await export_checkpoints(store, tmp_path / "x.jsonl")
    finally:
        os.umask(before)
    [(name, mode)] = seen
    assert name == ".x.jsonl.workflows-export"
    assert mode == 0o600
    [whole] = tmp_path.iterdir()
    assert (whole.name, stat.S_IMODE(whole.stat().st_mode)) == ("x.jsonl", 0o600)


async def test_nothing_is_left_of_an_export_that_is_cancelled(tmp_path: Path) -> None:
    """Neither the file nor what it would have become."""
    begun = asyncio.Event()

    class Stuck(InMemoryCheckpointStore):
        async def iter_stored(self, *_arguments: Any, **_options: Any) -> AsyncIterator[StoredCheckpoint]:
            yield ONE
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(export_checkpoints(Stuck(), tmp_path / "x"))
    await begun.wait()
    assert list(tmp_path.iterdir())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    """Before anything is read; also one that came while the export ran. A folder is none, a missing one is named."""
    path = tmp_path / "x"
    path.write_text("precious")
    unread = _Watched(lambda: pytest.fail("it was read"))
    await unread.write_stored([ONE])
    with pytest.raises(CheckpointFileError, match="--overwrite"):
        await export_checkpoints(unread, path)
    path.unlink()
    late = _Watched(lambda: path.write_text("precious"))  # type: ignore[arg-type]
    await late.write_stored([ONE])
    with pytest.raises(CheckpointFileError, match="--overwrite"):
        await export_checkpoints(late, path)
    assert path.read_text() == "precious"
    assert await export_checkpoints(late, path, overwrite=True) == 1
    with pytest.raises(CheckpointFileError, match="no regular file"):
        await export_checkpoints(late, tmp_path, overwrite=True)
    with pytest.raises(CheckpointFileError, match="No such file"):
        await export_checkpoints(late, tmp_path / "absent" / "x")
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def damage(path: Path, checkpoint_id: str) -> None:
    """Change a byte of a payload behind the store's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE checkpoints SET payload = payload || x'00' WHERE checkpoint_id = ?", (checkpoint_id,)
        )


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_damaged_checkpoint_is_told_and_the_rest_goes_on(
    store: SQLAlchemyCheckpointStore, tmp_path: Path, database_url: str
) -> None:
    """By an export and by a copy; a row that no store has written, too. Unasked, it is an error."""
    await fill(store)
    damage(Path(database_url), "free")
    with closing(sqlite3.connect(database_url)) as connection, connection:
        connection.execute("UPDATE checkpoints SET checkpoint_id = x'ff' WHERE checkpoint_id = 'asked'")
        connection.execute("UPDATE checkpoints SET created_at = 99 WHERE checkpoint_id = 'answered'")
    told: list[str] = []
    count = await export_checkpoints(store, tmp_path / "x", on_damaged=lambda name, _: told.append(name))
    assert (count, set(told)) == (4, {"free", "answered", r"b'\xff'"})
    assert json.loads((tmp_path / "x").read_text().splitlines()[-1])["damaged"] == 3
    target = InMemoryCheckpointStore()
    assert await copy_checkpoints(store, target, on_damaged=lambda *_: None) == 4
    assert await import_checkpoints(target, tmp_path / "x") == 4
    with pytest.raises(CheckpointDecodeError):
        await export_checkpoints(store, tmp_path / "y")
    with pytest.raises(CheckpointDecodeError):
        await copy_checkpoints(store, InMemoryCheckpointStore())
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.zst"])
async def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    """Wherever it was; nothing is written."""
    path = tmp_path / name
    await export_checkpoints(await filled(), path, workflow_name="workflow", run_id="done")
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, 11):
        store = InMemoryCheckpointStore()
        with pytest.raises(CheckpointFileError):
            await import_checkpoints(store, io.BytesIO(whole[:end]))
        assert await store.list_checkpoints() == []
    assert await import_checkpoints(InMemoryCheckpointStore(), io.BytesIO(whole)) == 2


async def test_a_file_that_was_changed_is_refused() -> None:
    """In any byte of a checkpoint or the digest; the message says in which line it shows."""
    whole = export_of(line_of(TWO), line_of(ONE))
    for place in range(whole.index(b"\n") + 1, whole.index(b',"damaged"'), 7):
        changed = bytearray(whole)
        changed[place] ^= 1
        store = InMemoryCheckpointStore()
        with pytest.raises(CheckpointFileError) as caught:
            await import_checkpoints(store, io.BytesIO(changed))
        assert "line " in str(caught.value)
        assert "secret-payload" not in f"{caught.value}{caught.value.__context__}"
        assert await store.list_checkpoints() == []


def changed(line: bytes, old: bytes, new: bytes) -> bytes:
    """A line in which something else stands."""
    assert old in line
    return line.replace(old, new)


DEEP = b"[" * 5000 + b"]" * 5000
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "nothing, compressed": (zstd.compress(b""), "is empty"),
    "gzip": (gzip.compress(b"{}"), "is gzip; unpack it first: gzip -dc"),
    "a database": (b"SQLite format 3\0" + bytes(1000), "line 1 is not the header"),
    "no UTF-8": (b"\xff\xfe\n" * 3, "line 1 is not the header"),
    "another program's JSON Lines": (b'{"id": 1}\n{"id": 2}\n', "line 1 is not the header"),
    "a header without end": (b'{"format":"' + b"x" * 100_000, "line 1 is not the header"),
    "a newer format": (
        changed(export_of(line_of(ONE)), b'"version":1,', b'"version":2,'),
        "version 2 .* upgrade workflows-mcp",
    ),
    "no closing line": (export_of(line_of(ONE), closing_line=b""), "ends at line 2 .* cut off"),
    "a line behind it": (export_of(line_of(ONE)) + b"{}\n", "line 4: something follows"),
    "a line twice": (export_of(line_of(ONE), line_of(ONE)), "line 3: .* there twice"),
    "out of order": (export_of(line_of(ONE), line_of(TWO)), "line 3: .* out of order"),
    "a count too large": (
        export_of(line_of(ONE), closing_line=Closing(2, 0, str(Digest())).line),
        "line 3 closes an export of 2 checkpoints, and 1 are there",
    ),
    "no integer": (export_of(changed(line_of(ONE), b'"current_wave_index":0', b'"current_wave_index":"0"')), "line 2"),
    "an integer too large": (export_of(changed(line_of(ONE), b'"secret-payload"', b"1" + b"0" * 30)), "line 2"),
    "NaN": (export_of(changed(line_of(ONE), b'"secret-payload"', b"NaN")), "line 2"),
    "a key twice": (export_of(changed(line_of(ONE), b'{"text"', b'{"text":1,"text"')), "line 2"),
    "nested deeply": (export_of(changed(line_of(ONE), b'"secret-payload"', DEEP)), "line 2"),
    "nested too deeply": (export_of(changed(line_of(ONE), b'"secret-payload"', DEEP[4880:5120])), "line 2"),
    "no id": (export_of(changed(line_of(ONE), b'"one"', b'""')), "line 2"),
    "NUL in an id": (export_of(changed(line_of(ONE), b'"one"', rb'"\u0000"')), "line 2"),
    "a pin of another type": (export_of(changed(line_of(ONE), b'"pinned":false', b'"pinned":0')), "line 2"),
    "a place too few": (export_of(changed(line_of(ONE), b'"pinned":false,', b"")), "line 2"),
    "a lease that never ends": (
        export_of(changed(line_of(TWO), b'"lease_ended_at":5.0', b'"lease_ended_at":1e999')),
        "line 2",
    ),
    "a newer state": (
        export_of(changed(line_of(ONE), b'"schema_version":1', b'"schema_version":9')),
        "line 2 .* newer version .* upgrade",
    ),
    "spaces": (export_of(changed(line_of(ONE), b'"state":{', b'"state":{ ')), "line 2"),
    "a broken zstd frame": (zstd.compress(export_of(line_of(ONE)))[:-9] + b"?" * 9, "cut off or damaged"),
    "a bomb": (zstd.compress(b'{"format":"' + b"x" * 300 * 2**20), "longer than any checkpoint"),
    "an array that is none": (b'[{"checkpoint_id": "x"', "cut off or changed"),
    "an array that goes on": (b"[] []", "cut off or changed"),
    "a line of something else": (export_of(b'{"state":' + b"[]," * 10**6 + b"[]}\n"), "line 2 is no checkpoint's"),
    "a record that is none": (b"[17]", "record 1 .* no JSON object"),
    "an array nested deeply": (DEEP, "cut off or changed|record 1"),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_foreign_or_hostile_file_is_refused(what: str) -> None:
    """With a message that says where, and shows nothing of what is in it; nothing is written."""
    data, message = HOSTILE[what]
    store = InMemoryCheckpointStore()
    with pytest.raises(CheckpointFileError, match=message) as caught:
        await import_checkpoints(store, io.BytesIO(data))
    assert "secret-payload" not in f"{caught.value}{caught.value.__context__}{caught.value.__cause__}"
    assert await store.list_checkpoints() == []


GUIDE_RECORD: dict[str, Any] = {
    "checkpoint_id": "guide-1",
    "workflow_name": "deploy",
    "created_at": 1763884800,
    "runtime_inputs": {"env": "prod"},
    "context": {"a": 1.5},
    "completed_blocks": ["a"],
    "current_wave_index": 1,
    "execution_waves": [["a"], ["b"]],
    "block_definitions": {"a": {}},
    "workflow_stack": [],
    "paused_block_id": "b",
    "pause_prompt": "Go on?",
    "pause_metadata": {},
}


async def test_the_guides_array_is_read(store: SQLAlchemyCheckpointStore, tmp_path: Path) -> None:
    """Its records lack fields of today's states; each is a head in no run, and one that is paused waits."""
    records = [
        GUIDE_RECORD,
        {**GUIDE_RECORD, "checkpoint_id": "guide-2", "paused_block_id": None, "pause_prompt": None},
    ]
    path = tmp_path / "backup.json"
    path.write_text(json.dumps(records, indent=2))
    assert await import_checkpoints(store, path) == 2
    assert await import_checkpoints(store, path) == 2
    listed = {one.checkpoint_id: one for one in await store.list_checkpoints()}
    assert {name: one.is_paused for name, one in listed.items()} == {"guide-1": True, "guide-2": False}
    loaded = await store.load_checkpoint("guide-1")
    assert loaded is not None
    assert (loaded.created_at, loaded.run_id, loaded.runtime_inputs) == (1763884800.0, None, {"env": "prod"})
    assert type(loaded.created_at) is float


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"context": {"x": [float("nan")]}}, r"record 2 .*'guide-2': context\.x\[0\]: nan is not JSON"),
        ({"workflow_name": ""}, "record 2 .*'guide-2'.*workflow_name"),
        ({"completed_blocks": "a"}, "record 2 .* not of their types"),
        ({"unknown": 1}, "record 2 .* unknown"),
        ({"checkpoint_id": "guide-1"}, "records 1 and 2 .* the same"),
    ],
)
async def test_a_record_of_the_guides_array_that_does_not_fit_is_named(second: dict[str, Any], message: str) -> None:
    """And none is written."""
    records = [GUIDE_RECORD, {**GUIDE_RECORD, "checkpoint_id": "guide-2", **second}]
    store = InMemoryCheckpointStore()
    with pytest.raises(CheckpointFileError, match=message):
        await import_checkpoints(store, io.BytesIO(json.dumps(records).encode()))
    assert await store.list_checkpoints() == []


async def test_an_array_that_is_too_large_is_refused() -> None:
    """It would be in memory as a whole."""
    with pytest.raises(CheckpointFileError, match="100 MiB"):
        await import_checkpoints(InMemoryCheckpointStore(), io.BytesIO(b"[" + b" " * MAX_ARRAY_BYTES))


async def test_a_pipe_is_read_once_and_kept_where_nobody_else_reads_it(tmp_path: Path) -> None:
    """Compressed or not."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for data in (export_of(line_of(TWO), line_of(ONE)), zstd.compress(export_of(line_of(TWO), line_of(ONE)))):
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        assert await import_checkpoints(InMemoryCheckpointStore(), pipe) == 2
        writer.join()


async def test_streams_stay_open(tmp_path: Path) -> None:
    """They are their owners'; what is in a file before the present place is not read."""
    stream = io.BytesIO()
    await export_checkpoints(await filled(), stream)
    assert not stream.closed
    (tmp_path / "x").write_bytes(b"before" + stream.getvalue())
    with (tmp_path / "x").open("rb") as file:
        file.seek(len(b"before"))
        assert await import_checkpoints(InMemoryCheckpointStore(), file) == 7
        assert not file.closed


@pytest.mark.parametrize("call", [import_checkpoints, copy_checkpoints])
async def test_an_unknown_answer_to_conflicts_is_refused_first(call: Any) -> None:
    """Before anything is read."""
    with pytest.raises(ValueError, match="fail, skip, replace"):
        await call(InMemoryCheckpointStore(), InMemoryCheckpointStore(), on_conflict="merge")


async def test_a_conflict_says_how_far_the_import_came(store: SQLAlchemyCheckpointStore, tmp_path: Path) -> None:
    """Its batch is not written; with another answer the same import goes on."""
    source = InMemoryCheckpointStore()
    states = [make_state(f"{n:04}", created_at=float(n)) for n in range(700)]
    await source.write_stored([StoredCheckpoint(one) for one in states])
    await export_checkpoints(source, tmp_path / "x")
    mine = make_state("0100", created_at=100.0, context={"mine": True})
    await store.save_checkpoint(mine)
    with pytest.raises(CheckpointConflictError, match=r"'0100' .* 500 of 700 checkpoints were imported"):
        await import_checkpoints(store, tmp_path / "x")
    assert len(await store.list_checkpoints()) == 501
    assert await import_checkpoints(store, tmp_path / "x", on_conflict="skip") == 699
    assert await store.load_checkpoint("0100") == mine
    assert await import_checkpoints(store, tmp_path / "x", on_conflict="replace") == 700
    assert await store.load_checkpoint("0100") == states[100]


async def test_a_copy_of_all_kinds_is_the_same_in_each_database(
    store: SQLAlchemyCheckpointStore, tmp_path: Path
) -> None:
    """Out of memory, and into another SQLite file."""
    await upgrade_schema(str(tmp_path / "other.db"))
    source = await filled()
    assert await copy_checkpoints(source, store) == 7
    async with SQLAlchemyCheckpointStore(str(tmp_path / "other.db")) as other:
        assert await copy_checkpoints(store, other) == 7
        assert await text_of(other, tmp_path) == await text_of(store, tmp_path)


async def test_a_second_copy_brings_over_what_has_come_since(store: SQLAlchemyCheckpointStore) -> None:
    """A run that went on has one head in the target, as it has in the source."""
    source = InMemoryCheckpointStore()
    await source.save_checkpoint(make_state("1", run_id="r", created_at=1.0), owner="me", lease_seconds=60)
    await copy_checkpoints(source, store)
    await source.save_checkpoint(make_state("2", run_id="r", created_at=2.0), follows="1", owner="me", lease_seconds=60)
    assert await copy_checkpoints(source, store) == 2
    assert [one.checkpoint_id for one in await store.list_abandoned()] == ["2"]
    assert [one.superseded for one in await store.list_checkpoints()] == [False, True]


async def test_a_database_is_not_copied_onto_itself(open_store: OpenStore, database_url: str, tmp_path: Path) -> None:
    """By whatever URL it is named."""
    if "://" in database_url:
        other = f"{database_url}{'&' if '?' in database_url else '?'}application_name=other"
    else:
        (tmp_path / "link.db").symlink_to(database_url)
        other = str(tmp_path / "link.db")
    with pytest.raises(StoreConfigurationError, match="are the same"):
        await copy_checkpoints(open_store(), open_store(other))
    memory = InMemoryCheckpointStore()
    with pytest.raises(StoreConfigurationError, match="are the same"):
        await copy_checkpoints(memory, memory)


@pytest.mark.parametrize("database", ["sqlite"])
async def test_what_is_not_there_as_it_was_copied_is_told(store: SQLAlchemyCheckpointStore, database_url: str) -> None:
    """A trigger changes, damages or drops what is written, as a broken disk may: reading back finds it."""
    with closing(sqlite3.connect(database_url)) as connection, connection:
        for name, change in (
            ("free", "UPDATE checkpoints SET payload = x'00'"),
            ("done-1", "UPDATE checkpoints SET superseded = 0"),
            ("held", "DELETE FROM checkpoints"),
        ):
            connection.execute(
                f"CREATE TRIGGER '{name}' AFTER INSERT ON checkpoints WHEN new.checkpoint_id = '{name}' "
                f"BEGIN {change} WHERE checkpoint_id = '{name}'; END"
            )
    done = await copy(await filled(), store, CheckpointFilter(), on_conflict="fail")
    assert set(done.differing) == {"free", "held", "done-1"}
    assert (done.differing_count, done.kept) == (3, 4)
    with pytest.raises(CheckpointConflictError, match=r"are not in SQLite database .* as they were copied"):
        await copy_checkpoints(await filled(), store, on_conflict="replace")


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_database_that_drops_rows_is_no_success(store: SQLAlchemyCheckpointStore, database_url: str) -> None:
    """Though it says nothing: an import does not read back."""
    with closing(sqlite3.connect(database_url)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER t BEFORE INSERT ON checkpoints WHEN new.checkpoint_id = 'two' "
            "BEGIN SELECT RAISE(IGNORE); END"
        )
    with pytest.raises(CheckpointStoreError, match=r"wrote 1 of 2 .* trigger"):
        await import_checkpoints(store, io.BytesIO(export_of(line_of(TWO), line_of(ONE))))


async def test_somebody_elses_engine_takes_whole_batches(database_url: str) -> None:
    """In a transaction of its own, all or nothing."""
    url = database_url if "://" in database_url else f"sqlite:///{database_url}"
    scheme, _, rest = url.partition("://")
    engine = create_async_engine(f"{scheme}+{'asyncpg' if 'postgres' in scheme else 'aiosqlite'}://{rest}")
    async with SQLAlchemyCheckpointStore(engine) as store:
        assert await copy_checkpoints(await filled(), store) == 7
        other = StoredCheckpoint(make_state("free", created_at=4.0, context={"other": 1}))
        new = StoredCheckpoint(make_state("new"))
        with pytest.raises(CheckpointConflictError):
            await store.write_stored([new, other])
        assert await store.load_checkpoint("new") is None
        verdicts = await store.write_stored([new, other], on_conflict="replace")
        assert verdicts == {"new": Writing.WRITTEN, "free": Writing.REPLACED}
    await engine.dispose()
