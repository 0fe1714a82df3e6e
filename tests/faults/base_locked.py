"""Somebody holds a lock on a row of PostgreSQL of which others are deltas, or are to become some."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import asyncpg

from tests.faults.links import links_of
from tests.faults.load import state_of
from tests.faults.row import Effort, Place, Verdict
from workflows_mcp import SQLAlchemyCheckpointStore, StoreUnavailableError, upgrade_schema
from workflows_mcp.settings import Settings

__all__ = ["base_is_locked"]

_MOST_OVERRUN = 0.25
"""How much later than its deadline a call may end, in seconds."""

_LONGEST_READ = 0.25

_LAST = 9
"""The number of the newest state of the run, which is locked; the one before is what it is a delta of."""

_WRITES: Mapping[str, Callable[[SQLAlchemyCheckpointStore], Awaitable[object]]] = {
    "save of a delta of it": lambda store: store.save_checkpoint(state_of(f"run/{_LAST + 1}", _LAST + 1)),
    "save in its place": lambda store: store.save_checkpoint(state_of(f"run/{_LAST}", _LAST + 100)),
    "deletion": lambda store: store.delete_checkpoint(f"run/{_LAST}"),
    "deletion of its base": lambda store: store.delete_checkpoint(f"run/{_LAST - 1}"),
}
"""What is about the locked row. The first needs it only to be short, so that it is written whole."""


async def base_is_locked(place: Place, effort: Effort, verdict: Verdict) -> None:
    """Writes that are about it succeed or end at their deadline, others go on, and all works when it is free."""
    settings = Settings(deadline_seconds=effort.of(2.0, 0.5))
    await upgrade_schema(place.url)
    verdict.figures |= {"refused writes": 0, "written all the same": 0}
    worst = 0.0
    for name, write in _WRITES.items():
        async with SQLAlchemyCheckpointStore(place.url, settings=settings) as store:
            await store.delete_run("run")
            for number in range(_LAST + 1):
                await store.save_checkpoint(state_of(f"run/{number}", number))
            async with _locked(place.url, f"run/{_LAST}"):
                began = time.monotonic()
                writing = asyncio.create_task(_is_refused(write(store)))
                others = 0
                while not writing.done():
                    await store.save_checkpoint(state_of(f"other/{others}", others))
                    others += 1
                    await _read(store, verdict)
                worst = max(worst, time.monotonic() - began - settings.deadline_seconds)
                figure = "refused writes" if writing.result() else "written all the same"
                verdict.figures[figure] = int(str(verdict.figures[figure])) + 1
                verdict.require(others > 1, f"nobody else could save beside a {name}")
            verdict.require(not await _is_refused(write(store)), f"a {name} does not work when the row is free again")
            links = await links_of(store)
            verdict.broken += links.wrong
            for number in range(_LAST - 1):
                found = await store.load_checkpoint(f"run/{number}")
                verdict.require(found == state_of(f"run/{number}", number), f"run/{number} is another after a {name}")
    links.tell(verdict)
    verdict.figures["worst overrun ms"] = round(worst * 1000)
    verdict.require(worst <= _MOST_OVERRUN, f"a write ended {worst:.3f} s after its deadline")
    refused = verdict.figures["refused writes"]
    verdict.require(refused == len(_WRITES) - 1, f"{refused} kinds of writes were refused, and all but one were to be")


async def _is_refused(call: Awaitable[object]) -> bool:
    try:
        await call
    except StoreUnavailableError:
        return True
    return False


async def _read(store: SQLAlchemyCheckpointStore, verdict: Verdict) -> None:
    began = time.monotonic()
    verdict.require(await store.load_checkpoint(f"run/{_LAST}") is not None, "what is locked cannot be loaded")
    seconds = time.monotonic() - began
    verdict.require(seconds <= _LONGEST_READ, f"a read took {seconds:.3f} s")


@asynccontextmanager
async def _locked(url: str, checkpoint_id: str) -> AsyncIterator[None]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN")
        await connection.execute("SELECT FROM checkpoints WHERE checkpoint_id = $1 FOR UPDATE", checkpoint_id)
        yield
    finally:
        await connection.close()
