"""Retention in the background: old checkpoints go round by round, over any store."""

import asyncio
import logging
import random
from types import TracebackType
from typing import Self

from workflows_mcp.engine.checkpoint import CheckpointConfig
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.errors import CheckpointStoreError

__all__ = ["RetentionTask"]

_log = logging.getLogger(__name__)


class RetentionTask:
    """Expires and trims the checkpoints of a store, as a configuration says, until it is stopped.

    Each round deletes what is older than `ttl_seconds` and then what is superfluous by `max_per_workflow`; None: it
    leaves that out. The first one begins after a random part of `cleanup_interval_seconds`, so that servers that were
    started together do not all delete at once; that they do is harmless. A round that fails is logged, and the next
    one comes in its time. With `auto_cleanup=False` there are no rounds::

        async with RetentionTask(store, config):
            ...

    Args:
        store: Whose checkpoints; it stays open.
        config: What is kept, and how often that is looked at.
    """

    def __init__(self, store: CheckpointStore, config: CheckpointConfig) -> None:
        self._store = store
        self._config = config
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; from within an event loop. Nothing, when it has begun already."""
        if self._config.auto_cleanup and self._task is None:
            self._task = asyncio.create_task(self._run(), name="workflows-mcp-retention")

    async def stop(self) -> None:
        """End, in the middle of a round, too: what it was deleting then is deleted whole or not at all."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def run_once(self) -> int:
        """Do one round now; returns how many checkpoints it deleted.

        It trims although expiring failed.

        Raises:
            CheckpointStoreError: The round failed, or one half of it. What it has deleted stays deleted.
        """
        config, store = self._config, self._store
        deleted = 0
        failure: Exception | None = None
        if config.ttl_seconds is not None:
            try:
                deleted += await store.cleanup_expired(config.ttl_seconds, keep_paused=config.keep_paused)
            except Exception as error:  # noqa: BLE001 - raised below
                failure = error
        if config.max_per_workflow is not None:
            try:
                deleted += await store.trim_per_workflow(config.max_per_workflow, keep_paused=config.keep_paused)
            except Exception as error:  # noqa: BLE001 - raised below
                failure = failure or error
        if failure is not None:
            raise failure
        return deleted

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _run(self) -> None:
        interval = self._config.cleanup_interval_seconds
        await asyncio.sleep(random.uniform(0, interval))  # noqa: S311 - nothing secret about it
        while True:
            try:
                deleted = await self.run_once()
                _log.debug("retention deleted %d checkpoints", deleted)
            except CheckpointStoreError as error:
                _log.warning("retention failed, and is tried again in %g s: %s", interval, error)
            except Exception as error:  # noqa: BLE001 - a store of somebody else's; its text may show anything
                _log.warning("retention failed, and is tried again in %g s: %s", interval, type(error).__name__)
            await asyncio.sleep(interval)
