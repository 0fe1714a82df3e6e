"""Roles with no more rights than they need, on a real server, with the SQL that the command prints."""

import itertools
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote

import asyncpg
import pytest

from tests.faults.calls import READS, WRITES, make_ready
from tests.migrations import raw
from tests.persistence.examined import examined, problems
from workflows_mcp import (
    CheckpointStoreError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    upgrade_schema,
)
from workflows_mcp.persistence.dialects import postgresql_held
from workflows_mcp.persistence.dialects.quoting import identifier
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.testing import make_state

SCHEMA = 'the "%flows"\nof us'

_numbers = itertools.count()


def plain(url: str) -> str:
    """A URL without the schema, which is no other driver's to know."""
    return url.partition("&schema=")[0]


@dataclass(frozen=True)
class World:
    """A database with its roles.

    Attributes:
        admin: Its URL as a superuser.
        owner: A role's URL, and so on.
        names: Those of the three roles, whose URLs are these.
    """

    admin: str
    owner: str
    app: str
    reader: str
    names: tuple[str, str, str]

    def grants(self, *, prompts: bool = False) -> str:
        """The SQL for the roles."""
        owner, app, reader = self.names
        return SchemaManager(self.admin).grants(owner=owner, app=app, readonly=reader, prompts=prompts)

    async def apply(self, *, prompts: bool = False) -> list[str]:
        """Run the SQL, as a superuser; the warnings that it gives."""
        warnings: list[str] = []
        connection = await asyncpg.connect(plain(self.admin))
        try:
            connection.add_log_listener(
                lambda _, message: warnings.append(message.message) if message.severity == "WARNING" else None
            )
            await connection.execute(self.grants(prompts=prompts))
        finally:
            await connection.close()
        return warnings


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    """A database with three roles that may do nothing yet, in a schema that is not there."""
    number = f"{os.getpid()}_{next(_numbers)}"
    names = (f"owner {number}", f'app "{number}"', f"$do$ reader's {number}")
    quoted = [identifier(name) for name in names]
    await raw.execute(postgres_url, *(f"CREATE ROLE {name} LOGIN" for name in quoted))
    urls = [postgres_url.replace("postgres:", f"{quote(name)}:", 1) for name in names]
    schema = f"&schema={quote(SCHEMA)}"
    owner, app, reader = (url + schema for url in urls)
    yield World(postgres_url + schema, owner, app, reader, names)
    await raw.execute(postgres_url, *(f"DROP OWNED BY {name} CASCADE" for name in quoted))
    await raw.execute(postgres_url, *(f"DROP ROLE {name}" for name in quoted))


@pytest.fixture
async def granted(world: World) -> World:
    """The same at head, with all rights."""
    assert await world.apply() == []
    await upgrade_schema(world.owner)
    assert await world.apply() == []
    return world


async def test_the_app_makes_every_call_and_passes_the_examination(granted: World) -> None:
    """With the rights to rows alone; an upgrade at start-up, at head, is no change."""
    async with SQLAlchemyCheckpointStore(granted.app) as store:
        await make_ready(store)
        for call in [*READS.values(), *WRITES.values()]:
            await call(store)
        await store.vacuum()
    await upgrade_schema(granted.app)
    await SchemaManager(granted.app).check()
    assert problems(await examined(granted.app)) == set()


async def test_the_app_needs_no_right_for_the_foreign_key(granted: World) -> None:
    """The database looks for bases and their deltas by the rights of the table's owner."""
    async with SQLAlchemyCheckpointStore(granted.app) as store:
        for name in ("base", "delta"):
            await store.save_checkpoint(make_state(name))
    link = "UPDATE {table} SET base_checkpoint_id = 'base', base_digest = 'd' WHERE checkpoint_id = 'delta'"
    app = plain(granted.app)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await raw.execute(app, in_schema(link))
    await raw.execute(app, in_schema("UPDATE {table} SET state_digest = 'd' WHERE checkpoint_id = 'base'"))
    await raw.execute(app, in_schema(link))
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await raw.execute(app, in_schema("DELETE FROM {table} WHERE checkpoint_id = 'base'"))
    await raw.execute(app, in_schema("DELETE FROM {table}"))


