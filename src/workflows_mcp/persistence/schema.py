"""How the schema of a database gets from one revision to another, and whether it is what the revisions make of it."""

import asyncio
import functools
import io
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import BigInteger, Connection, Text, column, func, inspect, select, table

from workflows_mcp.documents import document
from workflows_mcp.errors import (
    CheckpointStoreError,
    SchemaOutOfDateError,
    StoreConfigurationError,
)
from workflows_mcp.persistence.dialects import Dialect, Password, dialect_for
from workflows_mcp.persistence.dialects.roles import Roles
from workflows_mcp.persistence.dialects.thread import CallThread
from workflows_mcp.persistence.dialects.triggers import find_triggers
from workflows_mcp.persistence.models import VERSION_TABLE, CheckpointRecord
from workflows_mcp.persistence.revisions import (
    HEAD,
    REVISIONS,
    check_known,
    check_schema,
    read_revision,
    refuse_newer,
    refuse_upward,
)
from workflows_mcp.persistence.statements import METADATA_FIELDS
from workflows_mcp.settings import Settings, load_settings

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["SchemaManager", "connect_and_run", "find_differences", "upgrade_schema"]

T = TypeVar("T")

_KNOWS_NO_RUNS = "0001"
"""The revision whose table has no place for a run's id and status."""

_KNOW_NO_DELTAS = ("0001", "0002")
"""Those whose table has no place for what a checkpoint is a delta of."""

_MATTERS = {
    "add_table": "a table is missing",
    "remove_table": "a table too many",
    "add_column": "a column is missing",
    "remove_column": "a column too many",
    "add_index": "an index is missing",
    "remove_index": "an index too many",
    "add_constraint": "a constraint is missing",
    "remove_constraint": "a constraint too many",
    "add_fk": "a foreign key is missing",
    "remove_fk": "a foreign key too many",
    "modify_type": "a column of another type",
    "modify_nullable": "a column that takes NULL, or no longer does",
    "modify_default": "a column with another default",
}
"""What is the matter, by Alembic's word for its cure."""

_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it is doing in a module's globals."""


def _unlock() -> None:
    """Begin anew in a forked process: whoever holds the lock is a thread of the parent's, and lets go of its own."""
    global _ONE_AT_A_TIME  # noqa: PLW0603 - a lock that is held for good cannot be mended
    _ONE_AT_A_TIME = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


