"""The store that the guide describes: one shared aiosqlite connection, JSON text, a commit a save."""

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

import aiosqlite

from benchmarks.contenders.base import Contender, content_of
from benchmarks.contenders.tables import GUIDE_TABLE
from benchmarks.states import CONTENT_FIELDS, Key
from workflows_mcp import CheckpointMetadata, CheckpointState

__all__ = ["Guide", "GuideWAL"]

_SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


class Guide(Contender):
    """The guide's store as it stands, with SQLite's rollback journal.

    All tasks share one connection, and so one transaction: whoever commits first commits what the others wrote.
    """

    database: ClassVar[str] = "sqlite"
    journal_mode: ClassVar[str] = "DELETE"

    def __init__(self) -> None:
        super().__init__()
        self._connection: aiosqlite.Connection | None = None

    @property
    def connection(self) -> aiosqlite.Connection:
        """The one connection."""
        assert self._connection is not None
        return self._connection

    async def open(self, url: str) -> None:
        """See `Contender.open`."""
        self._connection = connection = await aiosqlite.connect(url)
        connection.row_factory = aiosqlite.Row
        [mode] = await connection.execute_fetchall(f"PRAGMA journal_mode={self.journal_mode}")
        await connection.execute("PRAGMA synchronous=FULL")
        [level] = await connection.execute_fetchall("PRAGMA synchronous")
        self.settings = {"journal_mode": mode[0], "synchronous": _SYNCHRONOUS[level[0]]}
        for statement in GUIDE_TABLE["sqlite"]:
            await connection.execute(statement)
        await connection.commit()

    async def save(self, state: CheckpointState) -> None:
        """See `Contender.save`."""
        text = json.dumps(content_of(state))
        row = (state.checkpoint_id, state.workflow_name, state.created_at, state.paused_block_id is not None, text)
        await self.connection.execute(
            "INSERT OR REPLACE INTO checkpoints (checkpoint_id, workflow_name, created_at, is_paused, checkpoint_data)"
            " VALUES (?, ?, ?, ?, ?)",
            row,
        )
        await self.connection.commit()

    async def load(self, key: Key) -> CheckpointState:
        """See `Contender.load`."""
        sql = "SELECT * FROM checkpoints WHERE checkpoint_id = ?"
        async with self.connection.execute(sql, (key.checkpoint_id,)) as cursor:
            row = await cursor.fetchone()
        assert row is not None
        return CheckpointState(
            checkpoint_id=row["checkpoint_id"],
            workflow_name=row["workflow_name"],
            created_at=row["created_at"],
            **json.loads(row["checkpoint_data"]),
        )

    def content(self, loaded: Any) -> dict[str, Any]:  # noqa: ANN401 - see `Contender.content`
        """See `Contender.content`."""
        return {name: getattr(loaded, name) for name in CONTENT_FIELDS}

    async def newest(self, count: int) -> Sequence[str]:
        """See `Contender.newest`. The guide's listing has no limit: it reads the whole table, payloads included."""
        return [one.checkpoint_id for one in (await self._list())[:count]]

    async def list_all(self) -> int:
        """See `Contender.list_all`."""
        return len(await self._list())

    async def _list(self) -> list[CheckpointMetadata]:
        sql = (
            "SELECT checkpoint_id, workflow_name, created_at, is_paused, checkpoint_data FROM checkpoints"
            " ORDER BY created_at DESC"
        )
        async with self.connection.execute(sql) as cursor:
            rows = await cursor.fetchall()
        return [
            CheckpointMetadata(
                checkpoint_id=row["checkpoint_id"],
                workflow_name=row["workflow_name"],
                created_at=row["created_at"],
                is_paused=bool(row["is_paused"]),
                pause_prompt=json.loads(row["checkpoint_data"]).get("pause_prompt") if row["is_paused"] else None,
            )
            for row in rows
        ]

    async def trim(self, keep: int) -> int:
        """See `Contender.trim`. The guide sorts in Python, and names each row that is deleted in one statement."""
        sql = (
            "SELECT checkpoint_id, workflow_name, created_at, is_paused FROM checkpoints"
            " ORDER BY workflow_name, created_at DESC"
        )
        async with self.connection.execute(sql) as cursor:
            rows = await cursor.fetchall()
        by_workflow: defaultdict[str, list[tuple[float, str, bool]]] = defaultdict(list)
        for row in rows:
            by_workflow[row[1]].append((row[2], row[0], bool(row[3])))
        doomed: list[str] = []
        for found in by_workflow.values():
            found.sort(reverse=True)
            doomed += [checkpoint_id for _, checkpoint_id, is_paused in found[keep:] if not is_paused]
        if doomed:
            marks = ",".join("?" * len(doomed))
            await self.connection.execute(f"DELETE FROM checkpoints WHERE checkpoint_id IN ({marks})", doomed)
            await self.connection.commit()
        return len(doomed)

    async def cleanup(self, max_age_seconds: float) -> int:
        """See `Contender.cleanup`."""
        sql = "DELETE FROM checkpoints WHERE created_at < ? AND is_paused = 0"
        cursor = await self.connection.execute(sql, (time.time() - max_age_seconds,))
        await self.connection.commit()
        return cursor.rowcount

    async def close(self) -> None:
        """See `Contender.close`."""
        await self.connection.close()


class GuideWAL(Guide):
    """The guide's store with the write-ahead log that its troubleshooting page advises."""

    journal_mode: ClassVar[str] = "WAL"
