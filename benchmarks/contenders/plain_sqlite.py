"""Python's own `sqlite3` without anything around it: the limit for one commit a save."""

import sqlite3
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from benchmarks.contenders.base import Contender, content_of, plain_content
from benchmarks.contenders.tables import CLEANUP, COLUMNS, GUIDE_TABLE, LIST, LOAD, TRIM
from benchmarks.states import Key
from workflows_mcp import CheckpointState, upgrade_schema

__all__ = ["PlainSQLite", "PlainSQLiteProductTable"]


def _upsert(columns: Sequence[str]) -> str:
    marks = ", ".join("?" * len(columns))
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
    return (
        f"INSERT INTO checkpoints ({', '.join(columns)}) VALUES ({marks})"
        f" ON CONFLICT (checkpoint_id) DO UPDATE SET {changes}"
    )


class PlainSQLite(Contender):
    """Synchronous `sqlite3` on the guide's table: WAL, autocommit, JSON by orjson. Blocks the event loop."""

    database: ClassVar[str] = "sqlite"
    upsert: ClassVar[str] = _upsert(COLUMNS)
    load_sql: ClassVar[str] = LOAD + "?"

    def __init__(self) -> None:
        super().__init__()
        self._connection: sqlite3.Connection | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        """The one connection."""
        assert self._connection is not None
        return self._connection

    async def open(self, url: str) -> None:
        """See `Contender.open`."""
        self._connection = connection = sqlite3.connect(url, isolation_level=None)
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        connection.execute("PRAGMA synchronous=FULL")
        level = connection.execute("PRAGMA synchronous").fetchone()[0]
        self.settings = {"journal_mode": mode, "synchronous": "FULL" if level == 2 else str(level)}
        await self._make_tables(url)

    async def _make_tables(self, url: str) -> None:  # noqa: ARG002 - for those who need it
        for statement in GUIDE_TABLE["sqlite"]:
            self.connection.execute(statement)

    async def save(self, state: CheckpointState) -> None:
        """See `Contender.save`."""
        self.connection.execute(self.upsert, self._row(state))

    def _row(self, state: CheckpointState) -> tuple[object, ...]:
        data = orjson.dumps(content_of(state))
        return state.checkpoint_id, state.workflow_name, state.created_at, state.is_paused, data

    async def load(self, key: Key) -> dict[str, Any]:
        """See `Contender.load`."""
        row = self.connection.execute(self.load_sql, (key.checkpoint_id,)).fetchone()
        loaded: dict[str, Any] = orjson.loads(row[0])
        return loaded

    def content(self, loaded: Any) -> dict[str, Any]:  # noqa: ANN401 - see `Contender.content`
        """See `Contender.content`."""
        return plain_content(loaded)

    async def newest(self, count: int) -> Sequence[str]:
        """See `Contender.newest`."""
        return [row[0] for row in self.connection.execute(f"{LIST} LIMIT {count}").fetchall()]

    async def list_all(self) -> int:
        """See `Contender.list_all`."""
        return len(self.connection.execute(LIST).fetchall())

    async def trim(self, keep: int) -> int:
        """See `Contender.trim`. One statement."""
        return self.connection.execute(f"{TRIM}?)", (keep,)).rowcount

    async def cleanup(self, max_age_seconds: float) -> int:
        """See `Contender.cleanup`. One statement."""
        return self.connection.execute(f"{CLEANUP}?", (time.time() - max_age_seconds,)).rowcount

    async def close(self) -> None:
        """See `Contender.close`."""
        self.connection.close()


_PRODUCT_COLUMNS = (
    "checkpoint_id",
    "run_id",
    "workflow_name",
    "created_at",
    "status",
    "is_paused",
    "pause_prompt",
    "parent_checkpoint_id",
    "superseded",
    "current_wave_index",
    "pinned",
    "schema_version",
    "full_bytes",
    "stored_bytes",
    "base_digest",
    "encoding",
    "payload",
)


class PlainSQLiteProductTable(PlainSQLite):
    """The same on this project's table: what its further columns and indexes cost."""

    upsert: ClassVar[str] = _upsert(_PRODUCT_COLUMNS)
    load_sql: ClassVar[str] = "SELECT payload FROM checkpoints WHERE checkpoint_id = ?"

    async def _make_tables(self, url: str) -> None:
        await upgrade_schema(url)

    def _row(self, state: CheckpointState) -> tuple[object, ...]:
        data = orjson.dumps(content_of(state))
        return (
            state.checkpoint_id,
            state.run_id,
            state.workflow_name,
            state.created_at,
            state.status.value,
            state.is_paused,
            state.pause_prompt,
            state.parent_checkpoint_id,
            False,
            state.current_wave_index,
            False,
            state.schema_version,
            len(data),
            len(data),
            None,
            "json",
            data,
        )
