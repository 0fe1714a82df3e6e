"""Checkpoints in a schema of somebody else's PostgreSQL database."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from tests.faults.calls import READS, WRITES, make_ready
from tests.migrations import raw
from tests.migrations.processes import fork_alembic
from tests.persistence.examined import examined, problems
from workflows_mcp import (
    SchemaOutOfDateError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    create_checkpoint_store,
    upgrade_schema,
)
from workflows_mcp.persistence.dialects.quoting import literal
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.settings import Settings
from workflows_mcp.testing import make_state

ODD = 'Wörk "flows": %s $1 $$ $do$ {x} \\ it\'s'
"""A name that means something to everybody on its way, if it is not quoted."""

HOSTILE = (
    "CREATE SCHEMA hostile",
    "CREATE TABLE hostile.checkpoints (checkpoint_id text)",
    "CREATE TABLE hostile.workflows_alembic_version (version_num text)",
    "INSERT INTO hostile.workflows_alembic_version VALUES ('9999')",
)


@asynccontextmanager
async def opened(url: str, schema: str | None, **settings: object) -> AsyncIterator[SQLAlchemyCheckpointStore]:
    """A store over a schema."""
    chosen = Settings(database_schema=schema, **settings)  # type: ignore[arg-type] # any of them
    async with SQLAlchemyCheckpointStore(url, settings=chosen) as store:
        yield store


async def tables(url: str) -> set[tuple[str, str]]:
    """All tables of a database, with their schemas."""
    found = await raw.fetch(
        url, "SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_)'"
    )
    return {(schema, table) for schema, table in found}


async def set_path(url: str, path: str) -> None:
    """Set the `search_path` of all sessions of a database that begin from now on."""
    [[name]] = await raw.fetch(url, "SELECT current_database()")
    await raw.execute(url, f"ALTER DATABASE {name} SET search_path TO {path}")


async def test_every_call_and_command_works_in_a_schema_of_any_name(postgres_url: str) -> None:
    """Nothing is made outside of it, going down and up again included."""
    settings = Settings(database_schema=ODD)
    schema = SchemaManager(postgres_url, settings=settings)
    await schema.upgrade()
    await schema.check()
    async with opened(postgres_url, ODD) as store:
        await make_ready(store)
        for call in [*READS.values(), *WRITES.values()]:
            await call(store)
        await store.vacuum()
        size = (await store.get_stats()).database_bytes
    [[expected]] = await raw.fetch(
        postgres_url, "SELECT pg_total_relation_size(oid) FROM pg_class WHERE relname = 'checkpoints'"
    )
    assert size == expected
    found = await examined(postgres_url, database_schema=ODD)
    assert problems(found) == set()
    assert ODD in found["database"].found or repr(ODD) in found["database"].found
    assert {name for name, _ in await tables(postgres_url)} == {ODD}
    await schema.downgrade("0001")
    await schema.upgrade()
    await schema.downgrade("base", drop_data=True)
    assert await tables(postgres_url) == {(ODD, "workflows_alembic_version")}


async def test_two_schemas_of_a_database_never_see_each_other(postgres_url: str) -> None:
    """Nor does a store without a schema see either; also where no `search_path` can be set, as through PgBouncer."""
    for name in ("one", "two", None):
        await upgrade_schema(postgres_url, settings=Settings(database_schema=name))
    for name in ("one", "two", None):
        async with opened(postgres_url, name, pgbouncer=True) as store:
            await store.save_checkpoint(make_state(f"of {name}", run_id="run"))
            await store.save_checkpoint(make_state("of all", context={"schema": str(name)}))
    async with opened(postgres_url, "one", pgbouncer=True) as one:
        assert await one.delete_run("run") == 1
        assert await one.trim_per_workflow(1) == 0
    for name, ids in (("one", {"of all"}), ("two", {"of two", "of all"}), (None, {"of None", "of all"})):
        async with opened(postgres_url, name, pgbouncer=True) as store:
            states = [state async for state in store.iter_checkpoints()]
            assert {state.checkpoint_id for state in states} == ids
            assert {state.context["schema"] for state in states if state.checkpoint_id == "of all"} == {str(name)}


async def test_a_table_of_somebody_elses_is_left_alone(postgres_url: str) -> None:
    """One of our names in another schema is neither adopted nor in the way; the guide's in ours is taken over."""
    await raw.execute(postgres_url, "CREATE TABLE public.checkpoints (their_own int)", "CREATE SCHEMA ours")
    await set_path(postgres_url, "ours")
    await raw.make_guide_database(postgres_url, [])
    await raw.execute(
        postgres_url, "INSERT INTO ours.checkpoints VALUES ('old', 'flow', 1.5, false, '{\"context\": {}}')"
    )
    await set_path(postgres_url, "public")
    await upgrade_schema(postgres_url, settings=Settings(database_schema="ours"))
    async with opened(postgres_url, "ours") as store:
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["old"]
    columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'"
    assert await raw.fetch(postgres_url, columns) == [("their_own",)]