class SchemaManager:
    """Brings a database's schema to a revision. Any number of processes may do so at once.

    Every change is one transaction: it is done whole or not at all, also when the process is killed.

    Args:
        url: A SQLite file's path, as a text or as a `Path`, or a `sqlite:///` or `postgresql://` URL.
        settings: Read from the environment when None; their URL is not used.
        password: See `SQLAlchemyCheckpointStore`.

    Raises:
        StoreConfigurationError: The URL names no database that is supported.
    """

    def __init__(
        self, url: str | os.PathLike[str], *, settings: Settings | None = None, password: Password | None = None
    ) -> None:
        self._settings = settings if settings is not None else load_settings()
        self._dialect = dialect_for(url, self._settings, password)

    @property
    def description(self) -> str:
        """Names the database in messages; holds no password."""
        return self._dialect.description

    @property
    def is_new(self) -> bool:
        """Whether the database is a file that is missing, or that nothing was ever put into."""
        return self._dialect.is_new()

    async def current(self) -> str | None:
        """The revision that the database is at; None when it has no schema of ours."""
        return await self._in_thread(self._read_revision)

    async def upgrade(self, revision: str = "head") -> None:
        """Bring the schema up to a revision. A SQLite file that is missing is created, its folder is not.

        A database that holds the guide's `checkpoints` table is adopted with its rows.

        Raises:
            SchemaTooNewError: The database is at a revision that this version does not know.
            StoreConfigurationError: There is a `checkpoints` table of another origin, or no such revision; or a
                SQLite file's table, which is made anew, has columns of somebody else's.
        """
        check_known(revision, ("head", *REVISIONS))
        self._dialect.create_database()

        def work(connection: Connection) -> None:
            from alembic import command

            refuse_newer(self._read_revision(connection), self.description)
            command.upgrade(self._config(connection, is_upward=True), revision)

        await self._in_thread(work)

    async def downgrade(self, revision: str, *, drop_data: bool = False) -> None:
        """Bring the schema down to an earlier revision, or to `base`: none at all.

        Args:
            revision: `base` or an earlier revision.
            drop_data: Whether `base` may drop a table that holds checkpoints.

        Raises:
            CheckpointStoreError: The table holds checkpoints and `drop_data` is False, or a payload is
                damaged or sealed.
            StoreConfigurationError: There is no such revision below; or a SQLite file's table, which is made anew, has
                columns of somebody else's.
            SchemaTooNewError: The database is at a revision that this version does not know.
        """
        check_known(revision, ("base", *REVISIONS))

        def work(connection: Connection) -> None:
            from alembic import command

            current = self._read_revision(connection)
            refuse_newer(current, self.description)
            refuse_upward(current, revision, self.description)
            command.downgrade(self._config(connection, drop_data=drop_data), revision)

        await self._in_thread(work)

    async def count_cut_off(self, revision: str) -> int:
        """How many checkpoints a downgrade would cut off from their runs, which can then no longer be continued.

        Args:
            revision: Where the downgrade would lead to; at `base` there are no checkpoints that could be cut off.
        """

        def work(connection: Connection) -> int:
            current = self._read_revision(connection)
            if revision != _KNOWS_NO_RUNS or current in {None, _KNOWS_NO_RUNS} or current not in REVISIONS:
                return 0
            rows = table(CheckpointRecord.__tablename__, column("run_id"), schema=self._dialect.schema)
            has_table = inspect(connection).has_table(rows.name, schema=self._dialect.schema)
            of_runs = select(func.count()).select_from(rows).where(rows.c.run_id.is_not(None))
            return (connection.scalar(of_runs) or 0) if has_table else 0

        return await self._in_thread(work)

    async def measure_deltas(self, revision: str) -> tuple[int, int]:
        """How many deltas a downgrade would write out as whole states, and the bytes of these as plain JSON.

        Args:
            revision: Where the downgrade would lead to; on the way to `base`, nothing is left in the end.
        """

        def work(connection: Connection) -> tuple[int, int]:
            current = self._read_revision(connection)
            if revision not in _KNOW_NO_DELTAS or current in {None, *_KNOW_NO_DELTAS} or current not in REVISIONS:
                return 0, 0
            base, size = column("base_checkpoint_id", Text), column("full_bytes", BigInteger)
            rows = table(CheckpointRecord.__tablename__, base, size, schema=self._dialect.schema)
            if not inspect(connection).has_table(rows.name, schema=self._dialect.schema):
                return 0, 0
            of_deltas = select(func.count(), func.sum(rows.c.full_bytes)).where(rows.c.base_checkpoint_id.is_not(None))
            count, plain_bytes = connection.execute(of_deltas).one()
            return count, int(plain_bytes or 0)

        return await self._in_thread(work)

    async def check(self) -> None:
        """Make sure that the schema is at head and the table looks as this version expects.

        Raises:
            SchemaOutOfDateError: The schema is missing, behind, or not as the revisions make it.
            SchemaTooNewError: The database is at a revision that this version does not know.
        """

        def work(connection: Connection) -> list[str]:
            from alembic import command
            from alembic.util import AutogenerateDiffsDetected

            check_schema(connection, self._dialect)
            with self._dialect.within_schema(connection):
                triggers = find_triggers(connection, CheckpointRecord.__tablename__)
            try:
                command.check(self._config(connection))
            except AutogenerateDiffsDetected as error:
                return [*_named(error.diffs), *triggers]
            return triggers

        differences = await self._in_thread(work)
        if differences:
            raise SchemaOutOfDateError(
                f"{self.description} is at revision {HEAD}, but its checkpoints table was changed by other means "
                f"({', '.join(differences)}); undo that, restore a backup as {document('operations')} says, or "
                "copy the checkpoints into a new database"
            )

    def grants(self, *, owner: str, app: str, readonly: str | None = None, prompts: bool = False) -> str:
        """SQL that gives PostgreSQL roles what they need, and no more; nothing of it is run.

        Args:
            owner: Owns the tables and upgrades the schema.
            app: Saves and reads checkpoints.
            readonly: Reads what a listing shows, but for prompts; None: nobody does.
            prompts: Let `readonly` read the prompts, too: without them it can count, and not list.

        Raises:
            StoreConfigurationError: A name cannot be a role's, two are the same, prompts are for nobody, or the
                database has no roles.
        """
        if prompts and readonly is None:
            raise StoreConfigurationError("prompts are for the role that only reads; name one (--readonly ROLE)")
        # What people are asked quotes what a run works on: it is content, as a payload is.
        columns = [name for name in METADATA_FIELDS if prompts or name != "pause_prompt"]
        return self._dialect.grants(
            Roles(owner, app, readonly),
            table=CheckpointRecord.__tablename__,
            version_table=VERSION_TABLE,
            columns=columns,
        )

    def _read_revision(self, connection: Connection) -> str | None:
        return read_revision(connection, self._dialect.schema)

    def _config(self, connection: Connection, *, drop_data: bool = False, is_upward: bool = False) -> "Config":
        from alembic.config import Config

        config = Config(stdout=io.StringIO())  # what Alembic prints is for its own command
        config.set_main_option("script_location", str(_find_migrations()).replace("%", "%%"))
        config.attributes.update(connection=connection, dialect=self._dialect, drop_data=drop_data, is_upward=is_upward)
        return config

    async def _in_thread(self, work: Callable[[Connection], T]) -> T:
        """Do some work with Alembic, in a thread with an event loop of its own.

        There it may wait for another thread that does the same, whatever loop the caller is in.
        """
        # A daemon's: it may wait for a lock, and an interrupted program ends all the same. Nothing is left half done.
        thread = CallThread("workflows-mcp-schema")
        try:
            return await thread.call(functools.partial(self._run, work, asyncio.get_running_loop()))
        except Exception as error:
            failure = None if isinstance(error, CheckpointStoreError) else self._dialect.explain(error)
            if failure is None:
                raise
        finally:
            thread.stop()
        # Raised here, outside the handler, so that no chained driver error can show a row.
        raise failure.error

    def _run(self, work: Callable[[Connection], T], callers_loop: asyncio.AbstractEventLoop) -> T:
        with _ONE_AT_A_TIME:
            return asyncio.run(connect_and_run(self._dialect, self._settings, work, asked_in=callers_loop))


