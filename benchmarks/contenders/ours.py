"""This project's store, and its executor over it."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any, ClassVar

from benchmarks.contenders.base import Contender, WorkflowContender, content_of
from benchmarks.states import Key
from benchmarks.workloads import WAVES
from workflows_mcp import (
    CheckpointConfig,
    CheckpointState,
    SQLAlchemyCheckpointStore,
    WorkflowExecutor,
    upgrade_schema,
)
from workflows_mcp.engine.blocks import block_type
from workflows_mcp.engine.workflow import define_workflow
from workflows_mcp.settings import Settings

__all__ = ["Ours", "OursPostgreSQL", "OursSQLite"]


_STEPS = [f"step_{number}" for number in range(WAVES)]
_WORKFLOW = define_workflow(
    {
        "name": "steps",
        "blocks": [
            {"id": step, "type": "BenchNothing", "depends_on": _STEPS[max(wave - 1, 0) : wave]}
            for wave, step in enumerate(_STEPS)
        ],
    },
    "the benchmark's workflow",
)


@block_type("BenchNothing")
async def _do_nothing() -> None:
    pass


class Ours(Contender, WorkflowContender):
    """The store, and the executor over it.

    Attributes:
        settings_given: What the store is opened with.
    """

    settings_given: ClassVar[dict[str, Any]] = {"sqlite_synchronous": "FULL"}

    def __init__(self) -> None:
        super().__init__()
        self._store: SQLAlchemyCheckpointStore | None = None
        self._executor: WorkflowExecutor | None = None
        self._executor_alone = WorkflowExecutor(checkpoint_config=CheckpointConfig(enabled=False))
        self._executor_alone.load_workflow(_WORKFLOW)

    @property
    def store(self) -> SQLAlchemyCheckpointStore:
        """The open store."""
        assert self._store is not None
        return self._store

    async def open(self, url: str) -> None:
        """See `Contender.open`."""
        await upgrade_schema(url)
        self._store = SQLAlchemyCheckpointStore(url, settings=Settings(**self.settings_given))
        self._executor = WorkflowExecutor(self._store)
        self._executor.load_workflow(_WORKFLOW)

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

    async def run(self) -> str:
        """See `WorkflowContender.run`."""
        assert self._executor is not None
        return await _run(self._executor)

    async def count_steps(self, run_id: str) -> int:
        """See `WorkflowContender.count_steps`: the waves that its newest checkpoint has."""
        heads = await self.store.list_checkpoints(run_id=run_id, heads_only=True)
        return heads[0].current_wave_index

    async def run_unsaved(self) -> str:
        """See `WorkflowContender.run_unsaved`."""
        return await _run(self._executor_alone)

    async def close(self) -> None:
        """See `Contender.close`."""
        await self.store.close()


async def _run(executor: WorkflowExecutor) -> str:
    result = await executor.execute_workflow(_WORKFLOW.name)
    assert result.is_success, result
    return result.run_id


class OursSQLite(Ours):
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


class OursPostgreSQL(Ours):
    """The store over PostgreSQL."""

    database: ClassVar[str] = "postgresql"
