"""LangGraph's checkpoint savers, used as their documentation says."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, ClassVar

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.contenders.base import Contender, content_of, plain_content
from benchmarks.states import Key
from workflows_mcp import CheckpointState

__all__ = ["LangGraph", "LangGraphPostgreSQL", "LangGraphPostgreSQLPool", "LangGraphSQLite"]

_CHANNEL = "state"
"""One channel holds the state, so that each save stores all of it, in as few statements as the savers can do with."""

_CHECKPOINT_FORM = 4
"""The form of a checkpoint that LangGraph's own graphs write; older ones cost a further query a load."""


class LangGraph(Contender):
    """A run is a thread; a checkpoint's id is its own, which sorts by time as LangGraph's ids do."""

    lacks: ClassVar[str | None] = "deletes whole threads only: nothing by count or by age"

    def __init__(self) -> None:
        super().__init__()
        self._saver: Any = None
        self._stack = AsyncExitStack()

    async def save(self, state: CheckpointState) -> None:
        """See `Contender.save`."""
        versions = {_CHANNEL: state.checkpoint_id}
        await self._put(state, {_CHANNEL: content_of(state)}, versions, versions)

    async def _put(
        self,
        state: CheckpointState,
        values: dict[str, Any],
        versions: dict[str, str],
        changed: dict[str, str],
        **parent: str,
    ) -> None:
        """Save values and versions of channels, as a graph's loop does; `parent`: the `checkpoint_id` before it."""
        checkpoint = {
            "v": _CHECKPOINT_FORM,
            "id": state.checkpoint_id,
            "ts": datetime.fromtimestamp(state.created_at, UTC).isoformat(),
            "channel_values": values,
            "channel_versions": versions,
            "versions_seen": {},
            "updated_channels": None,
        }
        metadata = {"source": "loop", "step": state.current_wave_index, "workflow_name": state.workflow_name}
        config = {"configurable": {"thread_id": state.run_id, "checkpoint_ns": "", **parent}}
        await self._saver.aput(config, checkpoint, metadata, changed)

    async def load(self, key: Key) -> Any:  # noqa: ANN401 - see `Contender.load`
        """See `Contender.load`."""
        names = {"thread_id": key.run_id, "checkpoint_ns": "", "checkpoint_id": key.checkpoint_id}
        found = await self._saver.aget_tuple({"configurable": names})
        assert found is not None
        return found

    def content(self, loaded: Any) -> dict[str, Any]:  # noqa: ANN401 - see `Contender.content`
        """See `Contender.content`."""
        return plain_content(loaded.checkpoint["channel_values"][_CHANNEL])

    async def newest(self, count: int) -> Sequence[str]:
        """See `Contender.newest`."""
        return [found.checkpoint["id"] async for found in self._saver.alist(None, limit=count)]

    async def list_all(self) -> int:
        """See `Contender.list_all`. They come one by one, whole, and are not kept."""
        count = 0
        async for _ in self._saver.alist(None):
            count += 1
        return count

    async def close(self) -> None:
        """See `Contender.close`."""
        await self._stack.aclose()


class LangGraphSQLite(LangGraph):
    """`AsyncSqliteSaver`."""

    database: ClassVar[str] = "sqlite"

    async def open(self, url: str) -> None:
        """See `Contender.open`."""
        saver = self._saver = await self._stack.enter_async_context(AsyncSqliteSaver.from_conn_string(url))
        await saver.setup()
        await saver.conn.execute("PRAGMA synchronous=FULL")
        [[level]] = await saver.conn.execute_fetchall("PRAGMA synchronous")
        [[mode]] = await saver.conn.execute_fetchall("PRAGMA journal_mode")
        self.settings = {"journal_mode": mode, "synchronous": "FULL" if level == 2 else str(level)}


class LangGraphPostgreSQL(LangGraph):
    """`AsyncPostgresSaver` with the one connection of `from_conn_string`."""

    database: ClassVar[str] = "postgresql"

    async def open(self, url: str) -> None:
        """See `Contender.open`."""
        self._saver = await self._stack.enter_async_context(AsyncPostgresSaver.from_conn_string(url))
        await self._prepare()

    async def _prepare(self) -> None:
        await self._saver.setup()
        async with self._saver._cursor() as cursor:  # noqa: SLF001 - it offers no other way to ask
            await cursor.execute("SHOW synchronous_commit")
            self.settings = dict(await cursor.fetchone())


class LangGraphPostgreSQLPool(LangGraphPostgreSQL):
    """`AsyncPostgresSaver` over a pool of ten connections."""

    async def open(self, url: str) -> None:
        """See `Contender.open`."""
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        pool = AsyncConnectionPool(url, min_size=10, max_size=10, open=False, kwargs=options)
        await self._stack.enter_async_context(pool)
        await pool.wait()
        self._saver = AsyncPostgresSaver(pool)
        await self._prepare()
