"""A program that saves in all the ways there are, while it is traced: `power_cut.py` cuts its power."""

import asyncio
import itertools
import sys
from pathlib import Path

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from tests.faults.crew import append
from tests.faults.load import Acknowledged, state_of
from workflows_mcp import SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.settings import Settings

__all__ = ["ACKNOWLEDGED", "CHAINS", "DATABASE", "DELETED", "UPGRADED"]

DATABASE, ACKNOWLEDGED, DELETED, UPGRADED = "checkpoints.db", "acknowledged", "deleted", "upgraded"
"""Files of the folder that it works in; in the last three it writes down what it was told is done."""

CHAINS = ("chain-a/", "chain-b/")
"""How the ids begin of those checkpoints that each follow another one; a number is the rest."""

_CHECKPOINT_PAGES = 60
"""The file takes over what the -wal file holds after so many pages, not 1,000: often, while it is traced."""


def _checkpoint_often(connection: DBAPIConnection, _entry: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    cursor.close()


async def work(folder: Path, synchronous: str, rounds: int) -> None:
    """Make a database, and save until it is enough."""
    url, acknowledged = str(folder / DATABASE), Acknowledged(folder / ACKNOWLEDGED)
    settings = Settings.model_validate({"sqlite_synchronous": synchronous})
    await upgrade_schema(url, settings=settings)
    append(folder / UPGRADED, "upgraded")
    async with SQLAlchemyCheckpointStore(url, settings=settings) as store, asyncio.TaskGroup() as group:
        for name in ("again-a", "again-b"):
            group.create_task(_save_again(store, acknowledged, name, rounds))
        for name in CHAINS:
            group.create_task(_follow(store, acknowledged, name, rounds))
        group.create_task(_delete_bases(store, acknowledged, folder / DELETED, rounds // 2))
        group.create_task(_save_together(store, acknowledged, rounds // 8))
        group.create_task(_delete(store, folder / DELETED, rounds // 2))


async def _save(store: SQLAlchemyCheckpointStore, acknowledged: Acknowledged, name: str, number: int) -> None:
    await store.save_checkpoint(state_of(name, number))
    acknowledged.note(name, number)


async def _save_again(store: SQLAlchemyCheckpointStore, acknowledged: Acknowledged, name: str, rounds: int) -> None:
    for number in range(rounds):
        await _save(store, acknowledged, name if number % 3 else f"{name}-{number}", number)


async def _follow(store: SQLAlchemyCheckpointStore, acknowledged: Acknowledged, name: str, rounds: int) -> None:
    ids = [f"{name}{number}" for number in range(rounds)]
    lease = {"owner": name, "lease_seconds": 600.0}
    await store.save_checkpoint(state_of(ids[0], 0), **lease)  # type: ignore[arg-type] # as they are called
    acknowledged.note(ids[0], 0)
    for number, (before, now) in enumerate(itertools.pairwise(ids), start=1):
        await store.save_checkpoint(state_of(now, number), follows=before, **lease)  # type: ignore[arg-type] # so are these
        acknowledged.note(now, number)


async def _save_together(store: SQLAlchemyCheckpointStore, acknowledged: Acknowledged, rounds: int) -> None:
    for number in range(rounds):
        await asyncio.gather(*(_save(store, acknowledged, f"together-{place}", number) for place in range(16)))


async def _delete(store: SQLAlchemyCheckpointStore, deleted: Path, rounds: int) -> None:
    for number in range(rounds):
        checkpoint_id = f"brief-{number}"
        await store.save_checkpoint(state_of(checkpoint_id, number))
        await store.delete_checkpoint(checkpoint_id)
        append(deleted, checkpoint_id)


async def _delete_bases(
    store: SQLAlchemyCheckpointStore, acknowledged: Acknowledged, deleted: Path, rounds: int
) -> None:
    """Save one after the other of a run, and delete every other one, of which the next is a delta by then."""
    for number in range(rounds):
        checkpoint_id = f"thinned/{number}"
        await store.save_checkpoint(state_of(checkpoint_id, number))
        if number % 2:
            acknowledged.note(checkpoint_id, number)
            await store.delete_checkpoint(f"thinned/{number - 1}")
            append(deleted, f"thinned/{number - 1}")


if __name__ == "__main__":
    event.listen(Engine, "connect", _checkpoint_often)
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
