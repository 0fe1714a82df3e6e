"""A process that saves is killed at random moments."""

import asyncio
import contextlib
import sqlite3
import time

import asyncpg

from tests.faults.audit import audit
from tests.faults.crew import join, start
from tests.faults.load import Acknowledged, save_for_ever, state_of
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import SQLAlchemyCheckpointStore, upgrade_schema

__all__ = ["ROW"]

_LONGEST_SECONDS = 0.15
"""Between a writer's first acknowledged save and its end."""


async def check(place: Place, effort: Effort) -> Verdict:
    """Kill writers one after the other, then load all that they left."""
    chance = effort.chance()
    await upgrade_schema(place.url)
    acknowledged = Acknowledged(place.folder / "acknowledged")
    verdict = Verdict({"kills": 0})
    rounds = effort.of(200, 8)
    for _ in range(rounds):
        size = acknowledged.size
        writer = start(save_for_ever, place.url, acknowledged)
        while writer.exitcode is None and acknowledged.size == size:
            await asyncio.sleep(0.002)
        await asyncio.sleep(chance.uniform(0, _LONGEST_SECONDS))
        verdict.require(writer.exitcode is None, f"a writer ended by itself with exit code {writer.exitcode}")
        writer.kill()
        await join(writer)
    verdict.figures["kills"] = rounds
    began = time.perf_counter()
    async with SQLAlchemyCheckpointStore(place.url) as store:
        (await audit(store, acknowledged)).tell(verdict)
        # One who comes after all these kills saves as if nothing had been.
        after = state_of("after", 1)
        await store.save_checkpoint(after)
        verdict.require(await store.load_checkpoint("after") == after, "what is saved afterwards is not there")
    verdict.figures["s to load it all"] = f"{time.perf_counter() - began:.1f}"
    verdict.broken += await _damage(place)
    return verdict


async def _damage(place: Place) -> list[str]:
    """What the database's own check of its pages and indexes finds."""
    if place.database == "sqlite":
        with contextlib.closing(sqlite3.connect(place.url)) as file:
            found = [str(row[0]) for row in file.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else [f"integrity_check: {line}" for line in found]
    server = await asyncpg.connect(place.url)
    try:
        await server.execute("CREATE EXTENSION amcheck")
        await server.execute(
            "SELECT bt_index_check(indexrelid, true) FROM pg_index WHERE indrelid = 'checkpoints'::regclass"
        )
    except asyncpg.PostgresError as error:
        return [f"amcheck: {error}"]
    finally:
        await server.close()
    return []


ROW = Row(
    fault="writer killed",
    promise="Every acknowledged save loads equal, nothing is torn, and the database's own check is clean.",
    check=check,
)
