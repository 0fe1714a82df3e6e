"""Errors that a database has its part in, each with something at hand that it must not tell."""

import asyncio
import contextlib
import sqlite3
from urllib.parse import urlsplit

import asyncpg

from tests.faults.leaking import CANARY, WORKFLOW, Scene, given, raises
from tests.faults.servers import new_server
from workflows_mcp import (
    CheckpointStoreError,
    SchemaOutOfDateError,
    SchemaTooNewError,
    StoreConfigurationError,
    StoreFullError,
    StoreUnavailableError,
    WorkflowExecutor,
)
from workflows_mcp.persistence.dialects import RowsThereError
from workflows_mcp.persistence.revisions import HEAD
from workflows_mcp.settings import load_settings


@raises(SchemaTooNewError)
async def _a_newer_schema(scene: Scene) -> None:
    table = "workflows_alembic_version"
    async with scene.changed(
        [f"UPDATE {table} SET version_num = '9999'"], [f"UPDATE {table} SET version_num = '{HEAD}'"]
    ):
        await scene.open(scene.with_password).get_stats()


@raises(SchemaOutOfDateError)
async def _an_older_schema(scene: Scene) -> None:
    table = "workflows_alembic_version"
    async with scene.changed(
        [f"UPDATE {table} SET version_num = '0001'"], [f"UPDATE {table} SET version_num = '{HEAD}'"]
    ):
        await scene.open(scene.with_password).save_checkpoint(scene.state("refused"))


@raises(SchemaOutOfDateError, "postgresql")
async def _no_table_any_more(scene: Scene) -> None:
    async with scene.changed(["ALTER TABLE checkpoints RENAME TO c"], ["ALTER TABLE c RENAME TO checkpoints"]):
        await scene.store.save_checkpoint(scene.state("refused"))


@raises(CheckpointStoreError, "sqlite")
async def _no_table_in_the_file_any_more(scene: Scene) -> None:
    async with scene.changed(["ALTER TABLE checkpoints RENAME TO c"], ["ALTER TABLE c RENAME TO checkpoints"]):
        await scene.store.save_checkpoint(scene.state("refused"))


_IDS = "'new', 'refused', 'refused-0', 'refused-1', 'refused-2'"
_UNIQUE = [f"CREATE UNIQUE INDEX u ON checkpoints (pause_prompt) WHERE checkpoint_id IN ({_IDS})"]


@raises(RowsThereError, "sqlite")
@raises(CheckpointStoreError, "postgresql")
async def _a_unique_prompt(scene: Scene) -> None:
    async with scene.changed(_UNIQUE, ["DROP INDEX u"]):
        saves = [scene.store.save_checkpoint(scene.state(f"refused-{n}")) for n in range(3)]
        for outcome in await asyncio.gather(*saves, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


@raises(RowsThereError, "sqlite")
@raises(CheckpointStoreError, "postgresql")
async def _a_unique_prompt_over_an_engine(scene: Scene) -> None:
    async with (
        scene.changed(_UNIQUE, ["DROP INDEX u"]),
        given(scene) as store,
    ):
        await store.save_checkpoint(scene.state("refused"))


@raises(CheckpointStoreError, "postgresql")
async def _a_check(scene: Scene) -> None:
    check = "ALTER TABLE checkpoints ADD CONSTRAINT c CHECK (pause_prompt <> pause_prompt) NOT VALID"
    async with scene.changed([check], ["ALTER TABLE checkpoints DROP CONSTRAINT c"]):
        await scene.store.save_checkpoint(scene.state("refused"))


def _trigger(what: str) -> tuple[list[str], list[str]]:
    function = f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} END $$"
    make = "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON checkpoints FOR EACH ROW EXECUTE FUNCTION f()"
    return [function, make], ["DROP TRIGGER t ON checkpoints", "DROP FUNCTION f"]


_QUOTING = "RAISE EXCEPTION 'no: %', NEW USING DETAIL = NEW.pause_prompt, HINT = encode(NEW.payload, 'escape')"


@raises(CheckpointStoreError, "postgresql")
async def _a_trigger_that_quotes_the_row(scene: Scene) -> None:
    async with scene.changed(*_trigger(f"{_QUOTING};")):
        await scene.store.save_checkpoint(scene.state("refused"))


@raises(StoreFullError, "postgresql")
async def _a_full_disk_that_quotes_the_row(scene: Scene) -> None:
    async with scene.changed(*_trigger(f"{_QUOTING}, ERRCODE = '53100';")):
        await scene.store.save_checkpoint(scene.state("refused"))


