"""A PostgreSQL server crashes under load, again and again."""

import asyncio
import statistics

from tests.faults.audit import audit
from tests.faults.load import Acknowledged, save_for_ever
from tests.faults.row import Effort, Place, Row, Verdict
from tests.faults.servers import Server, new_server
from workflows_mcp import CheckpointStoreError, SQLAlchemyCheckpointStore, StoreUnavailableError, upgrade_schema
from workflows_mcp.settings import Settings

__all__ = ["ROW"]

_TASKS = 16


async def check(place: Place, effort: Effort) -> Verdict:
    """Crash the server, leave it down for shorter or for longer than a call waits, start it, and see saving go on."""
    chance = effort.chance()
    verdict = Verdict({"crashes": 0})
    acknowledged = Acknowledged(place.folder / "acknowledged")
    errors: list[CheckpointStoreError] = []
    settings = Settings(deadline_seconds=effort.of(1.0, 0.3))
    resumed: list[float] = []
    # By default it would lose what it acknowledges: the store asks for more.
    weak = new_server(place.folder, synchronous_commit="off", wal_writer_delay="10s")
    async with weak as server, SQLAlchemyCheckpointStore(server.url, settings=settings) as store:
        await upgrade_schema(server.url)
        saving = save_for_ever(server.url, acknowledged, tasks=_TASKS, on_error=errors.append, settings=settings)
        tasks = {asyncio.create_task(saving), asyncio.create_task(_read_for_ever(store, errors))}
        await acknowledged.grown(0)
        crashes = effort.of(12, 2)
        for number in range(crashes):
            await asyncio.sleep(chance.uniform(0.1, effort.of(1.0, 0.2)))
            await server.crash()
            # Every other time for longer than the savers' calls wait, who then are told.
            share = chance.uniform(0, 0.4) if number % 2 else chance.uniform(1.1, 1.6)
            await asyncio.sleep(settings.deadline_seconds * share)
            up_at = await server.start()
            await acknowledged.grown(acknowledged.size)
            resumed.append(asyncio.get_running_loop().time() - up_at)
        await asyncio.sleep(effort.of(1.0, 0.1))
        verdict.broken += [f"a task ended by itself: {task.exception()!r}" for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        verdict.figures["crashes"] = crashes
        (await audit(store, acknowledged)).tell(verdict)
        await _look_for_duplicates(server, verdict)
    verdict.figures["errors"] = len(errors)
    verdict.figures["ms to first success, median"] = round(statistics.median(resumed) * 1000)
    verdict.figures["worst"] = round(max(resumed) * 1000)
    verdict.require(errors, "no call failed while the server was down for longer than it waits")
    others = [error for error in errors if not isinstance(error, StoreUnavailableError)]
    verdict.require(not others, f"{len(others)} calls raised something else, such as {others[:1]}")
    return verdict


async def _read_for_ever(store: SQLAlchemyCheckpointStore, errors: list[CheckpointStoreError]) -> None:
    """List, load and count all the time."""
    while True:
        try:
            for metadata in await store.list_checkpoints(limit=3):
                assert await store.load_checkpoint(metadata.checkpoint_id) is not None, "what is listed is not there"
            await store.get_stats()
        except CheckpointStoreError as error:
            errors.append(error)
        await asyncio.sleep(0.01)


async def _look_for_duplicates(server: Server, verdict: Verdict) -> None:
    """By reading the table alone: an index that a crash has damaged would hide them."""
    [[rows, ids]] = await server.fetch("SELECT count(*), count(DISTINCT checkpoint_id || '') FROM checkpoints")
    verdict.figures["duplicates"] = rows - ids
    verdict.require(rows == ids, f"{rows - ids} rows have the id of another")


ROW = Row(
    fault="PostgreSQL crash",
    promise="No acknowledged save is lost or there twice; saving goes on by itself when the server is back.",
    check=check,
    databases=("postgresql",),
)
