"""Retention in the background: old checkpoints go round by round, over any store."""

import asyncio
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from workflows_mcp.engine.checkpoint import CheckpointConfig
from workflows_mcp.engine.checkpoint_store import CheckpointStore, OnDeleted
from workflows_mcp.engine.policies import RetentionRules
from workflows_mcp.errors import CheckpointStoreError

__all__ = ["Deleted", "RetentionTask", "retain"]

_log = logging.getLogger(__name__)


@dataclass
class Deleted:
    """How many checkpoints a round of retention deleted.

    Attributes:
        by_age: By their age.
        by_count: Since there were newer ones enough.
    """

    by_age: int = 0
    by_count: int = 0


async def retain(store: CheckpointStore, rules: RetentionRules, *, on_deleted: OnDeleted | None = None) -> Deleted:
    """Do one round of retention: what is too old goes first, and then what is too much.

    Every step is done though another one fails. A store is told of policies, and whom to report to, only when there
    are some, so that one that knows of neither serves as long as there are none.

    Args:
        store: Whose checkpoints.
        rules: What is kept.
        on_deleted: Called while it lasts with the number deleted since the last call.

    Raises:
        CheckpointStoreError: A step failed; of several errors, the first. What was deleted stays deleted.
    """
    deleted = Deleted()
    failures: list[Exception] = []
    told: dict[str, Any] = {} if on_deleted is None else {"on_deleted": on_deleted}
    for age, options in _steps(rules, "ttl_seconds"):
        try:
            deleted.by_age += await store.cleanup_expired(age, **options, **told)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
    for most, options in _steps(rules, "max_per_workflow"):
        try:
            deleted.by_count += await store.trim_per_workflow(most, **options, **told)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
    if failures:
        raise failures[0]
    return deleted


def _steps(rules: RetentionRules, limit: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The values of a limit, each with the options that say what it goes for."""
    if rules.general is not None and getattr(rules.general, limit) is not None:
        besides = {"except_workflows": frozenset(rules.own)} if rules.own else {}
        yield getattr(rules.general, limit), {"keep_paused": rules.general.keep_paused, **besides}
    for name, limits in rules.own.items():
        if getattr(limits, limit) is not None:
            yield getattr(limits, limit), {"keep_paused": limits.keep_paused, "workflow_name": name}


class RetentionTask:
    """Expires and trims the checkpoints of a store, as a configuration says, until it is stopped.

    Each round deletes what is older than `ttl_seconds` and then what is superfluous by `max_per_workflow`, or by the
    `policies` of some workflows; None: it leaves that out. The first one begins after a random part of
    `cleanup_interval_seconds`, so that servers that were started together do not all delete at once; that they do is
    harmless. A round that has deleted something is logged, and so is one that fails; the next one comes in its time.
    With `auto_cleanup=False` there are no rounds::

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

        Raises:
            CheckpointStoreError: The round failed, or a part of it; the others were done. What was deleted stays so.
        """
        deleted = await retain(self._store, self._config.retention_rules)
        return deleted.by_age + deleted.by_count

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
                deleted = await retain(self._store, self._config.retention_rules)
                _tell(deleted)
            except CheckpointStoreError as error:
                _log.warning("retention failed, and is tried again in %g s: %s", interval, error)
            except Exception as error:  # noqa: BLE001 - a store of somebody else's; its text may show anything
                _log.warning("retention failed, and is tried again in %g s: %s", interval, type(error).__name__)
            await asyncio.sleep(interval)


def _tell(deleted: Deleted) -> None:
    """Log what a round deleted that nobody has asked for, so that whoever misses it can find where it went."""
    total = deleted.by_age + deleted.by_count
    level = logging.INFO if total else logging.DEBUG
    many = "1 checkpoint" if total == 1 else f"{total:,} checkpoints"
    _log.log(level, "retention deleted %s: %s by their age, %s by their number", many, deleted.by_age, deleted.by_count)
