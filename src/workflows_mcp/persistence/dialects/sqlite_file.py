"""The file of a SQLite database, and the two beside it: there, made, and still the ones that were opened."""

import contextlib
import os
import sqlite3
import stat
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from workflows_mcp.errors import SchemaOutOfDateError, StoreConfigurationError
from workflows_mcp.persistence.forking import Inherited, keep_from_children

__all__ = ["Opened", "SQLiteFile", "look_at"]

_SECONDS_BETWEEN_LOOKS = 0.02
"""How often reads look whether they read the file that is there: a look takes 2 µs, a small load 30."""

_FIRST_PAGE_BYTES = 4096
"""The size of a database that has a journal mode and nothing else: what is left of one whose maker was killed."""

Identity: TypeAlias = tuple[int, int]
"""The device and the inode of a file."""

_INHERITED: set[Identity] = set()
"""The files that were open in the process that this one was forked from."""


class Opened(NamedTuple):
    """What a connection has opened.

    Attributes:
        name: The path by which it is looked for.
        real: The same without symbolic links: the files beside it are named after that one.
        database: The file.
        wal: Its -wal file; None: there was none.
        shm: Its -shm file; None: there was none.
    """

    name: str
    real: str
    database: Identity | None
    wal: Identity | None
    shm: Identity | None


class _Connection(sqlite3.Connection):
    """A connection that can be told from one that is closed or gone."""

    def __init__(self, *arguments: Any, of: "weakref.WeakSet[_Connection]", **options: Any) -> None:  # noqa: ANN401 - the driver's
        super().__init__(*arguments, **options)
        self._of = of
        of.add(self)

    def close(self) -> None:
        super().close()
        self._of.discard(self)


