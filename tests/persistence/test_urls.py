"""What names a database, and what does not: each bad name is an error that says what to do and shows no password."""

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from tests.migrations import raw
from workflows_mcp import (
    InMemoryCheckpointStore,
    SchemaOutOfDateError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    StoreUnavailableError,
    create_checkpoint_store,
    upgrade_schema,
)
from workflows_mcp.persistence.database import describe_database
from workflows_mcp.persistence.dialects import dialect_for
from workflows_mcp.persistence.dialects.postgresql_hosts import urls_of_hosts
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.settings import Settings, load_settings
from workflows_mcp.testing import assert_same, make_state

QUICK = Settings(deadline_seconds=0.5)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "no database is named"),
        ("   ", "no database is named"),
        ("mysql://user:hunter2@host/db", "'mysql' is not supported"),
        ("postgrse://user:hunter2@host/db", "'postgrse' is not supported"),
        ("postgresql+psycopg://user:hunter2@host/db", "'postgresql\\+psycopg' is not supported"),
        ("http://host", "'http' is not supported"),
        (":memory:", "memory://"),
        ("sqlite://", "memory://"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite+aiosqlite://", "memory://"),
        ("sqlite:///", "memory://"),
        ("memory://", "InMemoryCheckpointStore"),
        ("file:x.db", "plain path"),
        ("sqlite:///file:x.db?mode=memory&uri=true", "no \\?options"),
        ("sqlite:///x.db?mode=ro", "no \\?options"),
        ("sqlite:///x.db?uri=true&nolock=1", "no \\?options"),
        ("sqlite:///x.db%3Fmode=ro", "%-encoding"),
        ("sqlite:///file%3Ax.db%3Fnolock%3D1", "%-encoding"),
        ("sqlite:////srv/a/%2e%2e/b.db", "%-encoding"),
        ("sqlite:////srv/a/../b.db", "no '\\.\\.'"),
        ("sqlite+aiosqlite:///../b.db", "no '\\.\\.'"),
        ("sqlite://relative.db", "three slashes"),
        ("a\0b", "U\\+0000"),
        ("postgresql://user:hunter2@host/db?sslmod=require", "unknown key 'sslmod'"),
        ("postgresql://user:hunter2@host/db?connect_timeout=soon", "connect_timeout"),
        ("postgresql://user:hunter2@[host/db", "percent-encode"),
        ("postgresql://user:hunter2#@host/db", "percent-encode"),
        ("postgresql://user:hun/ter2@host/db", "percent-encode"),
        ("postgresql://user:hunter2?x@host/db", "percent-encode"),
        ("postgresql://user:12/hunter2@host/db", "percent-encode"),
        ("postgresql://user:12?hunter2@host/db", "percent-encode"),
        ("postgresql://user:12?hunter2=1@host/db", "percent-encode"),
        ("postgresql://user:hunter2@host:99999/db", "at most 65535"),
        ("postgresql://user:hunter2@host:port/db", "at most 65535"),
        ("postgresql://user:hun@ter2@host/db", "percent-encode"),
        ("postgresql://user:hun@ter2@host,other/db", "percent-encode"),
        ("postgresql://host:1/db;password=hunter2", "with & between"),
        ("postgresql://host:1/db&password=hunter2", "with & between"),
        ("postgresql://host:1/db password=hunter2", "with & between"),
        ("postgresql://host;password=hunter2/db", "with & between"),
        ("postgres:user:hunter2@host", "looks like a URL"),
        ("postgresql//user:hunter2@host", "looks like a URL"),
        ("postgresql/user:hunter2@host", "looks like a URL"),
        ("postgresql:user:hunter2@host/db", "looks like a URL"),
        ("postgresql:/user:hunter2@host/db", "looks like a URL"),
        ("postgresql;//user:hunter2@host/db", "looks like a URL"),
        ("postgresql+asyncpg:user:hunter2@host/db", "looks like a URL"),
        ("PostgreSQL:user:hunter2@host/db", "looks like a URL"),
        (" postgresql://user:hunter2@host/db", "looks like a URL"),
        ("'postgresql://user:hunter2@host/db'", "looks like a URL"),
        ("URL=postgresql://user:hunter2@host/db", "looks like a URL"),
        ("jdbc:postgresql://user:hunter2@host/db", "looks like a URL"),
        ("//user:hunter2@host/db", "looks like a URL"),
        ("://user:hunter2@host/db", "looks like a URL"),
        ("user:hunter2@host/db", "looks like a URL"),
        ("user:hun/ter2@host/db", "looks like a URL"),
        ("sqlite:///user:hunter2@host/db", "looks like a URL"),
        ("host=h user=u password=hunter2 dbname=db", "looks like a URL"),
        ("sqlite:x.db", "looks like a URL"),
        ("sqlite:/x.db", "looks like a URL"),
        ("memory:", "looks like a URL"),
        ("x.db?mode=ro", "takes no \\?options"),
        ("/tmp/x.db?uri=true&nolock=1", "takes no \\?options"),
        ("~nosuchuser/x.db", "no path"),
        ("\ud800.db", "no path"),
    ],
)
def test_a_bad_url_is_refused_before_anything_happens(url: str, message: str) -> None:
    """By the store's constructor, with what to do instead."""
    with pytest.raises(StoreConfigurationError, match=message) as caught:
        SQLAlchemyCheckpointStore(url)
    assert not any(part in str(caught.value) for part in ("hunter2", "ter2", "hun/"))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("x.db", "x.db"),
        ("./a b/x.db", "a b/x.db"),
        ("/tmp/x.db", "/tmp/x.db"),
        ("sqlite:///x.db", "x.db"),
        ("sqlite:////tmp/x.db", "/tmp/x.db"),
        ("sqlite+aiosqlite:////tmp/x.db", "/tmp/x.db"),
        ("SQLite:////tmp/x.db", "/tmp/x.db"),
        ("~/x.db", "~/x.db"),
        ("what?.db", "what?.db"),
        ("a=b?.db", "a=b?.db"),
        ("//tmp/x.db", "//tmp/x.db"),
        ("postgres/x.db", "postgres/x.db"),
        ("postgresql.db", "postgresql.db"),
        ("memory", "memory"),
        ("a:b.db", "a:b.db"),
        ("a@b.db", "a@b.db"),
        ("./a:b@c.db", "a:b@c.db"),
        ("/tmp/postgresql://u:p@h", "/tmp/postgresql://u:p@h"),
        ("100%.db", "100%.db"),
        ("a%20b.db", "a%20b.db"),
        ("../x.db", "../x.db"),
        ("sqlite:///what..db", "what..db"),
        ("sqlite:///100%.db", "100%.db"),
    ],
)
def test_what_has_no_scheme_is_a_path(url: str, path: str) -> None:
    """As it stands, with nothing decoded but a leading `~`."""
    assert describe_database(url) == f"SQLite database {str(Path(path).expanduser().absolute())!r}"