async def test_tables_of_our_names_in_front_of_the_path_do_no_harm(postgres_url: str) -> None:
    """Tables are named with their schema in every statement, the upgrade's and the examination's among them."""
    await raw.execute(postgres_url, *HOSTILE)
    await set_path(postgres_url, "hostile, ours")
    settings = Settings(database_schema="ours", pgbouncer=True)
    await upgrade_schema(postgres_url, settings=settings)
    async with opened(postgres_url, "ours", pgbouncer=True) as store:
        await make_ready(store)
        for call in [*READS.values(), *WRITES.values()]:
            await call(store)
        await store.vacuum()
        size = (await store.get_stats()).database_bytes
    whole = "SELECT pg_total_relation_size('ours.checkpoints'), pg_stat_get_vacuum_count('ours.checkpoints'::regclass)"
    assert await raw.fetch(postgres_url, whole) == [(size, 1)]
    assert problems(await examined(postgres_url, database_schema="ours", pgbouncer=True)) == set()
    assert await raw.fetch(postgres_url, "SELECT count(*) FROM hostile.checkpoints") == [(0,)]


async def test_an_operator_that_fits_better_is_not_called(postgres_url: str) -> None:
    """In the place of PostgreSQL's own, it would run with the store's rights (CVE-2018-1058)."""
    settings = Settings(database_schema="ours")
    await upgrade_schema(postgres_url, settings=settings)
    await raw.execute(
        postgres_url,
        "CREATE FUNCTION public.equal(text, varchar) RETURNS bool LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''called''; END'",
        "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = varchar, FUNCTION = public.equal)",
    )
    async with opened(postgres_url, "ours") as store:
        await store.save_checkpoint(make_state("one"))
        assert await store.load_checkpoint("one") is not None
        assert await store.list_checkpoints("one") == []


async def test_an_engine_of_somebody_elses_is_told_by_the_setting_or_tells_itself(postgres_url: str) -> None:
    """Its own options stay as they were."""
    await upgrade_schema(postgres_url, settings=Settings(database_schema="ours"))
    plain = create_async_engine("postgresql+asyncpg://", connect_args={"dsn": postgres_url})
    mapped = create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"dsn": postgres_url},
        execution_options={"schema_translate_map": {None: "ours"}},
    )
    try:
        told = SQLAlchemyCheckpointStore(plain, settings=Settings(database_schema="ours"))
        await told.save_checkpoint(make_state("one"))
        assert "schema_translate_map" not in plain.get_execution_options()
        telling = SQLAlchemyCheckpointStore(mapped)
        await telling.save_checkpoint(make_state("two"))
        assert len(await told.list_checkpoints()) == 2
        with pytest.raises(SchemaOutOfDateError, match="no checkpoints table yet"):
            await SQLAlchemyCheckpointStore(plain).list_checkpoints()
    finally:
        await plain.dispose()
        await mapped.dispose()


