"""Many processes save into one database at the same time, some of it under the same ids."""

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.faults.crew import append, join, start
from tests.faults.load import Acknowledged, audit, save_for_ever, state_of
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointStoreError,
    SQLAlchemyCheckpointStore,
    upgrade_schema,
)

__all__ = ["ROW"]

_COUNTERS = tuple(f"counter-{number}" for number in range(4))
"""Runs that everybody continues: each checkpoint follows the one before, and holds the next number."""

_SAVERS, _COUNTING = 4, 2
"""Tasks of each process: those that save what is theirs alone, and those that count."""

_LEASE_SECONDS = 60.0
"""Longer than this takes: a lease that is lost is an error."""


_SECONDS_TO_BEGIN = 20.0
"""By then all of them have saved something."""


async def check(place: Place, effort: Effort) -> Verdict:
    """Let more and more processes write, then look for what is missing."""
    await upgrade_schema(place.url)
    verdict = Verdict()
    async with SQLAlchemyCheckpointStore(place.url) as store:
        for counter in _COUNTERS:
            await store.save_checkpoint(replace(state_of(f"{counter}-0", 0), run_id=counter))
        for number in effort.of((8, 16), (8,)):
            await _write(place, number, effort.of(11.0, 1.0), verdict)
        await _compare_counts(store, place.folder / "counted", verdict)
        (await audit(store, Acknowledged(place.folder / "acknowledged"))).tell(verdict)
    return verdict


async def _write(place: Place, number: int, seconds: float, verdict: Verdict) -> None:
    """Have so many processes write for a while."""
    folder = place.folder / f"writers-{number}"
    folder.mkdir()
    processes = [start(write, place.url, place.folder, folder) for _ in range(number)]
    counted = place.folder / "counted"
    with contextlib.suppress(TimeoutError):  # what did not come is missed below
        async with asyncio.timeout(_SECONDS_TO_BEGIN):
            while len(list(folder.glob("*.ready"))) < number or not counted.exists():
                await asyncio.sleep(0.01)
    await asyncio.sleep(seconds)
    (folder / "stop").touch()
    codes = [await join(one) for one in processes]
    verdict.require(not any(codes), f"writers ended with exit codes {codes}")
    found = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    verdict.require(len(found) == number, f"only {len(found)} of {number} writers told what they did")
    verdict.broken += [error for one in found for error in one["errors"]][:5]
    times = sorted(one for each in found for one in each["seconds"])
    verdict.require(times, "nothing was saved")
    if times:
        verdict.require(min(len(one["seconds"]) for one in found), "one writer never got its turn")
        verdict.figures[f"saves of {number}"] = len(times)
        verdict.figures[f"p99 ms of {number}"] = _milliseconds(times[int(len(times) * 0.99)])
        verdict.figures[f"max ms of {number}"] = _milliseconds(times[-1])


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


async def write(url: str, shared: Path, folder: Path) -> None:
    """What each process does, until the folder holds a file `stop`.

    Args:
        url: The database.
        shared: Where all write down what was acknowledged to them.
        folder: Where this round's processes tell what they have met with.
    """
    errors: list[str] = []
    seconds: list[float] = []

    def failed(error: CheckpointStoreError) -> None:
        errors.append(f"an error surfaced: {type(error).__name__}: {error}")

    def saved(elapsed: float) -> None:
        if not seconds:
            (folder / f"{os.getpid()}.ready").touch()
        seconds.append(elapsed)

    stopping = asyncio.Event()
    saving = save_for_ever(url, Acknowledged(shared / "acknowledged"), tasks=_SAVERS, on_error=failed, on_saved=saved)
    async with SQLAlchemyCheckpointStore(url) as store, asyncio.TaskGroup() as group:
        for place in range(_COUNTING):
            group.create_task(_count(store, shared / "counted", place, stopping, failed))
        savers = group.create_task(saving)
        while not (folder / "stop").exists() and not savers.done():
            await asyncio.sleep(0.02)
        stopping.set()
        savers.cancel()
    (folder / f"{os.getpid()}.json").write_text(json.dumps({"errors": errors, "seconds": seconds}))


async def _count(
    store: SQLAlchemyCheckpointStore,
    counted: Path,
    place: int,
    stopping: asyncio.Event,
    failed: Callable[[CheckpointStoreError], None],
) -> None:
    """Continue one run after the other by one number, in competition with everybody else."""
    for number, counter in enumerate(itertools.cycle(_COUNTERS)):
        if stopping.is_set():
            return
        [head] = await store.list_checkpoints(run_id=counter, heads_only=True, limit=1)
        owner = f"{os.getpid()}-{place}-{number}"
        try:
            before = await store.claim_checkpoint(head.checkpoint_id, owner, _LEASE_SECONDS)
            following = before.context["number"] + 1
            after = replace(state_of(f"{counter}-{following}", following), run_id=counter)
            await store.save_checkpoint(after, follows=before.checkpoint_id, owner=owner)
            append(counted, f"{counter} {following}")
        except CheckpointAlreadyClaimedError:
            await asyncio.sleep(0.005)
        except CheckpointStoreError as error:
            failed(error)


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
        verdict.require(heads == [f"{counter}-{len(found)}"], f"{counter} was counted to {len(found)}, and is {heads}")
        lost += len(found) - len(set(found)) + sum(f"{counter}-{number}" not in saved for number in found)
        await store.delete_run(counter)  # what is left is what the audit knows
    verdict.require(not lost, f"{lost} updates were lost: two processes counted the same number, or it is not there")
    verdict.figures |= {"counted": sum(map(len, numbers.values())), "updates lost": lost}


ROW = Row(
    fault="N writers",
    promise="8 and 16 processes share one database: no call fails, and no update is lost.",
    check=check,
)