@pytest.mark.parametrize(
    ("url", "description"),
    [
        ("postgresql://user:hunter2@host:5433/db", "PostgreSQL database 'db' at host:5433"),
        ("postgres://user:hunter2@host/db", "PostgreSQL database 'db' at host"),
        ("postgresql+asyncpg://host/db", "PostgreSQL database 'db' at host"),
        (
            "postgresql://u:hunter2@a:5432,b:5433/db?target_session_attrs=primary",
            "PostgreSQL database 'db' at a:5432,b:5433",
        ),
        ("postgresql+asyncpg://u@/db?host=a:5432&host=b:5433", "PostgreSQL database 'db' at a:5432,b:5433"),
        ("postgresql:///my%20db?host=/run/pg&password=hunter2", "PostgreSQL database 'my db' at /run/pg"),
    ],
)
def test_a_database_is_described_without_its_password(url: str, description: str) -> None:
    """In the words that every message uses."""
    assert describe_database(url) == description


async def test_postgres_urls_of_hosting_services_connect(postgres_url: str) -> None:
    """Keys of libpq are understood, the ones that asyncpg lacks are dropped, the rest reaches the server."""
    await upgrade_schema(postgres_url)
    extended = (
        postgres_url.replace("postgresql:", "postgres:")
        + "&sslmode=disable&channel_binding=prefer&gssencmode=disable&connect_timeout=3&application_name=mine"
        + "&options=-c%20search_path%3Dpublic"
    )
    mine = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mine'"
    async with SQLAlchemyCheckpointStore(extended) as store:
        await store.save_checkpoint(make_state())
        assert await raw.fetch(postgres_url, mine) == [(1,)]