@raises(StoreUnavailableError, "postgresql")
async def _a_server_that_ends_the_connection(scene: Scene) -> None:
    async with scene.changed(*_trigger("PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW;")):
        await scene.store.save_checkpoint(scene.state("refused"))


@raises(CheckpointStoreError, "postgresql")
async def _a_row_that_is_dropped(scene: Scene) -> None:
    async with scene.changed(*_trigger("RETURN NULL;")):
        await scene.store.save_checkpoint(scene.state("refused"))


@raises(StoreUnavailableError, "postgresql")
async def _a_locked_table(scene: Scene) -> None:
    server = await asyncpg.connect(scene.place.url)
    try:
        async with server.transaction():
            await server.execute("LOCK TABLE checkpoints")
            await scene.store.save_checkpoint(scene.state("refused"))
    finally:
        await server.close()


@raises(StoreUnavailableError, "sqlite")
async def _a_locked_file(scene: Scene) -> None:
    with contextlib.closing(sqlite3.connect(scene.place.url, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        await scene.store.save_checkpoint(scene.state("refused"))


@raises(StoreFullError, "sqlite")
async def _a_full_file(scene: Scene) -> None:
    async with given(scene, "PRAGMA max_page_count = 1") as store:
        await store.save_checkpoint(scene.state("refused", context={"value": [f"{CANARY}{n}" for n in range(90_000)]}))


@raises(StoreUnavailableError, "postgresql")
async def _nobody_answers(scene: Scene) -> None:
    await scene.open(scene.unreachable).save_checkpoint(scene.state("refused"))


@raises(StoreConfigurationError, "sqlite")
async def _no_folder(scene: Scene) -> None:
    await scene.open(scene.unreachable).save_checkpoint(scene.state("refused"))


@raises(StoreConfigurationError, "sqlite")
async def _a_file_of_something_else(scene: Scene) -> None:
    path = scene.place.folder / "notes.txt"
    path.write_text(CANARY * 1_000)
    await scene.open(str(path)).save_checkpoint(scene.state("refused"))


@raises(StoreConfigurationError)
async def _a_URL_that_falls_apart(scene: Scene) -> None:  # noqa: N802 - as it is written
    scene.open(f"postgresql://user:pass/{CANARY}#word@host:70000/db")


@raises(StoreConfigurationError)
async def _a_key_that_nobody_knows(scene: Scene) -> None:
    scene.open(f"postgresql://user:{CANARY}@host/db?sslpasword={CANARY}")


@raises(StoreConfigurationError)
async def _a_setting_that_is_wrong(scene: Scene) -> None:
    load_settings(deadline_seconds=f"{CANARY}", database_url=f"postgresql://u:{CANARY}@h/d", pool_size=scene)


@raises(StoreConfigurationError, "postgresql")
async def _no_such_database(scene: Scene) -> None:
    url = urlsplit(scene.with_password)._replace(path="/nowhere").geturl()
    await scene.open(url).save_checkpoint(scene.state("refused"))


@raises(StoreConfigurationError, "postgresql", takes_long=True)
async def _a_wrong_password(scene: Scene) -> None:
    rules = scene.place.folder / "pg_hba.conf"
    rules.write_text("host all stranger all scram-sha-256\nhost all all all trust\n")
    rules.chmod(0o644)  # the server is another user's, when this is run as root
    scene.place.folder.chmod(0o755)
    async with new_server(scene.place.folder, hba_file=str(rules)) as server:
        await server.execute(f"CREATE ROLE stranger LOGIN PASSWORD 'right-{CANARY}'")
        url = server.url.replace("://postgres@", f"://stranger:wrong-{CANARY}@")
        await scene.open(url).save_checkpoint(scene.state("refused"))


@raises(StoreConfigurationError)
async def _a_closed_store(scene: Scene) -> None:
    store = scene.open(scene.with_password)
    await store.close()
    await store.save_checkpoint(scene.state("refused"))


@raises(CheckpointStoreError)
async def _an_answer_that_cannot_be_saved(scene: Scene) -> None:
    executor = WorkflowExecutor(scene.store)
    result = await executor.execute_workflow(WORKFLOW, run_id="paused")
    assert result.checkpoint_id is not None
    refuse = ["CREATE TRIGGER t BEFORE INSERT ON checkpoints BEGIN SELECT RAISE(ABORT, 'no'); END"], ["DROP TRIGGER t"]
    if scene.place.database == "postgresql":
        refuse = _trigger(f"{_QUOTING};")
    async with scene.changed(*refuse):
        await executor.resume_workflow(result.checkpoint_id, f"answer {CANARY}")