async def test_the_app_ends_what_it_may_have_left_behind(granted: World) -> None:
    """A role may end processes of its own: what was lost with a connection must not write any more."""
    lost, other = await asyncpg.connect(plain(granted.app)), await asyncpg.connect(plain(granted.app))
    try:
        [who] = await lost.fetch(postgresql_held._WHO)
        [[ended]] = await other.fetch(postgresql_held._END, who[0], who[1])
        assert ended
    finally:
        lost.terminate()
        await other.close()


FORBIDDEN = [
    "DROP TABLE {table}",
    "ALTER TABLE {table} ADD COLUMN more int",
    "TRUNCATE {table}",
    "CREATE TABLE {schema}.more (id int)",
    "CREATE TRIGGER nothing BEFORE INSERT ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "UPDATE {schema}.workflows_alembic_version SET version_num = '0001'",
    "DROP SCHEMA {schema} CASCADE",
    "ALTER SCHEMA {schema} RENAME TO other",
]
"""What nobody may do who only saves and reads."""


def in_schema(statement: str) -> str:
    """A statement with the names of the schema and the table."""
    schema = identifier(SCHEMA)
    return statement.format(schema=schema, table=f"{schema}.checkpoints")


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_the_app_changes_nothing_but_rows(granted: World, statement: str) -> None:
    """Whatever gets hold of its password."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await raw.execute(plain(granted.app), in_schema(statement))


async def test_what_the_app_itself_has_made_is_taken_over(world: World) -> None:
    """Who began with one role has a schema and tables of that role, and an owner's rights cannot be revoked."""
    [[database]] = await raw.fetch(plain(world.admin), "SELECT current_database()")
    await raw.execute(plain(world.admin), f"GRANT CREATE ON DATABASE {database} TO {identifier(world.names[1])}")
    await upgrade_schema(world.app)
    async with SQLAlchemyCheckpointStore(world.app) as store:
        await make_ready(store)
    assert await world.apply() == []
    connection = await asyncpg.connect(plain(world.app))
    try:
        await connection.execute(
            in_schema(f"GRANT CREATE ON SCHEMA {{schema}} TO {identifier(world.names[1])}")
        )  # warns
        for statement in FORBIDDEN:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(in_schema(statement))
    finally:
        await connection.close()
    async with SQLAlchemyCheckpointStore(world.app) as store:
        assert len(await store.list_checkpoints()) > 5


@pytest.mark.parametrize("schema", [None, "guide's"])
async def test_a_table_of_the_guides_goes_to_the_owner_who_adopts_it(world: World, schema: str | None) -> None:
    """It has no revision yet, and `db upgrade` is nobody's but its owner's."""
    owner, app, reader = world.names
    admin = plain(world.admin)
    place = identifier(schema or "public")
    words = [f"SET LOCAL search_path TO {place}", *raw.GUIDE_DDL]
    words.append("INSERT INTO checkpoints VALUES ('old', 'flow', 1.5, false, '{\"context\": {}}')")
    await raw.execute(admin, f"CREATE SCHEMA IF NOT EXISTS {place}", "; ".join(words))
    urls = [plain(url) + (f"&schema={quote(schema)}" if schema else "") for url in (world.owner, world.app)]
    script = SchemaManager(urls[0]).grants(owner=owner, app=app, readonly=reader)
    await raw.execute(admin, script)
    await upgrade_schema(urls[0])
    await raw.execute(admin, script)
    async with SQLAlchemyCheckpointStore(urls[1]) as store:
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["old"]


async def test_a_table_of_somebody_elses_is_given_to_nobody(world: World) -> None:
    """One that only bears our name: the script fails, and changes nothing."""
    owner, app, _ = world.names
    admin = plain(world.admin)
    await raw.execute(admin, "CREATE TABLE public.checkpoints (thread_id text, checkpoint bytea)")
    script = SchemaManager(admin).grants(owner=owner, app=app)
    with pytest.raises(asyncpg.RaiseError, match="is not ours"):
        await raw.execute(admin, script)
    asked = "SELECT relowner::regrole::text, relacl IS NULL FROM pg_class WHERE relname = 'checkpoints'"
    assert await raw.fetch(admin, asked) == [("postgres", True)]