@pytest.mark.parametrize("name", ["a b.db", "ü?#%41.db", 'it\'s "quoted".db', "%2e%2e.db", "a:b@c.db", "-x"])
async def test_any_file_name_is_that_file(tmp_path: Path, name: str) -> None:
    """No character of a path means anything but itself."""
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    await upgrade_schema(str(path))
    state = make_state()
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        await store.save_checkpoint(state)
        assert {one.name.removesuffix("-wal").removesuffix("-shm") for one in path.parent.iterdir()} == {name}
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        assert_same(await store.load_checkpoint("checkpoint"), state)


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """By the store and by the upgrade; neither makes it."""
    path = tmp_path / "absent" / "x.db"
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        with pytest.raises(StoreConfigurationError, match="no folder"):
            await store.list_checkpoints()
    with pytest.raises(StoreConfigurationError, match="no folder"):
        await upgrade_schema(str(path))
    assert not path.parent.exists()


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    """It is named as what it is."""
    async with SQLAlchemyCheckpointStore(str(tmp_path)) as store:
        with pytest.raises(StoreConfigurationError, match="not a file"):
            await store.list_checkpoints()
    with pytest.raises(StoreConfigurationError, match="not a file"):
        await upgrade_schema(str(tmp_path))


async def test_a_file_of_another_kind_is_refused_untouched(tmp_path: Path) -> None:
    """Not overwritten, not added to."""
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes\n" * 100)
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        for call in (store.list_checkpoints(), store.save_checkpoint(make_state())):
            with pytest.raises(StoreConfigurationError, match="no SQLite database"):
                await call
    with pytest.raises(StoreConfigurationError, match="no SQLite database"):
        await upgrade_schema(str(path))
    assert path.read_text() == "these are my notes\n" * 100


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_read_only_file_or_folder_is_a_configuration_error(sqlite_template: Path, what: str) -> None:
    """Nothing is written. File modes bind no root, so the child process becomes somebody else first."""
    folder = Path(tempfile.mkdtemp())
    path = Path(shutil.copyfile(sqlite_template, folder / "x.db"))
    before = path.read_bytes()
    code = f"""if True:
        import asyncio, os
        from workflows_mcp import SQLAlchemyCheckpointStore, StoreConfigurationError
        from workflows_mcp.testing import make_state
        async def main():
            store = SQLAlchemyCheckpointStore({str(path)!r})
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            try:
                await store.save_checkpoint(make_state())
            except StoreConfigurationError as error:
                print("refused:", error)
            await store.close()
        asyncio.run(main())"""
    try:
        if os.getuid() == 0:
            os.chown(path, 65534, 65534)
            os.chown(folder, 65534, 65534)
        path.chmod(0o444 if what == "file" else 0o644)
        folder.chmod(0o755 if what == "file" else 0o555)
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert child.stdout.startswith("refused: SQLite database"), child.stdout + child.stderr
        assert path.read_bytes() == before
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


async def test_a_role_that_may_only_read_is_a_configuration_error(postgres_url: str) -> None:
    """It lists and loads; what it may not do says which right is lacking."""
    await upgrade_schema(postgres_url)
    await raw.execute(postgres_url, "CREATE ROLE reader LOGIN", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    try:
        async with SQLAlchemyCheckpointStore(postgres_url.replace("postgres:@", "reader:@")) as store:
            assert await store.list_checkpoints() == []
            with pytest.raises(StoreConfigurationError, match="grant"):
                await store.save_checkpoint(make_state())
    finally:
        await raw.execute(postgres_url, "DROP OWNED BY reader", "DROP ROLE reader")


@pytest.mark.parametrize(
    "url", ["postgresql://user:hunter2@127.0.0.1:1/db", "postgresql:///db?host=/nowhere&password=hunter2"]
)
async def test_a_server_that_is_not_there_is_unavailable(url: str) -> None:
    """By the deadline, worth another try, and without the password."""
    async with SQLAlchemyCheckpointStore(url, settings=QUICK) as store:
        with pytest.raises(StoreUnavailableError, match="does not answer") as caught:
            await store.save_checkpoint(make_state())
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        await upgrade_schema(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@a:1,b/d?user=x", ["postgresql://u:p@a:1/d?user=x", "postgresql://u:p@b/d?user=x"]),
        ("postgresql://u@/d?host=a:1&host=b:2", ["postgresql://u@/d?host=a%3A1", "postgresql://u@/d?host=b%3A2"]),
        ("postgresql://a,b/d?port=1,2", ["postgresql://a/d?port=1", "postgresql://b/d?port=2"]),
        ("postgresql://[::1]:1,b/d?port=3", ["postgresql://[::1]:1/d?port=3", "postgresql://b/d?port=3"]),
        ("postgresql:///d?host=/run/pg", ["postgresql:/d?host=%2Frun%2Fpg"]),
        (
            "postgresql://a,b/d?target_session_attrs=prefer-standby",
            ["postgresql://a,b/d?target_session_attrs=prefer-standby"],
        ),
    ],
)
def test_each_host_of_a_cluster_has_a_url_of_its_own(url: str, expected: list[str]) -> None:
    """With all that the cluster's URL says; only where hosts are compared the driver is given all of them."""
    parts = urlsplit(url)
    options = {key: ",".join(values) for key, values in parse_qs(parts.query).items()}
    assert urls_of_hosts(parts, options) == expected