class SQLiteFile(Inherited):
    """A database file. Whatever happens to it while it is open is an error, before the next write is acknowledged.

    SQLite itself goes on writing into files that were deleted or replaced; see https://sqlite.org/howtocorrupt.html.

    Attributes:
        path: Where it is.
        description: Names the database in messages.

    Args:
        path: Where it is, absolute.
        description: Names the database in messages.
        upgrade_command: What a user runs to make it.
    """

    def __init__(self, path: Path, *, description: str, upgrade_command: str) -> None:
        self.path = path
        self._name = str(path)
        self.description = description
        self._upgrade_command = upgrade_command
        self._identity: Identity | None = None
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        keep_from_children(self)

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:  # noqa: ANN401 - the driver's
        """Make one of the driver's connections: its `factory`."""
        return _Connection(*arguments, of=self._connections, **options)

    def was_inherited(self) -> list[object]:
        """See `Inherited`. A child that closed an inherited connection could do harm, and so could one that opens more.

        SQLite remembers in the process which locks it has on a file, and a child has none of its parent's. A connection
        that it opens would take them for granted; then somebody else closes what he takes for the last connection,
        and deletes the -wal file that the child writes to (howtocorrupt, "carrying an open database across a fork").
        """
        connections = list(self._connections)
        if connections and self._identity is not None:
            _INHERITED.add(self._identity)
        return [*connections]

    def require(self) -> None:
        """Raise an error that says what to do when there is no file to be opened."""
        try:
            found = os.stat(self._name)  # noqa: PTH116 - as below
        except OSError:
            found = None
        if found is None:
            if self._identity is not None:
                raise self._replaced()
            self._require_folder()
            raise SchemaOutOfDateError(f"there is no {self.description} yet; create it with: {self._upgrade_command}")
        if not stat.S_ISREG(found.st_mode):
            raise StoreConfigurationError(f"{self._name!r} is not a file; name a SQLite database file")
        identity = found.st_dev, found.st_ino
        if identity in _INHERITED:
            raise StoreConfigurationError(
                f"{self.description} was open in the process that this one was forked from, and SQLite's locks do not "
                "outlive that; close all stores before a fork, or start processes by spawn or forkserver"
            )
        if self._identity is None:
            self._identity = identity
        self._compare(found, self._identity)

    def opened(self) -> Opened:
        """What a connection has just opened."""
        opened = look_at(self._name)
        # Not the one that was there before it was opened: there is no telling which one it has.
        if opened.database != self._identity:
            raise self._replaced()
        return opened

    def require_same(self, opened: Opened) -> None:
        """Raise an error when what a connection writes is not, or not safely, in the file of that name any more."""
        try:
            found = os.stat(opened.name)  # noqa: PTH116 - half the time that pathlib takes, at every save
        except OSError:
            raise self._replaced() from None
        self._compare(found, opened.database)
        if self._identity is None:
            self._identity = opened.database  # by a connection of somebody else's engine
        if opened.database != self._identity:
            raise self._replaced()
        for suffix, identity in (("-wal", opened.wal), ("-shm", opened.shm)):
            if identity is not None and _identify(opened.real + suffix) != identity:
                raise StoreConfigurationError(
                    f"the {suffix} file of {self.description} was deleted or replaced while it was open, and what "
                    "this call wrote may not outlive a crash; stop all programs that use the database, in an orderly "
                    "way: the last one puts into the database what only it still sees"
                )

    def looking(self, opened: Opened) -> Callable[[], None]:
        """The same for those who ask often: looks only now and then."""
        next_look = 0.0

        def look() -> None:
            nonlocal next_look
            now = time.monotonic()
            if now >= next_look:
                self.require_same(opened)
                next_look = now + _SECONDS_BETWEEN_LOOKS

        return look

    def create(self) -> bool:
        """Create an empty file that only its owner may read; SQLite gives its -wal file the same mode.

        Returns:
            False, when there is something of that name.
        """
        self._require_folder()
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        except OSError as error:
            reason = error.strerror
        else:
            return True
        raise StoreConfigurationError(f"{self.description} cannot be created: {reason}")

    def is_new(self) -> bool:
        """Whether nothing was ever put into the file: it is missing or empty, or its maker was stopped too early."""
        try:
            return not self.path.exists() or (self.path.is_file() and _holds_nothing(self.path))
        except OSError:
            return False  # what is wrong with it is found, and said, when it is used

    def _compare(self, found: os.stat_result, identity: Identity | None) -> None:
        if (found.st_dev, found.st_ino) != identity:
            raise self._replaced()
        if found.st_nlink > 1:
            # By another name it has another -wal file, and nobody's locks hold there (howtocorrupt, "multiple links").
            raise StoreConfigurationError(
                f"{self.description} has {found.st_nlink} names (hard links); opened by two of them it would be "
                "damaged, so keep one: to copy it, use: workflows-mcp db backup"
            )

    def _replaced(self) -> StoreConfigurationError:
        return StoreConfigurationError(
            f"{self.description} was deleted or replaced while it was open, and what this call wrote or read is not "
            "in the file of that name now; open the store again"
        )

    def _require_folder(self) -> None:
        if not self.path.parent.is_dir():
            raise StoreConfigurationError(
                f"there is no folder {str(self.path.parent)!r} for {self.description}; create it first"
            )


def look_at(name: str) -> Opened:
    """What a connection opens, or has opened, by a path."""
    real = os.path.realpath(name)
    return Opened(name, real, _identify(name), _identify(real + "-wal"), _identify(real + "-shm"))


def _identify(name: str) -> Identity | None:
    try:
        found = os.stat(name)  # noqa: PTH116 - as above
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _holds_nothing(path: Path) -> bool:
    """Whether a file is empty, or a database without tables, also in its -wal file."""
    size = path.stat().st_size
    if size == 0 or size > _FIRST_PAGE_BYTES:
        return size == 0
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=0.1)) as connection:
            found = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()
    except sqlite3.Error:  # what is wrong with it is found, and said, when it is used
        return False
    return bool(found == (0,))
