"""Deletes many checkpoints in steps that hold nobody up: what retention takes, and whole runs."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from workflows_mcp.engine.checkpoint_store import OnDeleted
from workflows_mcp.engine.filters import Position, WorkflowScope
from workflows_mcp.engine.state_json import IMPORTING
from workflows_mcp.errors import CheckpointDecodeError, CheckpointKeyError
from workflows_mcp.persistence import retention_statements as statements
from workflows_mcp.persistence.database import Database
from workflows_mcp.persistence.deletions import remove
from workflows_mcp.persistence.deltas import MOST_LINKS
from workflows_mcp.persistence.dialects import BrokenBaseError, RowsHeldError, RowsLockedError
from workflows_mcp.persistence.retention_statements import Doomed, OfRun
from workflows_mcp.persistence.rows import first_within, position_in
from workflows_mcp.persistence.statements import Query

__all__ = ["Retention"]

_log = logging.getLogger(__name__)

_DELETE_BYTES = 4 * 2**20
"""About the most payload that goes with one deletion; one row alone may have more."""


class Retention:
    """The deletions of a store that take more than one statement. Each statement has a deadline of its own.

    Args:
        database: Where the checkpoints are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remove_range = statements.removing(database.dialect)

    async def expire(
        self, age: float, scope: WorkflowScope, *, keep_paused: bool, on_deleted: OnDeleted | None = None
    ) -> int:
        """Delete what is older than an age; see `CheckpointStore.cleanup_expired`."""
        cutoff, pace, kept = time.time() - age, _Pace(), _Kept()
        total = 0
        if scope.is_everything:
            total = await self._remove(statements.expired(cutoff, age, keep_paused=keep_paused), pace, kept, on_deleted)
            kept.tell()
            return total
        # By workflow, each by its index: by time alone, every round would walk over all old ones that are left out.
        async for name in self._workflows(scope):
            expired = statements.expired(cutoff, age, keep_paused=keep_paused, workflow_name=name)
            total += await self._remove(expired, pace, kept, on_deleted)
        kept.tell()
        return total

    async def trim(
        self, most: int, scope: WorkflowScope, *, keep_paused: bool, on_deleted: OnDeleted | None = None
    ) -> int:
        """Delete all but the newest of each workflow; see `CheckpointStore.trim_per_workflow`."""
        total, pace, kept = 0, _Pace(), _Kept()
        async for name in self._workflows(scope):
            last_kept = await self._database.fetch(statements.slot(name, most, keep_paused=keep_paused))
            if last_kept:
                place = position_in(last_kept[0])
                superfluous = statements.superfluous(name, place, keep_paused=keep_paused)
                total += await self._remove(superfluous, pace, kept, on_deleted)
        kept.tell()
        return total

    async def delete_run(self, run_id: str) -> int:
        """Delete all of a run, its heads first; see `CheckpointStore.delete_run`.

        Nothing of it is stored whole on the way: that would be in vain, and takes the key of what is sealed. What is a
        delta of others goes together with these, or before them.
        """
        database, pace, total = self._database, _Pace(), 0
        async for query, ids, last, _ in self._of_run(run_id, "heads", pace):
            try:
                total += await database.change(query, keys=ids)
            except BrokenBaseError:  # as in a run that was imported: the older are deltas of the newer
                await database.change(statements.end_newest_of_run(run_id, last), keys=ids)
        with contextlib.suppress(BrokenBaseError):
            async for query, ids, *_ in self._of_run(run_id, "all", pace):
                total += await database.change(query, keys=ids)
        rounds = 0
        async for query, ids, _, is_rest in self._of_run(run_id, "leaves", pace):
            deleted = 0
            with contextlib.suppress(BrokenBaseError):  # somebody has just made a delta of one
                deleted = await database.change(query, keys=ids)
            total += deleted
            rounds += is_rest or not deleted
            if rounds > MOST_LINKS:
                break  # no store has written what is left
        async for query, ids, *_ in self._of_run(run_id, "all", pace):
            # What is damaged is of this run, and goes as well.
            total += await remove(database, query, ids, keys=ids, lets_go=True)
        return total

    async def _of_run(
        self, run_id: str, which: OfRun, pace: "_Pace"
    ) -> AsyncIterator[tuple[Query, list[str], Position, bool]]:
        """Statements that delete some of a run, batch by batch, until there is none.

        Yields:
            A statement, the ids of what it deletes, the place of the last of these, and whether there are no more.
        """
        while found := await self._database.fetch(statements.newest_of_run(run_id, which, limit=pace.rows)):
            rows = first_within(found, _DELETE_BYTES)
            is_rest = len(rows) == len(found) < pace.rows
            last, ids = position_in(rows[-1]), [checkpoint_id for _, checkpoint_id, *_ in rows]
            with pace.measure():
                yield statements.remove_newest_of_run(run_id, which, last), ids, last, is_rest
            await asyncio.sleep(self._database.dialect.seconds_between_deletions)

    async def _workflows(self, scope: WorkflowScope) -> AsyncIterator[str]:
        """The names of the workflows that are looked at, a step in an index each."""
        if scope.workflow_name is not None:
            yield scope.workflow_name
            return
        rows: Sequence[Sequence[Any]] = await self._database.fetch(statements.next_workflow(None))
        while rows:
            [[name]] = rows
            if not isinstance(name, str):
                return  # bytes, which no store has written, and SQLite sorts behind all text
            if scope.takes(name):
                yield name
            rows = await self._database.fetch(statements.next_workflow(name))

    async def _remove(self, doomed: Doomed, pace: "_Pace", kept: "_Kept", on_deleted: OnDeleted | None) -> int:
        """Delete what meets a condition, batch by batch, so that saves get their turn in between.

        Each batch begins behind the one before, so that nothing that was left there is met again.
        """
        database = self._database
        total = 0
        last: Position | None = None
        # The newest first: what is a delta of others goes before them, and only what stays is stored whole.
        while rows := await database.fetch(statements.newest(doomed, before=last, limit=pace.rows)):
            rows = first_within(rows, _DELETE_BYTES)
            before, last = last, position_in(rows[-1])
            if last == before:
                break  # an id that is no text, which no store has written, is not before itself
            with pace.measure():
                deleted = await self._remove_rows(doomed, rows, kept)
            total += deleted
            if on_deleted is not None and deleted:
                on_deleted(deleted)
            await asyncio.sleep(database.dialect.seconds_between_deletions)
        return total

    async def _remove_rows(self, doomed: Doomed, rows: Sequence[Sequence[Any]], kept: "_Kept") -> int:
        """Delete some neighbours; what others have locked is left out, and what is needed by what cannot do without."""
        query = self._remove_range(doomed, position_in(rows[-1]), position_in(rows[0]))
        ids = [checkpoint_id for _, checkpoint_id, *_ in rows]
        half = len(rows) // 2
        try:
            # About none that anybody has in mind: a save that waits for a lock may come before or after.
            return await remove(self._database, query, ids, keys=(), waits=False)
        except (BrokenBaseError, RowsLockedError):
            pass
        except (CheckpointDecodeError, RowsHeldError) as error:
            if not half:
                kept.add(ids[0], error)
        if not half:
            return 0
        newer = await self._remove_rows(doomed, rows[:half], kept)
        return newer + await self._remove_rows(doomed, rows[half:], kept)


