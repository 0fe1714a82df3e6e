"""What can be known of a SQLite file and of the place where it lies.

The file itself is never opened but by SQLite: closing it would drop all locks that this process holds on it, through
whatever connection, as POSIX has it.
"""

import logging
import os
import shlex
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from urllib.parse import quote

from sqlalchemy import Connection, NullPool, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection

from workflows_mcp.documents import document
from workflows_mcp.persistence.checks import Report
from workflows_mcp.persistence.dialects.base import Look
from workflows_mcp.persistence.dialects.file_system import mount_under
from workflows_mcp.persistence.dialects.sqlite_connecting import text_of
from workflows_mcp.persistence.dialects.sqlite_errors import explain
from workflows_mcp.persistence.dialects.sqlite_header import is_in_wal_mode, is_sqlite, read_header
from workflows_mcp.persistence.dialects.sqlite_limits import ended_after
from workflows_mcp.persistence.dialects.sqlite_place import (
    look_at_disk,
    look_at_modes,
    look_at_rights,
    look_for_file,
)
from workflows_mcp.persistence.dialects.sqlite_processes import users_of
from workflows_mcp.persistence.sizes import shown_bytes
from workflows_mcp.settings import Settings

__all__ = ["SQLiteHealth", "has_reset_bug", "start_up_notices"]

_LARGE_WAL_BYTES = 128 * 2**20
"""Twice of what a -wal file is cut to when it is next begun anew."""

_MANY_FREE_BYTES = 64 * 2**20

_QUICK_CHECK_SECONDS = 5.0

_MOST_BUSY_SECONDS = 2.0
"""How long another process' lock is waited for. In WAL mode only one that changes the whole file holds readers up."""

_HELD_CONNECTIONS = 2
"""What a store opens besides its pool."""

_FILES_OF_A_CONNECTION = 2
"""The database and its -wal file; all connections of a process share one -shm file."""

_RESET_FIXED = ((3, 44, 6), (3, 45, 0)), ((3, 50, 7), (3, 51, 0)), ((3, 51, 3), (4, 0, 0))
"""Versions of SQLite, from and below, that do not spoil a file when it is written to and checkpointed at one moment."""


def has_reset_bug(version: tuple[int, int, int]) -> bool:
    """Whether a version of SQLite has the WAL-reset bug, https://sqlite.org/wal.html#walresetbug."""
    return not any(first <= version < end for first, end in _RESET_FIXED)


def start_up_notices(path: Path) -> Iterable[tuple[int, str]]:
    """What to log when a store first uses a file: see `Dialect.start_up_notices`."""
    mount = mount_under(path)
    if mount is not None and mount.is_shared:
        notice = (
            f"it lies on a network or shared file system ({mount.kind}), where its locks cannot be relied on, so that "
            "processes on several machines may damage it; move it to a local disk, or use PostgreSQL"
        )
        yield logging.WARNING, notice
    # Not a warning: most distributions' SQLite is older, nobody could reproduce it in the wild, and a line at each
    # start that cannot be acted on teaches people not to read them.
    if has_reset_bug(sqlite3.sqlite_version_info):
        notice = (
            f"SQLite {sqlite3.sqlite_version} may, very rarely, damage a file that several processes write to; use one "
            "of 3.51.3 or later"
        )
        yield logging.INFO, notice


