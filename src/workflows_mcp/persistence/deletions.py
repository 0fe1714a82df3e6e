"""Deletes checkpoints whose deltas may stay: these are stored whole before, each as no delta any more."""

import asyncio
import contextlib
import functools
from collections.abc import Collection, Sequence
from typing import Any

from workflows_mcp.engine.state_json import IMPORTING
from workflows_mcp.errors import CheckpointDecodeError, CheckpointKeyError
from workflows_mcp.persistence import statements
from workflows_mcp.persistence.database import Database
from workflows_mcp.persistence.dialects import BrokenBaseError, RowsHeldError
from workflows_mcp.persistence.rows import shown_text
from workflows_mcp.persistence.statements import TABLE, Query

__all__ = ["delete_checkpoint", "make_whole", "remove"]

_MOST_PARTINGS = 5
"""How often deltas are looked for anew that others make, at the same time, of what is to be deleted."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.4
"""Seconds between two looks at deltas that somebody has locked; twice as long every time."""

_LAST_TRY = 0.05
"""How many seconds before the deadline the last one begins."""


async def delete_checkpoint(database: Database, checkpoint_id: str) -> bool:
    """Delete one checkpoint, within one deadline; see `CheckpointStore.delete_checkpoint`."""
    own = (checkpoint_id,)
    try:
        removed = remove(database, statements.remove(checkpoint_id), own, keys=own)
        return await database.in_time(removed) > 0
    except CheckpointKeyError:
        raise
    except CheckpointDecodeError as error:
        failure = error
    rows: Sequence[Sequence[Any]] = await database.fetch_long(database.chains.needing(checkpoint_id))
    [[count, first]] = rows
    raise _still_needed(checkpoint_id, failure, count, shown_text(first))


async def remove(
    database: Database,
    query: Query,
    checkpoint_ids: Collection[str],
    *,
    keys: Collection[str],
    waits: bool = True,
    lets_go: bool = False,
) -> int:
    """Run a statement that deletes checkpoints; what is a delta of them, and stays, is stored whole before.

    Args:
        database: Where they are.
        query: The statement.
        checkpoint_ids: Those that it deletes.
        keys: See `Writer.run`.
        waits: See there. Then whoever has locked such a delta is waited for, too, and all of it has one deadline;
            otherwise each statement has one of its own.
        lets_go: See `make_whole`; for what goes itself, a moment later.

    Returns:
        How many it deleted.

    Raises:
        RowsLockedError: See there. PostgreSQL waits for whoever is about to delete such a delta.
        BrokenBaseError: Somebody has locked such a delta, and it does not wait, or makes others all the time.
        CheckpointDecodeError: Such a delta cannot be stored whole; see `make_whole`.
        RowsHeldError: A foreign key of somebody else's leads to one of them.
        CheckpointStoreError: The error, in the project's terms.
    """
    deadline = database.deadline() if waits else None
    partings, pause = 0, _FIRST_PAUSE
    while partings < _MOST_PARTINGS:
        with contextlib.suppress(BrokenBaseError):
            return await database.change(query, keys=keys, waits=waits, deadline=deadline)
        if await make_whole(database, checkpoint_ids, lets_go=lets_go, deadline=deadline):
            partings += 1
        elif deadline is None:
            break
        elif (left := deadline - asyncio.get_running_loop().time() - _LAST_TRY) <= 0:
            raise database.failures.locked()
        else:
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)
    try:
        return await database.change(query, keys=keys, waits=waits, deadline=deadline)
    except BrokenBaseError as error:
        refusal = error
    raise await _held(database, checkpoint_ids, deadline) or refusal


async def make_whole(
    database: Database, checkpoint_ids: Collection[str], *, lets_go: bool, deadline: float | None = None
) -> bool:
    """Store whole what is a delta of some checkpoints, and is none of them; see `Chains.make_whole`.

    Args:
        database: Where they are.
        checkpoint_ids: Their ids.
        lets_go: See there.
        deadline: In the event loop's time; None: each statement has a deadline of its own.
    """

    async def rewrite(query: Query, changed: Collection[str]) -> Sequence[Sequence[Any]]:
        return await database.fetch_changed(lambda _: query, keys=changed, deadline=deadline)

    fetch = functools.partial(database.fetch_long, deadline=deadline)
    return await database.chains.make_whole(checkpoint_ids, fetch, rewrite, database.threads, lets_go=lets_go)


async def _held(database: Database, checkpoint_ids: Collection[str], deadline: float | None) -> RowsHeldError | None:
    """Whose key it is that keeps what nothing is a delta of; None: something is, or nobody's."""
    referring, fetch = database.dialect.tables_referring, functools.partial(database.fetch_long, deadline=deadline)
    if referring is None or await fetch(database.chains.dependents(checkpoint_ids, 1)):
        return None
    tables = await fetch(Query(referring, {"table": TABLE.name}))
    return RowsHeldError.by(database.description, [name for (name,) in tables]) if tables else None


def _still_needed(checkpoint_id: str, failure: CheckpointDecodeError, count: int, first: str) -> CheckpointDecodeError:
    """The error for deleting what others need that could not be read any more, whatever was put back."""
    link = failure.link
    they, them = (f"checkpoint {first!r} needs", "it") if count == 1 else (f"{count:,} checkpoints need", "them")
    such_as = "" if count == 1 else f", such as {first!r}"
    error = CheckpointDecodeError(
        f"checkpoint {checkpoint_id!r} was not deleted: {they} it{such_as}, and could never be read again without it, "
        f"since {link!r} {failure.reason}; put {link!r} back ({IMPORTING}), or delete {them} first, from the newest "
        "on, or all of the run (workflows-mcp runs delete RUN_ID)"
    )
    error.link, error.reason = link, failure.reason
    return error