async def test_a_host_that_does_not_answer_leaves_time_for_the_next(postgres_url: str) -> None:
    """Frozen, or gone without a word: it takes connections, and says nothing."""
    await upgrade_schema(postgres_url)
    heard = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += 1
        while await reader.read(1):
            pass
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        login, at, hosts = urlsplit(postgres_url).netloc.rpartition("@")
        url = postgres_url.replace("host=", f"host=127.0.0.1:{port},")
        if hosts:
            url = urlsplit(postgres_url)._replace(netloc=f"{login}{at}127.0.0.1:{port},{hosts}").geturl()
        async with SQLAlchemyCheckpointStore(url, settings=Settings(deadline_seconds=2)) as store:
            await store.save_checkpoint(make_state())
    assert heard


async def test_a_cluster_without_the_kind_of_host_that_is_wanted_is_unavailable(postgres_url: str) -> None:
    """It may have one shortly: the error says what was looked for."""
    url = postgres_url + "&target_session_attrs=standby"
    async with SQLAlchemyCheckpointStore(url, settings=QUICK) as store:
        for call in (store.save_checkpoint(make_state()), store.list_checkpoints(), store.load_checkpoint("x")):
            with pytest.raises(StoreUnavailableError, match="target_session_attrs"):
                await call


async def test_a_database_that_is_not_there_is_a_configuration_error(postgres_url: str) -> None:
    """The server answered: trying again would not help."""
    url = postgres_url.replace("/test_", "/absent_")
    async with SQLAlchemyCheckpointStore(url) as store:
        with pytest.raises(StoreConfigurationError, match="does not exist"):
            await store.list_checkpoints()


async def test_a_value_that_the_driver_refuses_is_a_configuration_error(postgres_url: str) -> None:
    """Its own message, which may quote a value, is not shown."""
    async with SQLAlchemyCheckpointStore(postgres_url + "&sslmode=hunter2") as store:
        with pytest.raises(StoreConfigurationError, match="driver refuses") as caught:
            await store.list_checkpoints()
    assert "hunter2" not in str(caught.value)