class SQLiteHealth:
    """Examines one file. To be called in a thread: it waits for the disk.

    Args:
        path: Where it is, or should be; a symbolic link is followed, as SQLite does.
        create_command: What creates its schema.
        settings: What it would be used with.
        report: Where to tell.
    """

    def __init__(self, path: Path, create_command: str, settings: Settings, report: Report) -> None:
        # SQLite names the files beside it after the file itself, not after a link to it.
        self.path = Path(os.path.realpath(path))
        # The folder in the user's data directory, that command creates too.
        self._has_default_path = settings.uses_default_path and path == settings.default_path
        self._create_command = "workflows-mcp db upgrade" if self._has_default_path else create_command
        if os.path.islink(path) and not os.path.exists(self.path):  # noqa: PTH110, PTH114 - in a folder that is closed to us, pathlib raises an error
            # A file is never created through a link.
            self._create_command = f"workflows-mcp db upgrade --database-url {shlex.quote(str(self.path))}"
        self._settings = settings
        self._report = report
        self._wal = Path(f"{self.path}-wal")

    def examine(self, look: Look, *, deep: bool) -> None:
        """Look at everything. See `Dialect.examine`."""
        self._look_at_version()
        look_at_disk(self.path, self._report)
        if not look_for_file(self.path, self._create_command, self._report, has_folder=self._has_default_path):
            return
        header = read_header(self.path)
        if header == b"":
            self._report.problem("file", "it is empty", f"create the schema: {self._create_command}")
            return
        if header is not None and not is_sqlite(header):
            self._report.problem("file", "it is no SQLite database at all", "check the path")
            return
        look_at_modes(self.path, self._report)
        look_at_rights(self.path, self._report)
        is_wal = None if header is None else is_in_wal_mode(header)
        self._look_at_durability(is_wal=is_wal)
        self._look_at_connections()
        try:
            self._look_inside(look, may_be_wal=is_wal is not False, deep=deep)
        finally:  # who locks a file that cannot be looked into is what is to be known
            self._look_at_wal()
            self._look_at_users()

    def _look_at_version(self) -> None:
        version = f"{sqlite3.sqlite_version}, from Python {sys.version.split()[0]}"
        if has_reset_bug(sqlite3.sqlite_version_info):
            self._report.notice(
                "SQLite",
                f"{version}: it has the WAL-reset bug, which may, very rarely, damage a file when one process writes "
                "at the instant in which another one checkpoints",
                "use one with SQLite 3.51.3 or later (also fixed: 3.50.7, 3.44.6), or write from one process only; "
                "keep backups",
            )
        else:
            self._report.ok("SQLite", version)

    def _look_at_durability(self, *, is_wal: bool | None) -> None:
        if is_wal is None:
            self._report.notice(
                "journal mode", "not known: the file's header cannot be read", "check the file's permissions"
            )
        elif is_wal:
            self._report.ok("journal mode", "WAL: readers and a writer do not wait for one another")
        else:
            self._report.notice(
                "journal mode",
                "not WAL: a reader and a writer wait for one another",
                f"nothing, if the schema is ours: a store turns it to WAL; or: {self._create_command}",
            )
        level = self._settings.sqlite_synchronous
        if level == "NORMAL":
            self._report.notice(
                "synchronous",
                "NORMAL: a power cut may lose the last acknowledged checkpoints, as at 296 of 600 simulated ones",
                "unset WORKFLOWS_SQLITE_SYNCHRONOUS; FULL lost nothing",
            )
        else:
            self._report.ok("synchronous", f"{level}: what is acknowledged outlives a power cut")

    def _look_at_connections(self) -> None:
        """Whether a store can open what its settings allow it."""
        wanted = self._settings.pool_size + _HELD_CONNECTIONS
        files = wanted * _FILES_OF_A_CONNECTION + 1
        most = _most_open_files()
        found = (
            f"a store opens up to {wanted:,} (WORKFLOWS_POOL_SIZE and {_HELD_CONNECTIONS}), with {files:,} open files"
            + ("" if most is None else f"; a process may have {most:,}")
        )
        if most is not None and files > most:
            self._report.notice("connections", found, "lower WORKFLOWS_POOL_SIZE, or raise the limit: ulimit -n")
        elif self._settings.pool_size == 1:
            self._report.notice("connections", found, "raise WORKFLOWS_POOL_SIZE: one long query holds up the others")
        else:
            self._report.ok("connections", found)

    def _look_inside(self, look: Look, *, may_be_wal: bool, deep: bool) -> None:
        """Look at what the file holds.

        Reading a file in WAL mode creates a -wal and a -shm file beside it. Where there are none nobody uses the file,
        and it is read as though it could not change; if it did, it is read again.
        """
        state = self._state()
        if may_be_wal and not self._wal.exists():
            report = Report()
            try:
                self._look_through(report, look, deep=deep, query={"immutable": "1"})
            except Exception:
                if self._state() == state:
                    raise
            if self._state() == state:
                self._report.extend(report)
                return
        self._look_through(self._report, look, deep=deep, query={"mode": "ro"})

    def _state(self) -> tuple[bool, int, int]:
        found = self.path.stat()
        return self._wal.exists(), found.st_mtime_ns, found.st_ino

    def _look_through(self, report: Report, look: Look, *, deep: bool, query: dict[str, str]) -> None:
        begun = time.perf_counter()
        with self._connect(query) as connection:
            driver = cast("sqlite3.Connection", connection.connection.driver_connection)
            with ended_after(driver, None if deep else self._settings.deadline_seconds):
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar_one()
                report.ok("answers", f"in {(time.perf_counter() - begun) * 1000:.1f} ms, opening it included")
                self._look_at_pages(connection, report)
            self._quick_check(driver, report, deep=deep)
            look(connection, report)

    @contextmanager
    def _connect(self, query: dict[str, str]) -> Iterator[Connection]:
        url = URL.create("sqlite", database="file:" + quote(str(self.path)), query={**query, "uri": "true"})
        engine = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            poolclass=NullPool,
            connect_args={"timeout": min(self._settings.deadline_seconds, _MOST_BUSY_SECONDS)},
        )

        @event.listens_for(engine, "connect")
        def configure(connection: DBAPIConnection, _entry: object) -> None:
            # Text that is no UTF-8 is damage of its row alone, as it is to a store.
            cast("sqlite3.Connection", connection).text_factory = text_of

        with engine.connect() as connection:
            # A schema that somebody tampered with must not run functions.
            connection.exec_driver_sql("PRAGMA trusted_schema = OFF")
            yield connection

    def _look_at_pages(self, connection: Connection, report: Report) -> None:
        pages, size, free, vacuum = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("page_count", "page_size", "freelist_count", "auto_vacuum")
        )
        ways = {0: "none", 1: "full", 2: "incremental"}
        whole, unused = shown_bytes(pages * size), shown_bytes(free * size)
        found = f"{whole}, of which {unused} free; auto_vacuum {ways.get(vacuum, vacuum)}"
        if free * size > max(_MANY_FREE_BYTES, pages * size // 2):
            report.notice("size", found, "give the free pages back: await store.vacuum(), which takes the write lock")
        else:
            report.ok("size", found)

    def _quick_check(self, driver: sqlite3.Connection, report: Report, *, deep: bool) -> None:
        """Have SQLite read every page, within a time."""
        try:
            with ended_after(driver, None if deep else _QUICK_CHECK_SECONDS):
                found = [str(row[0]) for row in driver.execute("PRAGMA quick_check(3)")]
        except (sqlite3.Error, UnicodeDecodeError) as error:
            failure = explain(error, "the file")
            if failure is None:
                raise
            if failure.is_late:
                report.notice(
                    "integrity",
                    f"not known: the file takes longer than {_QUICK_CHECK_SECONDS:g} s to read",
                    "add --deep",
                )
            else:
                report.error("integrity", failure.error)
            return
        if found == ["ok"]:
            report.ok("integrity", "SQLite's quick_check finds nothing wrong")
        else:
            text = "; ".join(line.replace("\n", " ") for line in found)
            cure = f"the file is damaged: restore a backup in its place ({document('operations')})"
            report.problem("integrity", text, cure)

    def _look_at_wal(self) -> None:
        try:
            size = self._wal.stat().st_size
        except OSError:
            self._report.ok("-wal file", "there is none")
            return
        if size > _LARGE_WAL_BYTES:
            self._report.notice(
                "-wal file",
                f"{shown_bytes(size)}: something has been reading for so long that it could not be begun anew",
                "look for a process that keeps a transaction open",
            )
        else:
            self._report.ok("-wal file", shown_bytes(size))

    def _look_at_users(self) -> None:
        users = users_of(self.path)
        if users is None:
            return
        found = ", ".join(f"{user.name} ({user.pid})" for user in users) or "nobody that this user may see"
        writers = [user for user in users if user.holds_write_lock]
        if writers:
            names = ", ".join(f"{user.name} ({user.pid})" for user in writers)
            self._report.notice(
                "used by",
                f"{found}; the write lock was held by {names} each time that it was looked at",
                "if saves fail since the database is locked, look what that process does",
            )
        else:
            self._report.ok("used by", found)


def _most_open_files() -> int | None:
    """How many files this process may have open; None: any number, or nobody tells."""
    try:
        import resource  # some systems have none
    except ImportError:
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if most == resource.RLIM_INFINITY else most
