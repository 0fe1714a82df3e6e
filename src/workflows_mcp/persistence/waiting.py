"""What waits in the writer's queue."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from workflows_mcp.engine.leases import Fence
from workflows_mcp.persistence.dialects import Row

__all__ = ["ROW_BYTES", "Draft", "Job", "Write"]

ROW_BYTES = 1024
"""What a row takes up besides its payload, roughly."""


class Draft(NamedTuple):
    """A row that is still to be finished.

    Attributes:
        key: Its id.
        size: About how many bytes it has.
        finish: Makes the row, a tuple of the id, other columns and the payload; called once, in any thread.
        fence: What the save asks for; None: nothing.
    """

    key: str
    size: int
    finish: Callable[[], Row]
    fence: Fence | None = None


class Write:
    """A row that waits to be committed, empty until it is finished, and the caller who waits for it."""

    __slots__ = ("deadline", "done", "fence", "follows", "key", "row", "size")

    def __init__(self, draft: Draft, done: "asyncio.Future[None]", deadline: float) -> None:
        self.row: Row = ()
        self.key = draft.key
        self.fence = draft.fence
        self.follows = None if draft.fence is None else draft.fence.follows
        self.size = draft.size + ROW_BYTES
        self.done = done
        self.deadline = deadline


class Job:
    """Work of another kind that keeps its place among the writes."""

    __slots__ = ("deadline", "done", "size", "work")

    def __init__(self, work: Callable[[float], Awaitable[Any]], done: "asyncio.Future[Any]", deadline: float) -> None:
        self.work = work
        self.done = done
        self.deadline = deadline
        self.size = 0
