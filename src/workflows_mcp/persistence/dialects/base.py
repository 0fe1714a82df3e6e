"""What the store needs of a database, and each database does in its own way."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from sqlalchemy import Column, ColumnElement, Connection, Executable, FromClause, Select, Table, true
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.types import TypeEngine

from workflows_mcp.persistence.checks import Report
from workflows_mcp.persistence.copies import Copy, Copying
from workflows_mcp.persistence.dialects.errors import Failure
from workflows_mcp.persistence.dialects.held import Compiled, HeldConnection, Row
from workflows_mcp.persistence.dialects.roles import Roles
from workflows_mcp.settings import Settings

__all__ = ["ENGINE_LOG", "Dialect", "Look", "Replaced"]

ENGINE_LOG = "workflows-mcp"
"""How SQLAlchemy names our own engines in its log."""

# At DEBUG, SQLAlchemy logs the rows that it fetches, whatever `hide_parameters` says, and they hold states and prompts.
logging.getLogger(f"sqlalchemy.engine.Engine.{ENGINE_LOG}").addFilter(lambda record: record.levelno > logging.DEBUG)

Replaced: TypeAlias = Callable[[Any], Mapping[str, Any]]
"""What an `INSERT … ON CONFLICT DO UPDATE` sets, by column, given the `INSERT`."""

Look: TypeAlias = Callable[[Connection, Report], None]
"""Looks at something over a connection, and reports on it."""


class Dialect(ABC):
    """One database, named by a URL: how to reach it, speak to it and understand its errors.

    All that is known of the differences between the databases is in the classes derived from this one.

    Attributes:
        system: The database's name, as metrics and spans have it.
        description: Names the database in messages; holds no password.
        upgrade_command: What a user runs to bring its schema to head.
        is_bound_to_loop: Whether a connection can be closed only by the event loop that opened it.
        seconds_between_deletions: How long the deletion of many rows pauses after each batch, for others to write.
        schema: Where in the database the tables are; None: where names without a schema lead.
    """

    is_bound_to_loop: ClassVar[bool] = False
    seconds_between_deletions: ClassVar[float] = 0.0

    system: ClassVar[str]
    schema: str | None = None
    description: str
    upgrade_command: str

    @abstractmethod
    def create_engine(
        self, settings: Settings, *, patient: bool = False, asked_in: asyncio.AbstractEventLoop | None = None
    ) -> AsyncEngine:
        """Make an engine in AUTOCOMMIT: a single statement is a transaction of its own.

        Args:
            settings: Deadline, pool size and the like.
            patient: For work without a deadline (schema changes, vacuum): no timeouts, no pool.
            asked_in: The event loop in which a caller's password function is called; None: the engine's own.
        """

    @abstractmethod
    def explain(self, error: Exception) -> Failure | None:
        """Say what a driver's error means, by its code; None: it is no error of the database's.

        The error's own text is left out, since it may quote what was being stored.
        """

    @abstractmethod
    def database_bytes(self) -> Executable:
        """A SELECT of what the table and its indexes, or the file, take up, in bytes."""

    def log_bytes(self) -> int | None:
        """The size of the write-ahead log, where that is a file beside the database."""
        return None

    def free_bytes(self) -> int | None:
        """The space that is left where the database is, where this machine can tell."""
        return None

    @abstractmethod
    async def find_weakness(self, connection: AsyncConnection) -> str | None:
        """Say what makes a commit on this connection less than durable; None: nothing does."""

    async def whereabouts(self, connection: AsyncConnection) -> object:  # noqa: ARG002 - for files
        """What a connection, in a transaction, reads and writes, where that can be taken away under it."""
        return None

    def require_there(self, whereabouts: object) -> None:  # noqa: B027 - nothing can be taken away by default
        """Raise an error when that is not what the URL names any more."""

    def interrupt(self, driver: object) -> None:  # noqa: B027 - a cancelled call has ended its statement by default
        """End a statement that nobody waits for any more, where that does not end with its call.

        Args:
            driver: The driver's connection, which may be closed.
        """

    @abstractmethod
    async def examine(self, settings: Settings, report: Report, look: Look, *, deep: bool) -> None:
        """Report what is to be known of the database, without changing anything in it or beside it.

        Args:
            settings: What it would be used with; no answer is waited for longer than their deadline.
            report: Where to tell; what has been told stays when an error is raised.
            look: Looks at what is the same in every database; called when one can be read at all.
            deep: Whether to read all that is stored, however long it takes.

        Raises:
            Exception: The driver's own, to be explained; nothing more can be found out.
        """

    def limited(self, connection: Connection, seconds: float | None) -> AbstractContextManager[None]:  # noqa: ARG002 - for drivers that know no limit
        """End the queries of an examination when they take too long, where the driver does not do so by itself.

        Args:
            connection: What `look` was called with.
            seconds: How long all queries within may take together; None: as long as they like.
        """
        return nullcontext()

    @abstractmethod
    def grants(self, roles: Roles, *, table: str, version_table: str, columns: Sequence[str]) -> str:
        """A script that gives each role no more than it needs.

        Args:
            roles: Who does what.
            table: Of the checkpoints.
            version_table: Of the revision.
            columns: Those that the role which only reads may read.

        Raises:
            StoreConfigurationError: The database has no roles.
        """

    def start_up_notices(self) -> Iterable[tuple[int, str]]:
        """What to log when a store first uses the database: a level of `logging`, and a text."""
        return ()

    @abstractmethod
    async def vacuum(self, connection: AsyncConnection) -> None:
        """Give space back and refresh the planner's statistics.

        Args:
            connection: One outside a transaction.
        """

    def backup_commands(self, file: Path) -> list[str]:  # noqa: ARG002 - for servers
        """The commands that back up the database into a file, to be typed; none where `back_up` does it."""
        return []

    def restore_commands(self, file: Path) -> list[str]:  # noqa: ARG002 - for servers
        """The commands that put such a backup into a new database, to be typed; none where `restore` does it."""
        return []

    def back_up(self, file: Path, *, overwrite: bool, copying: Copying) -> Copy:
        """Copy the database into a file; see `backup_database`. Takes its time, and is to be called in a thread."""
        raise NotImplementedError

    def restore(self, file: Path, *, refuse: Callable[[str | None], None], copying: Copying) -> Copy:
        """Put a backup in the place of the database; see `restore_database`. As above.

        Args:
            file: The backup.
            refuse: Raises an error when a backup of a revision is of no use.
            copying: Is told how far it is.
        """
        raise NotImplementedError

    @abstractmethod
    def create_database(self) -> bool:
        """Create an empty database where there is none and the database allows it; True when one was created."""

    @abstractmethod
    def is_new(self) -> bool:
        """Whether the database is a file that nothing was ever put into, so that a schema may be put there unasked."""

    @abstractmethod
    async def prepare_schema_change(self, connection: AsyncConnection) -> None:
        """Set what must be set before a transaction begins that changes the schema."""

    @abstractmethod
    def schema_change(self, connection: Connection, *, is_upward: bool = False) -> AbstractContextManager[None]:
        """A transaction that only one process at a time is in, for all revisions of one upgrade.

        Names without a schema mean ours in it.

        Args:
            connection: Prepared for it.
            is_upward: Whether to create the schema that the tables are to be in, where it is missing.
        """

    @property
    def naming(self) -> Mapping[str, Any]:
        """The execution options with which an engine's statements name our tables, where `schema` says so."""
        return {}

    def within_schema(self, connection: Connection) -> AbstractContextManager[None]:  # noqa: ARG002 - for those that have schemas
        """A place in which names without a schema mean ours, for questions on any connection."""
        return nullcontext()

    @abstractmethod
    def saving(self, table: Table, place: Mapping[str, ColumnElement[Any]]) -> Mapping[str, Executable]:
        """The statements that insert rows, replacing those with the same key, by names that are the dialect's own.

        Args:
            table: Where to insert.
            place: Columns that a row's values leave out: what they are in a new row. An existing one keeps its own,
                but for a lease that a fenced row begins or ends.
        """

    @abstractmethod
    async def save(
        self, connection: AsyncConnection, saving: Mapping[str, Compiled], rows: Sequence[Row]
    ) -> Collection[str]:
        """Do what `HeldConnection.save` does in the ordinary way of SQLAlchemy, on anybody's connection.

        Args:
            connection: In a transaction.
            saving: What the statements of `saving` compile to.
            rows: What to save.
        """

    @abstractmethod
    def putting(self, table: Table, columns: Mapping[str, TypeEngine[Any]], replaced: Replaced | None) -> Executable:
        """The statement with which `put` inserts rows.

        Args:
            table: Where to insert.
            columns: What a row's values are, in their order, which is that of the table; the payload stands last.
            replaced: What is set in a row whose key is there, given the statement; None: that is an error.
        """

    @abstractmethod
    async def put(self, connection: AsyncConnection, statement: Compiled, rows: Sequence[Row]) -> int:
        """Do what `HeldConnection.put` does, on anybody's connection.

        Args:
            connection: In a transaction.
            statement: What one of `putting` compiles to.
            rows: What to insert.
        """

    @abstractmethod
    async def identity(self, connection: AsyncConnection) -> object:
        """Tells the table that a connection, in a transaction, uses from any other table anywhere."""

    def keeping_bases(self, connection: AsyncConnection) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 - for those that may not
        """A place in which foreign keys hold, on anybody's connection.

        Args:
            connection: Not in a transaction yet.
        """
        return nullcontext()

    @property
    def tables_referring(self) -> Executable | None:
        """The names of other tables with foreign keys to `table`; None: whoever is refused knows whose key it is."""
        return None

    def transaction(self, connection: AsyncConnection) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 - for those who need one
        """A transaction in which a statement that writes is never carried out after its call was given up.

        Args:
            connection: Anybody's; one that it has begun is the one.
        """
        return nullcontext()

    @abstractmethod
    def rows_of(self, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
        """Any number of rows as something to select from; they are parameters, as `rows_value` makes them."""

    @abstractmethod
    def rows_value(self, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
        """The parameters of `rows_of`."""

    @abstractmethod
    def beginning(self, column: Column[bytes], count: int) -> ColumnElement[str]:
        """The first bytes in a column, so many, in hexadecimal digits."""

    @abstractmethod
    def matches_any(self, column: Column[str], parameter: str) -> ColumnElement[bool]:
        """Whether a column is one of several values, which are one parameter: one statement for any number of them."""

    @abstractmethod
    def any_value(self, values: Collection[str]) -> object:
        """What that parameter is given."""

    def is_among(self, key: Column[str], found: Select[Any]) -> ColumnElement[bool]:
        """Whether a key is one of those that a query finds, a few: each is looked for by the key's index."""
        return key.in_(found)

    def is_unlocked(self, key: Column[str], condition: ColumnElement[bool]) -> ColumnElement[bool]:  # noqa: ARG002 - for those that lock rows
        """What a statement that deletes the rows that meet a condition asks besides, where one may be locked alone.

        Then it leaves out those that somebody else has locked. Whatever else is locked is waited for.

        Args:
            key: The table's primary key.
            condition: Which rows are to be deleted.
        """
        return true()

    def those_unlocked(self, key: Column[str], rows: FromClause) -> FromClause:  # noqa: ARG002 - for those that lock rows
        """The same for a statement that updates what some rows name: these rows, less what somebody else has locked.

        Args:
            key: The table's primary key.
            rows: They have a column of its name.
        """
        return rows

    @abstractmethod
    async def hold(
        self, engine: AsyncEngine, saving: Mapping[str, Compiled], settings: Settings, *, is_shared: bool = False
    ) -> HeldConnection:
        """Open a connection that is held; it takes up no place in the engine's pool.

        Args:
            engine: What `create_engine` made of the settings.
            saving: What the statements of `saving` compile to.
            settings: Whose deadline is also that of a statement.
            is_shared: Whether others wait behind one that waits for a lock, where that is on a row alone.
        """