async def connect_and_run(
    dialect: Dialect,
    settings: Settings,
    work: Callable[[Connection], T],
    *,
    asked_in: asyncio.AbstractEventLoop | None = None,
) -> T:
    """Do some work on a connection that is ready to change the schema, and has no deadline.

    Args:
        dialect: The database's.
        settings: See `Dialect.create_engine`.
        work: The work.
        asked_in: See `Dialect.create_engine`.
    """
    engine = dialect.create_engine(settings, patient=True, asked_in=asked_in)
    try:
        async with engine.connect() as connection:
            await dialect.prepare_schema_change(connection)
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


async def upgrade_schema(
    url: str | os.PathLike[str] | None = None, *, settings: Settings | None = None, password: Password | None = None
) -> None:
    """Bring a database to the newest schema; creates a SQLite file that is missing. Safe to call at every start.

    Args:
        url: A SQLite file's path, as a text or as a `Path`, or a `sqlite:///` or `postgresql://` URL; None: as the
            settings say.
        settings: Read from the environment when None.
        password: See `SQLAlchemyCheckpointStore`.

    Raises:
        StoreConfigurationError: The URL is wrong, or there is a `checkpoints` table of another origin.
        SchemaTooNewError: The database is ahead of this version.
        StoreUnavailableError: The database cannot be reached.
    """
    settings = settings if settings is not None else load_settings()
    await SchemaManager(url if url is not None else settings.url, settings=settings, password=password).upgrade()


def find_differences(connection: Connection, dialect: Dialect) -> list[str]:
    """What in the table is not as the revisions make it, its triggers and rules included; only reads."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from workflows_mcp.persistence.indexes import indexed_metadata

    def is_ours(_item: object, name: str | None, kind: str, _reflected: bool, _compared: object) -> bool:  # noqa: FBT001 - Alembic's signature
        return kind != "table" or name in CheckpointRecord.metadata.tables

    options = {"include_object": is_ours, "version_table": VERSION_TABLE}
    with dialect.within_schema(connection):
        with _ONE_AT_A_TIME:
            context = MigrationContext.configure(connection, opts=options)
            named = _named(compare_metadata(context, indexed_metadata()))
        return [*named, *find_triggers(connection, CheckpointRecord.__tablename__)]


def _named(steps: Iterable[Any]) -> list[str]:
    """What is the matter, by some of Alembic's steps, each a tuple, or a list of tuples for one column."""
    kinds = {str(one[0] if isinstance(one, tuple) else one[0][0]) for one in steps}
    return sorted(_MATTERS.get(kind, kind.replace("_", " ")) for kind in kinds)


def _find_migrations() -> Path:
    """The revisions' folder: inside the package in a wheel, at the root in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_migrations", package.parents[1] / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise StoreConfigurationError("the schema's revisions are missing from this installation; install it again")
