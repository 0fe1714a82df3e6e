"""Group commit: saves that arrive while a commit is in flight share the next one.

There is one lane. What comes first is committed first, and nothing begins before the fate of what went ahead is
known, so that no two commits in flight hold the same id or run, and a save that its caller gave up cannot overwrite
a later one. Small saves may pass large ones, and never one of their own id. A save and the one that follows it are
never committed together.

A row that comes when nothing else is under way is committed without the lane's task, which would take the event
loop two more turns; whatever goes wrong then is the lane's to deal with.

A row that somebody else has locked is left out for a moment, again and again until its deadline, and others pass it:
none of its id, nor any work that may be about it.

Large rows are finished in threads: neither the event loop nor the lane waits while one is compressed.
"""

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TypeVar

from workflows_mcp.engine.leases import Fence
from workflows_mcp.errors import CheckpointStoreError, StoreFullError
from workflows_mcp.persistence.dialects import (
    BrokenBaseError,
    Row,
    RowsDroppedError,
    RowsHeldError,
    RowsLockedError,
    RowsThereError,
    Then,
)
from workflows_mcp.persistence.dialects.watch import Watch, fail
from workflows_mcp.persistence.next_batch import take_batch
from workflows_mcp.persistence.slow import SlowLog, Timed
from workflows_mcp.persistence.threads import Threads
from workflows_mcp.persistence.waiting import LARGE, Draft, Job, Write

__all__ = ["GRACE_SECONDS", "Writer"]

T = TypeVar("T")

_MOST_BYTES = 32 * 2**20
"""What is accepted and not committed yet. Past it a save waits, before its state is encoded."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.4
"""For how many seconds what has met somebody's lock is left out; twice as long every time. Each try costs the lane the
time that a commit waits for a lock."""

_MOST_PARTINGS = 5
"""How often a row is tried anew when others make deltas of what it replaces all the time."""

_REST = 0.1
"""For how many seconds after such a try no other one begins, so that what has met no lock has the lane meanwhile."""

GRACE_SECONDS = 0.1
"""How much later than its deadline a call is given up by us: the database's own reason is worth more than ours."""


Item = TypeVar("Item", Write, Job)


