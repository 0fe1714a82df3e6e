"""asyncpg without anything around it, on the guide's table."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import asyncpg
import orjson

from benchmarks.contenders.base import Contender, content_of, plain_content
from benchmarks.contenders.tables import CLEANUP, COLUMNS, GUIDE_TABLE, LIST, LOAD, TRIM
from benchmarks.states import Key
from workflows_mcp import CheckpointState

__all__ = ["AsyncpgHeld", "AsyncpgPool"]

_UPSERT = (
    f"INSERT INTO checkpoints ({', '.join(COLUMNS)}) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (checkpoint_id) DO UPDATE"
    f" SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS[1:])}"
)
_LOAD = f"{LOAD}$1"


class _Asyncpg(Contender):
    database: ClassVar[str] = "postgresql"

    @abstractmethod
    async def _execute(self, sql: str, *values: object) -> str: ...

    @abstractmethod
    async def _fetch(self, sql: str, *values: object) -> list[Any]: ...

    async def _prepare(self) -> None:
        for statement in GUIDE_TABLE["postgresql"]:
            await self._execute(statement)
        [row] = await self._fetch("SELECT current_setting('synchronous_commit')")
        self.settings = {"synchronous_commit": row[0]}

    async def save(self, state: CheckpointState) -> None:
        """See `Contender.save`."""
        text = orjson.dumps(content_of(state)).decode()
        await self._execute(_UPSERT, state.checkpoint_id, state.workflow_name, state.created_at, state.is_paused, text)

    async def load(self, key: Key) -> dict[str, Any]:
        """See `Contender.load`."""
        [row] = await self._fetch(_LOAD, key.checkpoint_id)
        loaded: dict[str, Any] = orjson.loads(row[0])
        return loaded

    def content(self, loaded: Any) -> dict[str, Any]:  # noqa: ANN401 - see `Contender.content`
        """See `Contender.content`."""
        return plain_content(loaded)

    async def newest(self, count: int) -> Sequence[str]:
        """See `Contender.newest`."""
        return [row[0] for row in await self._fetch(f"{LIST} LIMIT {count}")]

    async def list_all(self) -> int:
        """See `Contender.list_all`."""
        return len(await self._fetch(LIST))

    async def trim(self, keep: int) -> int:
        """See `Contender.trim`. One statement."""
        return int((await self._execute(f"{TRIM}$1)", keep)).split()[-1])

    async def cleanup(self, max_age_seconds: float) -> int:
        """See `Contender.cleanup`. One statement."""
        return int((await self._execute(f"{CLEANUP}$1", time.time() - max_age_seconds)).split()[-1])


class AsyncpgPool(_Asyncpg):
    """A pool of ten connections and its own shortcuts, as most applications use asyncpg."""

    def __init__(self) -> None:
        super().__init__()
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    @property
    def pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        """The pool."""
        assert self._pool is not None
        return self._pool

    async def open(self, url: str) -> None:
        """See `Contender.open`."""
        self._pool = await asyncpg.create_pool(url, min_size=10, max_size=10)
        await self._prepare()

    async def _execute(self, sql: str, *values: object) -> str:
        return await self.pool.execute(sql, *values)

    async def _fetch(self, sql: str, *values: object) -> list[Any]:
        return await self.pool.fetch(sql, *values)

    async def close(self) -> None:
        """See `Contender.close`."""
        await self.pool.close()


class AsyncpgHeld(_Asyncpg):
    """One connection that is never given back; tasks take turns at it."""

    def __init__(self) -> None:
        super().__init__()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._lock = asyncio.Lock()

    @property
    def connection(self) -> "asyncpg.Connection[asyncpg.Record]":
        """The one connection."""
        assert self._connection is not None
        return self._connection

    async def open(self, url: str) -> None:
        """See `Contender.open`."""
        self._connection = await asyncpg.connect(url)
        await self._prepare()

    async def _execute(self, sql: str, *values: object) -> str:
        async with self._lock:
            return await self.connection.execute(sql, *values)

    async def _fetch(self, sql: str, *values: object) -> list[Any]:
        async with self._lock:
            return await self.connection.fetch(sql, *values)

    async def close(self) -> None:
        """See `Contender.close`."""
        await self.connection.close()
