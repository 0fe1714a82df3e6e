"""What waits in the writer's queue."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, NamedTuple

from workflows_mcp.engine.leases import Fence
from workflows_mcp.persistence.dialects import Row
from workflows_mcp.persistence.rows import base_of

__all__ = ["LARGE", "ROW_BYTES", "Draft", "Job", "Write"]

ROW_BYTES = 1024
"""What a row takes up besides its payload, roughly."""

LARGE = 64 * 2**10
"""From this many bytes on a row is large: it is finished in a thread, and shares commits as far as it fits."""


class Draft(NamedTuple):
    """A row that is still to be finished.

    Attributes:
        key: Its id.
        size: About how many bytes it has.
        finish: Makes the row, a tuple of the id, other columns and the payload; called once, in any thread.
        fence: What the save asks for; None: nothing.
        make_whole: Makes the same row as no delta; called once at the most, in any thread. None: it is none anyway.
    """

    key: str
    size: int
    finish: Callable[[], Row]
    fence: Fence | None = None
    make_whole: Callable[[], Row] | None = None


class _Waiting:
    """What is common to all that waits.

    Attributes:
        pause: For how many seconds it was left out last; 0: it has met no lock of somebody else's.
        left_out_until: In the event loop's time.
        begun: When its turn came, in the event loop's time; 0: it has not, or there was no queue.
    """

    __slots__ = ("begun", "left_out_until", "pause")

    def __init__(self) -> None:
        self.pause = 0.0
        self.left_out_until = 0.0
        self.begun = 0.0


class Write(_Waiting):
    """A row that waits to be committed, empty until it is finished, and the caller who waits for it.

    Attributes:
        size: How many bytes it has.
        kept_bytes: How many are in memory until it is done.
        base: The id of what it is a delta of; None: it is stored whole, or not finished.
        make_whole: See `Draft`.
        partings: How often what is a delta of it was parted from it.
    """

    __slots__ = (
        "base",
        "deadline",
        "done",
        "fence",
        "follows",
        "kept_bytes",
        "key",
        "make_whole",
        "partings",
        "row",
        "size",
    )

    def __init__(self, draft: Draft, done: "asyncio.Future[None]", deadline: float) -> None:
        super().__init__()
        self.row: Row = ()
        self.key = draft.key
        self.fence = draft.fence
        self.follows = None if draft.fence is None else draft.fence.follows
        self.size = self.kept_bytes = draft.size + ROW_BYTES
        self.base: str | None = None
        self.make_whole = draft.make_whole
        self.partings = 0
        self.done = done
        self.deadline = deadline

    def take(self, row: Row) -> None:
        """Take the finished row. That of a delta keeps the state's plain JSON in memory, besides."""
        self.row = row
        self.size = len(row[-1]) + ROW_BYTES
        self.base = base_of(row)
        if self.base is None:
            self.make_whole = None
            self.kept_bytes = self.size


class Job(_Waiting):
    """Work of another kind that keeps its place among the writes.

    Attributes:
        keys: The ids that it is about; None: it may be about any.
        waits: Whether it is tried again when it has met a lock of somebody else's.
    """

    __slots__ = ("deadline", "done", "kept_bytes", "keys", "size", "waits", "work")

    def __init__(
        self,
        work: Callable[[float], Awaitable[Any]],
        done: "asyncio.Future[Any]",
        deadline: float,
        keys: Collection[str] | None,
        *,
        waits: bool,
    ) -> None:
        super().__init__()
        self.waits = waits
        self.keys = None if keys is None else frozenset(keys)
        self.work = work
        self.done = done
        self.deadline = deadline
        self.size = self.kept_bytes = 0