class Writer:
    """Takes rows from any number of callers and commits them together.

    A caller that is cancelled leaves its row behind, which is committed with the others.

    Args:
        commit: Writes rows with different ids, all or none, by a deadline (of the event loop's clock), and returns
            the ids that were written. Repeats by itself what may succeed shortly. However it ends, nothing of it
            is written later.
        begin: Begins to write one row without waiting, and says later what came of it: the ids that were written,
            or an error; False: it cannot.
        deadline_seconds: How long a call takes at the most.
        too_late: The error for a call that takes longer.
        locked: The error for one that had met locks of somebody else's all the time.
        refused: The error for a row that was not written though its commit succeeded, by its id and the fence that
            may have kept it; None: no fence has.
        part: Stores whole what is a delta of some checkpoints, by a deadline, within the lane's turn. Says whether
            nothing is left to do; if not, somebody has locked what is.
        threads: Finish large rows. Closed with the writer.
        slow: Warns of saves that take long.
        statement: What saves are made with, for such a warning.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Row], float], Awaitable[Collection[str]]],
        begin: Callable[[Row, Then[Collection[str]]], bool],
        *,
        deadline_seconds: float,
        too_late: Callable[[], CheckpointStoreError],
        locked: Callable[[], CheckpointStoreError],
        refused: Callable[[str, Fence | None], CheckpointStoreError],
        part: Callable[[Collection[str], float], Awaitable[bool]],
        threads: Threads,
        slow: SlowLog,
        statement: str,
    ) -> None:
        self._commit = commit
        self._begin_commit = begin
        self._deadline_seconds = deadline_seconds
        self._too_late = too_late
        self._locked = locked
        self._refused = refused
        self._part = part
        self._threads = threads
        self._slow = slow
        self._statement = statement
        self._queue: deque[Write | Job] = deque()
        self._in_flight: Sequence[Write | Job] = ()
        self._lane: asyncio.Task[None] | None = None
        self._alone = False
        self._last_rows = 0  # of the commit before
        self._retries_from = 0.0
        self._watch = Watch(too_late)
        self._bytes = 0
        self._outside = 0
        self._door = asyncio.Lock()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._has_changed = asyncio.Event()

    @property
    def queued(self) -> tuple[int, int]:
        """How many saves and jobs are not done yet, and about how many bytes they have."""
        return len(self._queue) + len(self._in_flight), self._bytes

    async def save(self, encode: Callable[[], Draft]) -> None:
        """Commit a row; returns when it is durable.

        Args:
            encode: Drafts the row when there is room for it.

        Raises:
            CheckpointStoreError: It was not written, or not in time.
            Exception: What `encode`, or finishing its draft, raised.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        deadline = started + self._deadline_seconds
        if self._outside or not self._has_room.is_set():
            write = await self._wait_outside(lambda: self._begin(encode(), deadline), deadline)
        else:
            write = self._begin(encode(), deadline)
            is_first = self._lane is None and not self._alone and not self._queue
            if not is_first or not write.row or not self._start_alone(write):
                self._accept(write)
        await write.done
        if loop.time() - started >= self._slow.seconds:
            self._look_at(write, started)

    async def run(
        self,
        work: Callable[[float], Awaitable[T]],
        keys: Collection[str] | None = None,
        *,
        waits: bool = True,
        deadline: float | None = None,
        call: Timed | None = None,
    ) -> T:
        """Do other work when all that came before is done, and before anything that comes after.

        Args:
            work: Called with the deadline, by which it must have ended.
            keys: The ids that it is about, if it may pass what waits for somebody's lock on others; None: it may not.
            waits: Whether it is tried again, until the deadline, when it has met a lock of somebody else's.
            deadline: In the event loop's time; None: as of any call that begins now.
            call: Is told when the work's turn came.

        Raises:
            RowsLockedError: It has met such a lock, and does not wait.
            CheckpointStoreError: What the work raised, or it was too late to begin.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        until = loop.time() + self._deadline_seconds if deadline is None else deadline
        job = Job(work, done, until, keys, waits=waits)
        if self._outside:
            await self._wait_outside(lambda: job, job.deadline)
        else:
            self._accept(job)
        result = await done
        if call is not None:
            call.begun = job.begun
        return result

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109 - what is left after it is given up, not cancelled
        """Commit what was accepted; what is not done in time fails as too late."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._lane is not None or self._alone or self._outside:
                    self._has_changed.clear()
                    await self._has_changed.wait()
        self._give_up((*self._in_flight, *self._queue))
        self._count(-sum(item.kept_bytes for item in self._queue))
        self._queue.clear()
        if self._lane is not None:
            self._lane.cancel()
            await asyncio.wait({self._lane}, timeout=GRACE_SECONDS)
        self._watch.stop()
        self._threads.close(drops_the_rest=True)

    def _begin(self, draft: Draft, deadline: float) -> Write:
        """Finish a row, or have a thread do it; then it waits in its place, and those behind may pass it."""
        loop = asyncio.get_running_loop()
        write = Write(draft, loop.create_future(), deadline)
        if write.size < LARGE:
            write.take(draft.finish())
        else:
            finishing = self._threads.begin(draft.finish)
            finishing.add_done_callback(functools.partial(self._take, write))
        return write

    def _take(self, write: Write, finished: "asyncio.Future[Row]") -> None:
        """Make a write of a row that a thread has finished ready to be committed."""
        error = asyncio.CancelledError() if finished.cancelled() else finished.exception()
        if write not in self._queue:
            return  # given up meanwhile
        if error is None:
            self._count(-write.kept_bytes)
            write.take(finished.result())
            self._count(write.kept_bytes)
        else:
            self._queue.remove(write)
            self._count(-write.kept_bytes)
            fail(write.done, error)

    async def _wait_outside(self, make: Callable[[], Item], deadline: float) -> Item:
        """Wait for room, in the order of arrival: nothing passes what came before it, of whichever id."""
        self._outside += 1
        try:
            async with asyncio.timeout_at(deadline), self._door:
                await self._has_room.wait()
                item = make()
                self._accept(item)
                return item
        except TimeoutError:
            pass
        finally:
            self._outside -= 1
            self._has_changed.set()
        raise self._too_late()

    def _start_alone(self, write: Write) -> bool:
        """Begin to commit a row that nothing is ahead of; False: it must go the lane's way."""
        if not self._begin_commit(write.row, functools.partial(self._end_alone, write)):
            return False
        self._alone = True
        self._in_flight = (write,)
        self._watch.add(write.done, write.deadline + GRACE_SECONDS)
        return True

    def _end_alone(self, write: Write, written: Collection[str] | None, error: BaseException | None) -> None:
        self._alone = False
        self._in_flight = ()
        self._last_rows = 1
        self._has_changed.set()
        if error is None:
            self._acknowledge(write, written or ())
        elif write.deadline <= asyncio.get_running_loop().time():
            fail(write.done, error)
        else:
            # Ahead of all that came meanwhile. The lane tries again, and knows what to make of errors.
            self._queue.appendleft(write)
            self._count(write.kept_bytes)
        self._start_lane()

    def _accept(self, item: Write | Job) -> None:
        self._queue.append(item)
        self._count(item.kept_bytes)
        self._watch.add(item.done, item.deadline + GRACE_SECONDS)
        self._start_lane()

    def _start_lane(self) -> None:
        if self._queue and self._lane is None and not self._alone:
            self._lane = asyncio.create_task(self._drain())

    def _count(self, size: int) -> None:
        """Note that the queue has changed, and by how many bytes."""
        self._has_changed.set()
        self._bytes += size
        if self._bytes < _MOST_BYTES:
            self._has_room.set()
        else:
            self._has_room.clear()

    async def _drain(self) -> None:
        """The lane: commits batch after batch until the queue is empty."""
        try:
            while self._queue:
                self._has_changed.clear()
                self._in_flight = batch = self._next_batch()
                if not batch:
                    await self._has_changed.wait()
                elif isinstance(batch[0], Job):
                    await self._do(batch[0])
                else:
                    await self._write(batch)  # type: ignore[arg-type] # a job is always alone
                self._end_batch()
        finally:
            # Nothing is in flight, but for a close that has waited long enough, and a task that somebody cancelled.
            self._give_up(self._in_flight)
            self._end_batch()
            self._lane = None
            if not all(item.done.done() for item in self._queue):
                self._start_lane()  # somebody cancelled this task, and others still wait

    def _end_batch(self) -> None:
        batch, self._in_flight = self._in_flight, ()
        self._last_rows = len(batch) or self._last_rows
        self._count(-sum(item.kept_bytes for item in batch))

    def _next_batch(self) -> Sequence[Write | Job]:
        """What the next commit holds. What its caller may be told has failed does not begin."""
        now = asyncio.get_running_loop().time()
        batch, late = take_batch(self._queue, self._last_rows, now, retries_from=self._retries_from)
        if late:
            self._give_up(late)
            self._count(-sum(item.kept_bytes for item in late))
        return batch

    async def _write(self, batch: Sequence[Write], *, is_final: bool = False) -> None:
        """Commit a batch. When one row may be to blame for a failure, its halves are tried each on its own.

        A fenced row that was not written is tried once more, unless this `is_final`: a commit may have looked at the
        other rows before an earlier attempt to write the same one came to light, and a repetition must succeed.
        """
        now = asyncio.get_running_loop().time()
        for item in batch:
            item.begun = item.begun or now
        try:
            written = await self._commit([item.row for item in batch], batch[-1].deadline)
        except RowsLockedError as error:
            await self._write_unlocked(batch, error.ids, is_final=is_final)
            return
        except Exception as error:  # noqa: BLE001 - it is the callers'
            failure = error
        else:
            await self._tell(batch, written, is_final=is_final)
            return
        await self._blame(batch, failure, is_final=is_final)

    async def _write_unlocked(self, batch: Sequence[Write], ids: Collection[str], *, is_final: bool) -> None:
        """Commit what is left of a batch without the rows that somebody else has locked, as far as they are known."""
        is_early = asyncio.get_running_loop().time() < batch[0].deadline
        if not ids and len(batch) > 1 and is_early:
            await self._write_halves(batch, is_final=is_final)  # nobody knows which it is
        elif not ids and is_early and batch[0].make_whole is not None:
            try:
                await self._make_whole(batch[0])
            except Exception as error:  # noqa: BLE001 - it is the caller's
                fail(batch[0].done, error)
            else:
                await self._write(batch, is_final=is_final)  # what is locked may be its base
        elif others := self._without(batch, ids):
            await self._write(others, is_final=is_final)

    async def _blame(self, batch: Sequence[Write], failure: Exception, *, is_final: bool) -> None:
        """Tell the callers of a batch why it failed; if one row may be to blame, find out which, and try to mend it."""
        if len(batch) > 1 and _may_be_one_rows_fault(failure):
            await self._write_halves(batch, is_final=is_final)
            return
        if len(batch) == 1 and isinstance(failure, RowsDroppedError):
            failure = self._refused(batch[0].key, None)  # its fence has let it pass
        if len(batch) == 1 and isinstance(failure, BrokenBaseError):
            try:
                is_mended = await self._mend(batch[0])
            except RowsLockedError:
                self._leave_out(batch)
                return
            except Exception as error:  # noqa: BLE001 - it is the caller's
                failure, is_mended = error, False
            if is_mended:
                await self._write(batch, is_final=is_final)
                return
        for item in batch:
            fail(item.done, failure)

    async def _mend(self, write: Write) -> bool:
        """Have a row saved whole whose base is gone, or part from it what is a delta of it; False: that is no use.

        Raises:
            RowsLockedError: Somebody has locked what is a delta of it, or the table.
            CheckpointStoreError: What is a delta of it cannot be parted.
        """
        if asyncio.get_running_loop().time() >= write.deadline:
            return False
        if await self._make_whole(write):
            return True
        if write.partings == _MOST_PARTINGS:
            return False
        if not await self._part((write.key,), write.deadline):
            raise RowsLockedError
        write.partings += 1
        return True

    async def _make_whole(self, write: Write) -> bool:
        """Have a row need no base any more; False: it needs none as it is."""
        if write.make_whole is None:
            return False
        make_whole, write.make_whole = write.make_whole, None
        row = make_whole() if write.kept_bytes < LARGE else await self._threads.run(make_whole)
        self._count(-write.kept_bytes)
        write.take(row)
        self._count(write.kept_bytes)
        return True

    async def _write_halves(self, batch: Sequence[Write], *, is_final: bool) -> None:
        half = len(batch) // 2
        await self._write(batch[:half], is_final=is_final)
        await self._write(batch[half:], is_final=is_final)

    async def _tell(self, batch: Sequence[Write], written: Collection[str], *, is_final: bool) -> None:
        """Tell the callers of a batch that was committed, but for those whose rows are tried once more."""
        refused = [] if is_final else [one for one in batch if one.fence is not None and one.key not in written]
        for item in batch:
            if item not in refused:
                self._acknowledge(item, written)
        if refused:
            await self._write(refused, is_final=True)

    def _acknowledge(self, write: Write, written: Collection[str]) -> None:
        """Tell the caller of a row whose commit succeeded whether it was written."""
        if write.done.done():
            return  # given up
        if write.key in written:
            write.done.set_result(None)
        else:
            write.done.set_exception(self._refused(write.key, write.fence))

    async def _do(self, job: Job) -> None:
        job.begun = job.begun or asyncio.get_running_loop().time()
        try:
            result = await job.work(job.deadline)
        except RowsLockedError as error:
            if job.waits:
                self._leave_out([job])
            else:
                fail(job.done, error)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            fail(job.done, error)
        else:
            if not job.done.done():
                job.done.set_result(result)

    def _look_at(self, write: Write, started: float) -> None:
        call = Timed("save", started, self._statement, 1)
        call.begun = write.begun
        self._slow.look_at(call)

    def _without(self, batch: Sequence[Write], ids: Collection[str]) -> Sequence[Write]:
        """What is left of a batch when the rows that are locked are left out of it."""
        locked = [item for item in batch if item.key in ids or item.follows in ids] or batch
        self._leave_out(locked)
        return [item for item in batch if item not in locked]

    def _leave_out(self, items: Sequence[Write | Job]) -> None:
        """Put items that met somebody's lock back to the front of the queue, not to be tried for a moment."""
        loop = asyncio.get_running_loop()
        # Each try takes the lane for a while. Were one always due, nothing else would have its turn.
        self._retries_from = loop.time() + _REST
        loop.call_at(self._retries_from, self._has_changed.set)
        for item in items:
            item.pause = min(item.pause * 2 or _FIRST_PAUSE, _LONGEST_PAUSE)
            item.left_out_until = min(loop.time() + item.pause, item.deadline)
            loop.call_at(item.left_out_until, self._has_changed.set)
        self._queue.extendleft(reversed(items))
        self._count(sum(item.kept_bytes for item in items))

    def _give_up(self, items: Iterable[Write | Job]) -> None:
        for item in items:
            fail(item.done, self._locked() if item.pause else self._too_late())


def _may_be_one_rows_fault(error: Exception) -> bool:
    """Whether the other rows of a batch may fare better: not when the database as a whole is the matter."""
    return not isinstance(error, CheckpointStoreError) or type(error) in {
        BrokenBaseError,
        CheckpointStoreError,
        RowsDroppedError,
        RowsHeldError,  # by a trigger of somebody else's
        RowsThereError,  # by an index of somebody else's making
        StoreFullError,
    }