# --- where the URL comes from


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"WORKFLOWS_DATABASE_URL": "a.db", "CHECKPOINT_DATABASE_URL": "b.db", "STORAGE_TYPE": "memory"}, "a.db"),
        ({"CHECKPOINT_DATABASE_URL": "b.db", "STORAGE_TYPE": "memory"}, "b.db"),
        ({"WORKFLOWS_DATABASE_URL": "", "CHECKPOINT_DATABASE_URL": "b.db"}, "b.db"),
        ({"STORAGE_TYPE": "memory", "CHECKPOINT_DB_PATH": "c.db"}, "memory://"),
        ({"STORAGE_TYPE": "sqlite", "CHECKPOINT_DB_PATH": "c.db", "SQLITE_PATH": "d.db"}, "d.db"),
        ({"STORAGE_TYPE": "sqlite", "CHECKPOINT_DB_PATH": "c.db"}, "c.db"),
        ({"STORAGE_TYPE": "sqlite"}, "checkpoints.db"),
        ({"CHECKPOINT_DB_PATH": "c.db", "SQLITE_PATH": "d.db"}, "c.db"),
        ({"SQLITE_PATH": "d.db"}, "d.db"),
    ],
)
def test_the_first_setting_that_is_set_wins(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str | None
) -> None:
    """In the documented order; an empty variable is not set."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.url == (expected if expected is not None else str(settings.default_path))
    assert settings.uses_default_path is (expected is None)


async def test_the_factory_makes_the_store_that_the_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory or database; a URL that is given wins."""
    monkeypatch.setenv("STORAGE_TYPE", "memory")
    assert isinstance(create_checkpoint_store(), InMemoryCheckpointStore)
    store = create_checkpoint_store("x.db")
    assert isinstance(store, SQLAlchemyCheckpointStore)
    await store.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("STORAGE_TYPE", "redis"), ("WORKFLOWS_DEADLINE_SECONDS", "soon"), ("WORKFLOWS_POOL_SIZE", "0")],
)
def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Not the value: it may be a secret that ended up in the wrong variable."""
    monkeypatch.setenv(name, value)
    with pytest.raises(StoreConfigurationError, match=name) as caught:
        create_checkpoint_store()
    assert f"'{value}'" not in str(caught.value)


def test_a_dotenv_file_is_read_only_when_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that lies in the current folder means nothing."""
    (tmp_path / ".env").write_text("WORKFLOWS_DATABASE_URL=evil.db\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings().uses_default_path
    assert load_settings(".env").url == "evil.db"
    monkeypatch.setenv("WORKFLOWS_DATABASE_URL", "good.db")
    assert load_settings(".env").url == "good.db"
    with pytest.raises(StoreConfigurationError, match="does not exist"):
        load_settings("absent.env")
    (tmp_path / "latin.env").write_bytes(b"WORKFLOWS_DATABASE_URL=hunter2\xe4\n")
    with pytest.raises(StoreConfigurationError, match="not UTF-8") as caught:
        load_settings("latin.env")
    assert caught.value.__context__ is None


# --- engines of the caller's own


async def test_a_callers_engine_is_used_and_left_open(database_url: str) -> None:
    """Whoever makes an engine disposes it; the store adds nothing to it."""
    url = f"sqlite+aiosqlite:///{database_url}" if not raw.is_postgres(database_url) else sqlalchemy_url(database_url)
    engine = create_async_engine(url)
    try:
        for _ in range(2):
            async with SQLAlchemyCheckpointStore(engine) as store:
                state = make_state()
                await store.save_checkpoint(state)
                assert_same(await store.load_checkpoint("checkpoint"), state)
                assert (await store.get_stats()).total_checkpoints == 1
                await store.vacuum()
                assert await store.delete_checkpoint("checkpoint")
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined] # its pool counts
    finally:
        await engine.dispose()


def sqlalchemy_url(url: str) -> str:
    """The same database as SQLAlchemy names it."""
    return url.replace("postgresql:", "postgresql+asyncpg:").replace("postgres:@", "postgres@")


