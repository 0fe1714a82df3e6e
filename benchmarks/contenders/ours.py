"""This project's store."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any, ClassVar

from benchmarks.contenders.base import Contender, content_of
from benchmarks.states import Key
from workflows_mcp import CheckpointState, SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.settings import Settings

__all__ = ["OursPostgreSQL", "OursSQLite"]


class _Ours(Contender):
    def __init__(self) -> None:
        super().__init__()
        self._store: SQLAlchemyCheckpointStore | None = None

    @property
    def store(self) -> SQLAlchemyCheckpointStore:
        """The open store."""
        assert self._store is not None
        return self._store

    async def open(self, url: str) -> None:
        """See `Contender.open`."""
        await upgrade_schema(url)
        self._store = SQLAlchemyCheckpointStore(url, settings=Settings(sqlite_synchronous="FULL"))

    async def save(self, state: CheckpointState) -> None:
        """See `Contender.save`."""
        await self.store.save_checkpoint(state)

    async def load(self, key: Key) -> CheckpointState:
        """See `Contender.load`."""
        state = await self.store.load_checkpoint(key.checkpoint_id)
        assert state is not None
        return state

    def content(self, loaded: Any) -> dict[str, Any]:  # noqa: ANN401 - see `Contender.content`
        """See `Contender.content`."""
        return content_of(loaded)

    async def newest(self, count: int) -> Sequence[str]:
        """See `Contender.newest`."""
        return [one.checkpoint_id for one in await self.store.list_checkpoints(limit=count)]

    async def list_all(self) -> int:
        """See `Contender.list_all`."""
        return len(await self.store.list_checkpoints())

    async def trim(self, keep: int) -> int:
        """See `Contender.trim`."""
        return await self.store.trim_per_workflow(keep)

    async def cleanup(self, max_age_seconds: float) -> int:
        """See `Contender.cleanup`."""
        return await self.store.cleanup_expired(max_age_seconds)

    async def close(self) -> None:
        """See `Contender.close`."""
        await self.store.close()


class OursSQLite(_Ours):
    """The store over SQLite."""

    database: ClassVar[str] = "sqlite"

    async def open(self, url: str) -> None:
        """See `Contender.open`."""
        await super().open(url)
        await self.store.get_stats()  # the first call configures the file
        with closing(sqlite3.connect(url)) as connection:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        # `synchronous` belongs to a connection and cannot be asked from outside: it is what the setting says.
        self.settings = {"journal_mode": mode, "synchronous": "FULL (by its setting)"}


class OursPostgreSQL(_Ours):
    """The store over PostgreSQL."""

    database: ClassVar[str] = "postgresql"
