"""Many processes save into one database at the same time, some of it under the same ids."""

import asyncio
import itertools
import os
from pathlib import Path

from tests.faults.audit import audit
from tests.faults.crew import append, join, start
from tests.faults.load import STOP, Acknowledged, met, save_until_stopped, state_of, until_saving
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointStoreError,
    SQLAlchemyCheckpointStore,
    upgrade_schema,
)

__all__ = ["ROW"]

_COUNTERS = tuple(f"counter-{number}" for number in range(4))
"""Runs that everybody continues: each checkpoint follows the one before, and holds the next number. Whoever claims the
one before saves the next as a delta of it."""

_SAVERS, _COUNTING = 4, 2
"""Tasks of each process: those that save what is theirs alone, and those that count."""

_LEASE_SECONDS = 60.0
"""Longer than this takes: a lease that is lost is an error."""


_ERRORS = "errors"


async def check(place: Place, effort: Effort) -> Verdict:
    """Let more and more processes write, then look for what is missing."""
    await upgrade_schema(place.url)
    verdict = Verdict()
    async with SQLAlchemyCheckpointStore(place.url) as store:
        for counter in _COUNTERS:
            await store.save_checkpoint(state_of(f"{counter}/0", 0))
        for number in effort.of((8, 16), (8,)):
            await _write(place, number, effort.of(11.0, 1.0), verdict)
        await _compare_counts(store, place.folder / "counted", verdict)
        audited = await audit(store, Acknowledged(place.folder / "acknowledged"))
    audited.tell(verdict)
    counted = [one for one in audited.links.bases if one.startswith(_COUNTERS)]
    verdict.require(counted, "no count is stored as a delta of the one before")
    return verdict


async def _write(place: Place, number: int, seconds: float, verdict: Verdict) -> None:
    """Have so many processes write for a while."""
    folder = place.folder / f"writers-{number}"
    folder.mkdir()
    processes = [start(write, place.url, place.folder, folder) for _ in range(number)]
    await until_saving(folder, number)
    await asyncio.sleep(seconds)
    (folder / STOP).touch()
    codes = [await join(one) for one in processes]
    verdict.require(not any(codes), f"writers ended with exit codes {codes}")
    found = met(folder)
    verdict.require(found.processes == number, f"only {found.processes} of {number} writers told what they did")
    verdict.require(found.fewest, "one writer never got its turn")
    if (folder / _ERRORS).exists():
        found.errors += (folder / _ERRORS).read_text().splitlines()
    verdict.broken += [f"an error surfaced: {error}" for error in found.errors[:5]]
    if found.seconds:
        verdict.figures[f"saves of {number}"] = len(found.seconds)
        verdict.figures[f"p99 ms of {number}"] = found.milliseconds(0.99)
        verdict.figures[f"max ms of {number}"] = found.milliseconds(1)


async def write(url: str, shared: Path, folder: Path) -> None:
    """What each process does, until it is stopped.

    Args:
        url: The database.
        shared: Where all write down what was acknowledged to them.
        folder: Where this round's processes tell what they have met with.
    """
    async with SQLAlchemyCheckpointStore(url) as store, asyncio.TaskGroup() as group:
        group.create_task(save_until_stopped(url, Acknowledged(shared / "acknowledged"), folder, tasks=_SAVERS))
        for place in range(_COUNTING):
            group.create_task(_count(store, shared / "counted", folder, place))


async def _count(store: SQLAlchemyCheckpointStore, counted: Path, folder: Path, place: int) -> None:
    """Continue one run after the other by one number, in competition with everybody else."""
    for number, counter in enumerate(itertools.cycle(_COUNTERS)):
        if (folder / STOP).exists():
            return
        [head] = await store.list_checkpoints(run_id=counter, heads_only=True, limit=1)
        owner = f"{os.getpid()}-{place}-{number}"
        try:
            before = await store.claim_checkpoint(head.checkpoint_id, owner, _LEASE_SECONDS)
            following = before.context["number"] + 1
            after = state_of(f"{counter}/{following}", following)
            await store.save_checkpoint(after, follows=before.checkpoint_id, owner=owner)
            append(counted, f"{counter} {following}")
        except CheckpointAlreadyClaimedError:
            await asyncio.sleep(0.005)
        except CheckpointStoreError as error:
            append(folder / _ERRORS, f"{type(error).__name__}: {error}")


async def _compare_counts(store: SQLAlchemyCheckpointStore, counted: Path, verdict: Verdict) -> None:
    """Each number was counted by one process, none is missing, and the last one is the only head."""
    numbers: dict[str, list[int]] = {counter: [] for counter in _COUNTERS}
    for line in counted.read_text().splitlines() if counted.exists() else ():
        counter, number = line.split()
        numbers[counter].append(int(number))
    lost = 0
    for counter, found in numbers.items():
        saved = {one.checkpoint_id: one for one in await store.list_checkpoints(run_id=counter)}
        heads = [one.checkpoint_id for one in saved.values() if not one.superseded]
        verdict.require(found, f"{counter} was never counted on")
        verdict.require(heads == [f"{counter}/{len(found)}"], f"{counter} was counted to {len(found)}, and is {heads}")
        lost += len(found) - len(set(found)) + sum(f"{counter}/{number}" not in saved for number in found)
    verdict.require(not lost, f"{lost} updates were lost: two processes counted the same number, or it is not there")
    verdict.figures |= {"counted": sum(map(len, numbers.values())), "updates lost": lost}


ROW = Row(
    fault="N writers",
    promise="8 and 16 processes share one database: no call fails, and no update is lost.",
    check=check,
)