class _Kept:
    """What is not deleted, since something that stays needs it, and cannot be stored without it.

    Or since it is another table that needs it.
    """

    def __init__(self) -> None:
        self._refused: list[CheckpointKeyError | RowsHeldError] = []
        self._damaged: list[tuple[object, CheckpointDecodeError]] = []

    def add(self, checkpoint_id: object, error: CheckpointDecodeError | RowsHeldError) -> None:
        """Note one."""
        if isinstance(error, CheckpointKeyError | RowsHeldError):
            self._refused.append(error)
        else:
            self._damaged.append((checkpoint_id, error))

    def tell(self) -> None:
        """Log what is damaged, which goes with what needs it; raise an error for a missing key, and another table's."""
        if self._damaged:
            checkpoint_id, error = self._damaged[0]
            _log.warning(
                "%s left that retention would delete, since others need them that could never be read again: %s, "
                "because %r %s. Put that one back (%s), or delete those that need it",
                _were(len(self._damaged)),
                f"{checkpoint_id!r} is the first",
                error.link,
                error.reason,
                IMPORTING,
            )
        if self._refused:
            first = self._refused[0]
            raise type(first)(f"all else was deleted, but {_were(len(self._refused))} left: {first}")


def _were(count: int) -> str:
    return "1 checkpoint was" if count == 1 else f"{count:,} checkpoints were"


class _Pace:
    """How many rows one deletion takes: as many as it can within a time that a save does not mind to wait.

    Rows that lie far apart, in a table larger than the memory, take many times longer than neighbours do.
    """

    fewest, most = 50, 500
    shortest, longest = 0.03, 0.08

    def __init__(self) -> None:
        self.rows = 100

    @contextlib.contextmanager
    def measure(self) -> Iterator[None]:
        """Time a deletion, and adapt."""
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        if seconds > self.longest:
            self.rows = max(self.rows // 2, self.fewest)
        elif seconds < self.shortest:
            self.rows = min(self.rows * 2, self.most)
