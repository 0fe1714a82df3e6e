"""The choice of what shares the writer's next commit."""

from collections import deque
from collections.abc import Sequence

from workflows_mcp.persistence.waiting import LARGE, Job, Write

__all__ = ["take_batch"]

_BATCH_ROWS = 128
"""The most rows of one commit. Beyond a hundred, more of them make it no cheaper, only later."""

_FEWEST_ROWS = 8
"""Up to so many rows a commit takes all that wait; of more, it leaves half to the next one. Callers that all share
one commit come back all at once, and then the database waits while they encode, and they while it commits."""

_BATCH_BYTES = 4 * 2**20
"""The most bytes of one commit, once for small rows and once for large ones; one row alone may have more."""

_LOOK_AHEAD = 1024
"""How many rows may stay behind in the queue while a batch is put together."""


def take_batch(
    queue: deque[Write | Job], last_rows: int, now: float, *, retries_from: float
) -> tuple[Sequence[Write | Job], Sequence[Write | Job]]:
    """Take what the next commit holds: a job alone, or finished rows with different ids within the bounds.

    A row that follows another has the id of that one, too. Two that share an id must come one after the other: what
    the second may do depends on what became of the first.

    Nor is a delta there behind what bears the id of its base. A foreign key is looked at when a statement is over: two
    that were inserted by one, since others had deleted both, could be each other's bases.

    Args:
        queue: What waits, first come first. What stays keeps its order.
        last_rows: How many rows the commit before had, whose callers may be about to come back.
        now: In the event loop's time.
        retries_from: When what has met somebody's lock may be tried again at the earliest.

    Returns:
        The batch, which has nothing in it when all that waits is late, unfinished or left out; and what was late.
    """
    most_rows = min(max((last_rows + len(queue) + 1) // 2, _FEWEST_ROWS), _BATCH_ROWS)
    batch: list[Write] = []
    behind: list[Write | Job] = []
    late: list[Write | Job] = []
    ids: set[str] = set()  # of the batch
    keys: set[str] = set()
    keys_behind: set[str] = set()
    room = {False: _BATCH_BYTES, True: _BATCH_BYTES}  # by whether a row is large
    is_passable = True  # all that is behind has met a lock, or waits for what has
    while queue and len(batch) < most_rows and len(behind) < _LOOK_AHEAD:
        item = queue.popleft()
        if item.deadline <= now:
            late.append(item)
            continue
        may_try = not item.pause or max(item.left_out_until, retries_from) <= now
        if isinstance(item, Job):
            may_pass = not behind or (is_passable and item.keys is not None)
            is_free = may_try and may_pass and keys_behind.isdisjoint(item.keys or ())
            if is_free and not batch:
                queue.extendleft(reversed(behind))
                return [item], late
            if is_free or item.keys is None or not is_passable:
                queue.appendleft(item)
                break
            behind.append(item)
            keys |= item.keys
            keys_behind |= item.keys
            continue
        is_large = item.size >= LARGE
        is_first = item.key not in keys and item.follows not in keys
        is_ready = item.row and is_first and item.base not in ids and may_try
        if is_ready and (item.size <= room[is_large] or not batch):
            batch.append(item)
            ids.add(item.key)
            room[is_large] -= item.size
        else:
            behind.append(item)
            keys_behind.update((item.key, item.follows or item.key))
            is_passable = is_passable and bool(item.row)
        keys.add(item.key)  # also of one that stays behind: none of its id may pass it
        if item.follows is not None:
            keys.add(item.follows)
    queue.extendleft(reversed(behind))
    return batch, late
