"""A PostgreSQL server crashes under load, again and again."""

import asyncio
import contextlib
import statistics

from tests.faults.load import Acknowledged, audit, save_for_ever
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
    settings = Settings(deadline_seconds=effort.of(1.0, 0.4))
    resumed: list[float] = []
    async with new_server(place.folder) as server:
        await upgrade_schema(server.url)
        async with SQLAlchemyCheckpointStore(server.url, settings=settings) as store:
            saving = asyncio.create_task(
                save_for_ever(server.url, acknowledged, tasks=_TASKS, on_error=errors.append, settings=settings)
            )
            reading = asyncio.create_task(_read_for_ever(store, acknowledged, errors))
            await acknowledged.grown(0)
            crashes = effort.of(12, 3)
            for number in range(crashes):
                await asyncio.sleep(chance.uniform(0.1, effort.of(1.5, 0.2)))
                await server.crash()
                # Every other time for longer than the savers' calls wait, who then are told.
                down = settings.deadline_seconds * (chance.uniform(0, 0.4) if number % 2 else chance.uniform(1.1, 1.6))
                await asyncio.sleep(down)
                up_at = await server.start()
                await acknowledged.grown(acknowledged.size)
                resumed.append(asyncio.get_running_loop().time() - up_at)
            await asyncio.sleep(effort.of(1.0, 0.1))
            ended = [task for task in (saving, reading) if task.done()]
            for task in (saving, reading):
                task.cancel()
            await asyncio.wait({saving, reading})
            for task in ended:
                verdict.require(False, f"a task ended by itself: {task.exception()!r}")  # noqa: FBT003
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


async def _read_for_ever(
    store: SQLAlchemyCheckpointStore, acknowledged: Acknowledged, errors: list[CheckpointStoreError]
) -> None:
    """Load, list and count all the time."""
    while True:
        for checkpoint_id in list(acknowledged.newest)[-3:]:
            with contextlib.suppress(StoreUnavailableError):
                assert await store.load_checkpoint(checkpoint_id) is not None, f"{checkpoint_id} is not there"
        for call in (store.list_checkpoints(limit=10), store.get_stats()):
            try:
                await call
            except CheckpointStoreError as error:
                errors.append(error)
        await asyncio.sleep(0.01)


async def _look_for_duplicates(server: Server, verdict: Verdict) -> None:
    """By reading the table alone: an index that a crash has damaged hides them."""
    [[rows, ids]] = await server.fetch(
        "SELECT count(*), count(DISTINCT checkpoint_id || '') FROM checkpoints"
    )
    verdict.figures["duplicates"] = rows - ids
    verdict.require(rows == ids, f"{rows - ids} rows have the id of another")


ROW = Row(
    fault="PostgreSQL crash",
    promise="No acknowledged save is lost or there twice; saving goes on by itself when the server is back.",
    check=check,
    databases=("postgresql",),
)