async def test_a_schema_can_be_named_in_the_url_which_comes_first(postgres_url: str) -> None:
    """It belongs to this database alone; the command that an error names has it too."""
    url = f"{postgres_url}&schema={quote(ODD)}"
    other = Settings(database_schema="other")
    with pytest.raises(SchemaOutOfDateError) as error:
        await create_checkpoint_store(url, settings=other).list_checkpoints()
    assert f"schema={quote(ODD, safe='')}" in str(error.value)
    await upgrade_schema(url, settings=other)
    async with opened(url, "other") as store:
        await store.save_checkpoint(make_state("one"))
    assert {schema for schema, _ in await tables(postgres_url)} == {ODD}


async def test_alembics_own_command_keeps_to_the_schema(postgres_url: str, tmp_path: Path) -> None:
    """It creates the schema on the way up alone."""
    url = f"{postgres_url}&schema={quote(ODD)}"
    ours = f"SELECT FROM pg_namespace WHERE nspname = {literal(ODD)}"
    for words, is_there in ((("current",), False), (("upgrade", "head"), True), (("check",), True)):
        done = await fork_alembic(tmp_path, url, *words)
        assert done.returncode == 0, done.stderr
        assert bool(await raw.fetch(postgres_url, ours)) is is_there
    assert {schema for schema, _ in await tables(postgres_url)} == {ODD}


@pytest.mark.parametrize("name", ["", "a" * 64, "ü" * 32, "pg_mine", "information_schema", "null\0", "\udcff"])
async def test_a_name_that_no_schema_can_have_is_refused_at_once(name: str) -> None:
    """PostgreSQL would cut off a long one, and know the schema by another name."""
    with pytest.raises(StoreConfigurationError, match="the schema name"):
        SQLAlchemyCheckpointStore("postgresql://nobody@nowhere.invalid/none", settings=Settings(database_schema=name))


async def test_a_file_has_no_schemas(tmp_path: Path) -> None:
    """Whoever sets one means another database; nothing is created."""
    settings = Settings(database_schema="ours")
    with pytest.raises(StoreConfigurationError, match="unset WORKFLOWS_DATABASE_SCHEMA"):
        SQLAlchemyCheckpointStore(tmp_path / "new.db", settings=settings)
    with pytest.raises(StoreConfigurationError, match="unset WORKFLOWS_DATABASE_SCHEMA"):
        await upgrade_schema(tmp_path / "new.db", settings=settings)
    assert list(tmp_path.iterdir()) == []


async def test_without_a_schema_the_path_decides_as_ever(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A role's or a database's own `search_path` is where the tables are made and found."""
    caplog.set_level(logging.WARNING)
    await raw.execute(postgres_url, "CREATE SCHEMA mine")
    await set_path(postgres_url, "mine, public")
    await upgrade_schema(postgres_url)
    async with opened(postgres_url, None) as store:
        await store.save_checkpoint(make_state("one"))
        await store.vacuum()
        assert (await store.get_stats()).total_checkpoints == 1
    await SchemaManager(postgres_url).check()
    assert {schema for schema, _ in await tables(postgres_url)} == {"mine"}
    assert caplog.records == []


async def test_without_settings_at_connect_the_roles_own_lock_timeout_lets_others_go_on(postgres_url: str) -> None:
    """Through PgBouncer a store cannot set it: a row that somebody has locked would hold up all saves behind it."""
    await upgrade_schema(postgres_url)
    [[name]] = await raw.fetch(postgres_url, "SELECT current_database()")
    await raw.execute(postgres_url, f"ALTER DATABASE {name} SET lock_timeout = '100ms'")
    async with opened(postgres_url, None, pgbouncer=True, deadline_seconds=3) as store:
        await store.save_checkpoint(make_state("locked"))
        other = await asyncpg.connect(postgres_url)
        try:
            await other.execute("BEGIN; SELECT FROM checkpoints WHERE checkpoint_id = 'locked' FOR UPDATE")
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(store.save_checkpoint(make_state("locked")))
                await asyncio.sleep(0.05)
                async with asyncio.timeout(1):
                    await asyncio.gather(*(store.save_checkpoint(make_state(f"free{n}")) for n in range(5)))
                assert not waiting.done()
                await other.execute("ROLLBACK")
        finally:
            await other.close()