async def test_an_engine_that_weakens_durability_is_warned_of_once(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By name, however often it is used."""
    if raw.is_postgres(database_url):
        engine = create_async_engine(
            sqlalchemy_url(database_url), connect_args={"server_settings": {"synchronous_commit": "off"}}
        )
    else:
        engine = create_async_engine(f"sqlite+aiosqlite:///{database_url}")
        event.listen(
            engine.sync_engine, "connect", lambda connection, _entry: connection.execute("PRAGMA synchronous = NORMAL")
        )
    async with SQLAlchemyCheckpointStore(engine) as store:
        await store.list_checkpoints()
        await store.list_checkpoints()
    await engine.dispose()
    warnings = [record.getMessage() for record in caplog.records if "acknowledged" in record.getMessage()]
    assert len(warnings) == 1
    assert "synchronous" in warnings[0]


@pytest.mark.parametrize(
    "url", ["sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:", "sqlite+aiosqlite:///file::memory:?uri=true"]
)
async def test_an_engine_for_a_database_in_memory_is_refused(url: str) -> None:
    """Everybody shares its one connection, and anybody's rollback would take acknowledged saves along."""
    engine = create_async_engine(url)
    with pytest.raises(StoreConfigurationError, match="in memory is not supported"):
        SQLAlchemyCheckpointStore(engine)
    await engine.dispose()


@pytest.mark.parametrize("trick", ["nolock=1", "immutable=1", "vfs=unix-none", "mode=rw&nolock=1"])
async def test_an_engine_without_locks_is_refused(trick: str) -> None:
    """Two of them would damage the file."""
    for url in (f"sqlite+aiosqlite:///file:x.db?uri=true&{trick}", f"sqlite+aiosqlite:///file:x.db%3F{trick}?uri=true"):
        with pytest.raises(StoreConfigurationError, match="own locks"):
            SQLAlchemyCheckpointStore(create_async_engine(url))


async def test_a_closed_store_says_so(database_url: str) -> None:
    """Instead of opening its connections again."""
    store = SQLAlchemyCheckpointStore(database_url)
    await store.list_checkpoints()
    await store.close()
    await store.close()
    for call in (store.list_checkpoints(), store.save_checkpoint(make_state()), store.vacuum()):
        with pytest.raises(StoreConfigurationError, match="closed"):
            await call


def test_both_dialects_say_how_to_upgrade() -> None:
    """With the file where there is one, quoted for a shell; where a password stood in the URL, it is to be given."""
    assert dialect_for("/tmp/a b.db").upgrade_command == "workflows-mcp db upgrade --database-url '/tmp/a b.db'"
    of_postgres = dialect_for("postgresql://u:hunter2@h/d?sslpassword=hunter2&sslmode=require").upgrade_command
    shown = "workflows-mcp db upgrade --database-url 'postgresql://u@h/d?sslmode=require'"
    assert of_postgres == f"PGPASSWORD=*** {shown}"
    assert dialect_for("postgresql://u@h/d?sslmode=require").upgrade_command == shown


@pytest.mark.parametrize(
    ("url", "typed"),
    [
        ("postgresql://u:hunter2@h:5433/d", "postgresql://u@h:5433/d"),
        ("postgresql://u:@h,i/d", "postgresql://u@h,i/d"),
        ("postgresql://h/d?password=hunter2", "postgresql://h/d"),
        ("postgresql:///d?host=/run/pg&password=hunter2", "postgresql:///d?host=/run/pg"),
        ("postgresql+asyncpg://u:hunter2@h/d?sslmode=require", "postgresql+asyncpg://u@h/d?sslmode=require"),
    ],
)
def test_a_command_to_type_leads_to_the_same_database(url: str, typed: str) -> None:
    """With nothing in the password's place, so that `PGPASSWORD` or `~/.pgpass` may give it; one that was is shown."""
    command = dialect_for(url).upgrade_command
    secret = ["PGPASSWORD=***"] if "hunter2" in url else []
    assert shlex.split(command) == [*secret, "workflows-mcp", "db", "upgrade", "--database-url", typed]
    assert dialect_for(typed).description == dialect_for(url).description


async def list_them(store: SQLAlchemyCheckpointStore) -> None:
    """Look into a database, and close it."""
    async with store:
        await store.list_checkpoints()


@pytest.mark.parametrize("name", ["\x1b[31mred.db", "a\nb'\\.db", "\x9b2J ü.db"])
def test_a_path_cannot_move_the_cursor_of_a_terminal(tmp_path: Path, name: str) -> None:
    """In no message, and in no command that it shows, which names the file to a shell all the same."""
    path = tmp_path / name
    with pytest.raises(SchemaOutOfDateError, match="create it with") as caught:
        asyncio.run(list_them(SQLAlchemyCheckpointStore(str(path))))
    assert str(caught.value).isprintable()
    word = dialect_for(str(path)).upgrade_command.partition("--database-url ")[2]
    shown = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, text=True, check=True)
    assert shown.stdout == str(path)


async def test_a_path_may_be_a_path(tmp_path: Path) -> None:
    """Or whatever else names a file, wherever a URL is taken."""

    class Named:
        """Names a file."""

        def __fspath__(self) -> str:
            return str(path)

    path = tmp_path / "x.db"
    await upgrade_schema(path)
    async with SQLAlchemyCheckpointStore(path) as store:
        await store.save_checkpoint(make_state())
    async with create_checkpoint_store(Named()) as other:
        assert await other.load_checkpoint("checkpoint") is not None
    await SchemaManager(path).check()
    assert describe_database(path) == describe_database(str(path))


@pytest.mark.parametrize("what", [b"hunter2.db", None, 5, os.scandir])
async def test_what_names_nothing_is_refused(what: Any) -> None:
    """By its type; it is not shown."""
    with pytest.raises(StoreConfigurationError, match="named by a text or a Path, not by") as caught:
        SQLAlchemyCheckpointStore(what)
    assert "hunter2" not in str(caught.value)


async def test_a_url_in_a_path_is_refused() -> None:
    """A `Path` has lost one of its slashes, and would be a file whose name holds the password."""
    with pytest.raises(StoreConfigurationError, match="looks like a URL") as caught:
        await upgrade_schema(Path("postgresql://user:hunter2@host/db"))
    assert "hunter2" not in str(caught.value)