@pytest.mark.parametrize(
    "statement",
    ["GRANT {owner} TO {app}", "ALTER DATABASE {database} OWNER TO {app}", "ALTER ROLE {app} SUPERUSER"],
)
async def test_rights_of_an_owner_that_nothing_revokes_are_warned_of(granted: World, statement: str) -> None:
    """They are not rights to a table, but what a role is."""
    owner, app, _ = granted.names
    [[database]] = await raw.fetch(plain(granted.admin), "SELECT current_database()")
    words = statement.format(owner=identifier(owner), app=identifier(app), database=database)
    await raw.execute(plain(granted.admin), words)
    try:
        warnings = await granted.apply()
    finally:
        await raw.execute(plain(granted.admin), f"ALTER DATABASE {database} OWNER TO postgres")
    assert warnings
    assert all(f'the role "{app}" can still drop the tables' in warning for warning in warnings)


async def test_only_the_owner_upgrades_and_others_are_told_so(world: World) -> None:
    """In an error that names what to do, and changes nothing."""
    with pytest.raises(StoreConfigurationError, match=r"(?s)CREATE SCHEMA .* AUTHORIZATION"):
        await upgrade_schema(world.app)
    await world.apply()
    with pytest.raises(StoreConfigurationError, match="the owner of the tables changes the schema") as error:
        await upgrade_schema(world.app)
    assert "workflows-mcp db grants" in str(error.value)
    await SchemaManager(world.owner).upgrade("0001")
    await world.apply()
    with pytest.raises(StoreConfigurationError, match="the owner of the tables changes the schema"):
        await upgrade_schema(world.app)
    assert await SchemaManager(world.owner).current() == "0001"


async def test_a_reader_counts_and_reads_no_content(granted: World) -> None:
    """Nor who holds a lease, by which one could pretend to be that one; and writes nothing."""
    async with SQLAlchemyCheckpointStore(granted.app) as store:
        await make_ready(store)
    async with SQLAlchemyCheckpointStore(granted.reader) as store:
        assert (await store.get_stats()).total_checkpoints > 5
        assert (await store.take_census()).checkpoints > 5
        assert (await store.take_pulse()).leased == 3
        for name, call in {**READS, **WRITES}.items():
            if name != "stats":
                with pytest.raises(CheckpointStoreError, match="does not permit it"):
                    await call(store)
    for column in ("payload", "pause_prompt", "lease_owner", "*"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await raw.fetch(plain(granted.reader), in_schema(f"SELECT {column} FROM {{table}}"))
    shown = "checkpoint_id, workflow_name, run_id, status, created_at, is_paused, stored_bytes"
    assert len(await raw.fetch(plain(granted.reader), in_schema(f"SELECT {shown} FROM {{table}}"))) > 5


async def test_a_reader_of_prompts_lists(granted: World) -> None:
    """For as long as the script says so: run again without the word, it takes them back."""
    await granted.apply(prompts=True)
    async with SQLAlchemyCheckpointStore(granted.app) as store:
        await make_ready(store)
    async with SQLAlchemyCheckpointStore(granted.reader) as store:
        assert len(await store.list_checkpoints()) > 5
        assert await store.list_abandoned() == []
        assert (await store.get_stats()).total_checkpoints > 5
        for call in [READS["load"], *WRITES.values()]:
            with pytest.raises(CheckpointStoreError, match="does not permit it"):
                await call(store)
    await granted.apply()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await raw.fetch(plain(granted.reader), in_schema("SELECT pause_prompt FROM {table}"))


async def test_who_may_not_vacuum_is_told_so(granted: World) -> None:
    """PostgreSQL itself only warns, and does nothing."""
    schema, app = map(identifier, (SCHEMA, granted.names[1]))
    await raw.execute(plain(granted.admin), f"REVOKE MAINTAIN ON {schema}.checkpoints FROM {app}")
    async with SQLAlchemyCheckpointStore(granted.app) as store:
        with pytest.raises(StoreConfigurationError, match="does not permit it"):
            await store.vacuum()
    async with SQLAlchemyCheckpointStore(granted.owner) as store:
        await store.vacuum()


async def test_running_it_again_takes_back_what_is_too_much(granted: World) -> None:
    """The script says what the rights are, not what is added to them."""
    schema, app = map(identifier, (SCHEMA, granted.names[1]))
    await raw.execute(plain(granted.admin), f"GRANT ALL ON {schema}.checkpoints TO {app}, PUBLIC")
    await granted.apply()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await raw.execute(plain(granted.app), f"TRUNCATE {schema}.checkpoints")
