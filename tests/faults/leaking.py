"""Ways to raise every error of this package, each with something at hand that it must not tell."""

import contextlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.faults.row import Place
from workflows_mcp import (
    CheckpointState,
    SQLAlchemyCheckpointStore,
)
from workflows_mcp.settings import Settings
from workflows_mcp.testing import make_state

__all__ = ["CANARY", "PROVOCATIONS", "WORKFLOW", "Scene", "given", "raises"]

CANARY = "qz7xk"
"""Is in all that must not be told. So short that a secret of nothing else is refused for that."""

WORKFLOW = f"""\
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
        takes_long: Whether it is left out when there is little time.
    """

    error: type[Exception]
    work: "Callable[[Scene], Awaitable[object]]"
    takes_long: bool = False

    @property
    def __name__(self) -> str:
        return self.work.__name__.replace("_", " ").strip()

    def __call__(self, scene: "Scene") -> Awaitable[object]:
        return self.work(scene)


PROVOCATIONS: dict[str, list[Provocation]] = {"sqlite": [], "postgresql": []}
"""All of them, by database."""


def raises(error: type[Exception], *databases: str, takes_long: bool = False) -> Callable[[Any], Any]:
    """Note what raises an error, on these databases or on all."""

    def note(work: Any) -> Any:
        for database in databases or PROVOCATIONS:
            PROVOCATIONS[database].append(Provocation(error, work, takes_long))
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


@contextlib.asynccontextmanager
async def given(scene: Scene, pragma: str = "SELECT 1") -> Any:
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
