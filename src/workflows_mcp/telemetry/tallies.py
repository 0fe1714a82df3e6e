"""What a process has done so far, in numbers. They cost a few hundred nanoseconds each and know no exporter.

One thread adds, that of the event loop; any other one may read meanwhile. A tally of what is watched no more is handed
over to another one, so that their number does not grow.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager

from workflows_mcp.engine import events
from workflows_mcp.engine.observing import Operation, StoreObserver
from workflows_mcp.errors import CheckpointStoreError, LeaseLostError, WorkflowsError

__all__ = ["Distribution", "RunTally", "StoreTally"]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BYTES = tuple(float(2**power) for power in range(8, 25, 2))
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
LONG_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds of what is counted together."""

_DELETIONS = frozenset({"delete", "delete_run", "expire", "trim"})

_WRITES = (*sorted(_DELETIONS), "save", "claim", "renew", "release", "pin", "vacuum")

_GRAVE = {
    "CheckpointDecodeError": ("load", "claim"),
    "CheckpointKeyError": ("load", "claim"),
    "StoreFullError": _WRITES,
}
"""Errors of which one is enough for an alert, by the operations that raise them.

They are counted from 0: of a number that is 1 when it is first seen, nobody can tell that it has risen.
"""


class Distribution:
    """How often values were found within bounds.

    Attributes:
        bounds: The upper ones, ascending; the last count is of what is above them all.
        counts: How many values lie within each.
        total: The sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add_all(self, other: "Distribution") -> None:
        """Count all values that another one with the same bounds has counted."""
        self.counts = [sum(pair) for pair in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class StoreTally(StoreObserver):
    """Counts what one store does.

    Attributes:
        system: What kind of store it is.
        loop: The event loop that it is used in, once it has been.
        durations: Seconds of operations, by name.
        state_bytes: Plain JSON bytes of states that were saved or loaded, by the operation's name; of others, none.
        saves: How many, by how they ended: `ok`, `error`, `cancelled`.
        errors: How many, by operation and class of error.
        deletions: How many checkpoints were deleted, by operation.
        lease_losses: How many calls found that their lease was somebody else's.
        retries: How many attempts were made again, by class of error.
        slow: How many calls to the database were slow, by kind of call.
        batch_rows: Rows of commits.
        batch_bytes: Payload bytes of commits.
        commits: Seconds of commits.
    """

    def __init__(self, system: str) -> None:
        self._heir: tuple[StoreTally, AbstractContextManager[object]] | None = None
        self.system = system
        self.loop: asyncio.AbstractEventLoop | None = None
        self.durations: dict[str, Distribution] = {}
        self.state_bytes: dict[str, Distribution] = {}
        self._counts: dict[str, tuple[Distribution, Distribution]] = {}
        self.saves: Counter[str] = Counter({"ok": 0, "error": 0, "cancelled": 0})
        self.errors: Counter[tuple[str, str]] = Counter(
            {(operation, error): 0 for error, operations in _GRAVE.items() for operation in operations}
        )
        self.deletions: Counter[str] = Counter(dict.fromkeys(sorted(_DELETIONS), 0))
        self.lease_losses = 0
        self.retries: Counter[str] = Counter()
        self.slow: Counter[str] = Counter()
        self.batch_rows = Distribution(ROWS)
        self.batch_bytes = Distribution(BYTES)
        self.commits = Distribution(SECONDS)

    def ended(self, operation: Operation, mark: object) -> None:
        """See `StoreObserver.ended`."""
        if self._heir is not None:
            heir, lock = self._heir
            with lock:
                heir.ended(operation, mark)
            return
        name = operation.name
        counts = self._counts.get(name)
        if counts is None:
            self.loop = asyncio.get_running_loop()
            counts = self._begin_counting(name)
        counts[0].add(operation.seconds)
        if operation.error is not None:
            self._fail(name, operation.error)
            return
        if operation.plain_bytes:
            counts[1].add(operation.plain_bytes)
        if name == "save":
            self.saves["ok"] += 1
        elif name in _DELETIONS:
            self.deletions[name] += operation.rows or 0

    def hand_over(self, heir: "StoreTally", lock: AbstractContextManager[object]) -> None:
        """Add everything to another tally, and from now on what was under way, too, when it ends.

        Args:
            heir: The other one.
            lock: Is taken for what comes later, and held by the caller now: other threads may do the same.
        """
        self._heir = heir, lock
        heir.add_all(self)

    def add_all(self, other: "StoreTally") -> None:
        """Count all that another one has counted."""
        for name in list(other.durations):
            durations, sizes = self._counts.get(name) or self._begin_counting(name)
            durations.add_all(other.durations[name])
            sizes.add_all(other.state_bytes[name])
        self.saves.update(other.saves)
        self.errors.update(other.errors)
        self.deletions.update(other.deletions)
        self.lease_losses += other.lease_losses
        self.retries.update(other.retries)
        self.slow.update(other.slow)
        self.batch_rows.add_all(other.batch_rows)
        self.batch_bytes.add_all(other.batch_bytes)
        self.commits.add_all(other.commits)

    def _begin_counting(self, name: str) -> tuple[Distribution, Distribution]:
        self.durations[name], self.state_bytes[name] = counts = Distribution(SECONDS), Distribution(BYTES)
        self._counts[name] = counts
        return counts

    def _fail(self, name: str, error: BaseException) -> None:
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if name == "save":
            self.saves["cancelled" if is_cancelled else "error"] += 1
        if not is_cancelled:
            self.errors[name, class_of(error)] += 1
        if isinstance(error, LeaseLostError):
            self.lease_losses += 1

    def committed(self, rows: int, payload_bytes: int, seconds: float) -> None:
        """See `StoreObserver.committed`."""
        self.batch_rows.add(rows)
        self.batch_bytes.add(payload_bytes)
        self.commits.add(seconds)

    def slowed(self, operation: str, seconds: float) -> None:  # noqa: ARG002 - as the base class has it
        """See `StoreObserver.slowed`."""
        self.slow[operation] += 1

    def retried(self, error: CheckpointStoreError) -> None:
        """See `StoreObserver.retried`."""
        self.retries[class_of(error)] += 1


class RunTally:
    """Counts what one executor does; its `listen` is told of its events.

    Attributes:
        begun: How many runs began or went on here, by whether they went on.
        runs: How many came to what: `success`, `failure`, `paused`, or, when they stopped here, `cancelled`, `lost`,
            `failed`.
        blocks: How many blocks, and items of blocks, came to what.
        block_seconds: How long those took that began here.
        wave_seconds: How long waves took.
        in_progress: The ids of the runs that are at work.
        at_work: The blocks that are at work, by the id of their run.
    """

    def __init__(self) -> None:
        self.begun: Counter[bool] = Counter({False: 0, True: 0})
        self.runs: Counter[str] = Counter(
            dict.fromkeys(("success", "failure", "paused", "cancelled", "lost", "failed"), 0)
        )
        self.blocks: Counter[str] = Counter(dict.fromkeys(("succeeded", "failed", "skipped"), 0))
        self.block_seconds = Distribution(LONG_SECONDS)
        self.wave_seconds = Distribution(LONG_SECONDS)
        self.in_progress: set[str] = set()
        self.at_work: dict[str, set[str]] = {}
        self._heir: tuple[RunTally, AbstractContextManager[object]] | None = None

    async def listen(self, event: events.Event) -> None:
        """Count an event."""
        if self._heir is None:
            self.count(event)
            return
        heir, lock = self._heir
        with lock:
            heir.count(event)

    def hand_over(self, heir: "RunTally", lock: AbstractContextManager[object]) -> None:
        """Add everything to another tally, and from now on what comes of runs that are under way; see `StoreTally`."""
        self._heir = heir, lock
        heir.add_all(self)

    def add_all(self, other: "RunTally") -> None:
        """Count all that another one has counted."""
        self.begun.update(other.begun)
        self.runs.update(other.runs)
        self.blocks.update(other.blocks)
        self.block_seconds.add_all(other.block_seconds)
        self.wave_seconds.add_all(other.wave_seconds)
        self.in_progress |= other.in_progress
        self.at_work.update(other.at_work)

    def count(self, event: events.Event) -> None:
        """Count an event, in the thread that adds."""
        match event:
            case events.RunStarted():
                self.begun[event.continued] += 1
                self.in_progress.add(event.run_id)
            case events.BlockStarted():
                self.at_work.setdefault(event.run_id, set()).add(event.block_id)
            case events.BlockFinished():
                self.blocks[event.status] += 1
                if event.block_id in self.at_work.get(event.run_id, ()):  # others waited for a human
                    self.at_work[event.run_id].discard(event.block_id)
                    self.block_seconds.add(event.seconds)
            case events.BlockSkipped():
                self.blocks["skipped"] += 1
            case events.WaveFinished():
                self.wave_seconds.add(event.seconds)
            case events.RunPaused():
                self._end(event, "paused")
            case events.RunEnded():
                self._end(event, event.status)
            case events.RunStopped():
                self._end(event, event.reason)

    def _end(self, event: events.Event, outcome: str) -> None:
        self.runs[outcome] += 1
        self.in_progress.discard(event.run_id)
        self.at_work.pop(event.run_id, None)


def class_of(error: BaseException) -> str:
    """The name of an error's class, out of a bounded set of names."""
    if isinstance(error, WorkflowsError):
        return type(error).__name__
    return "ValueError" if isinstance(error, ValueError) else "other"
