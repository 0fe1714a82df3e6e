"""Long runs are saved, gone on with elsewhere, thinned out, trimmed and saved again by processes that are killed."""

import asyncio
import contextlib
import itertools
import random
import time
import zlib
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.faults.audit import Audit, audit
from tests.faults.crew import append, join, start
from tests.faults.load import OLD, Acknowledged, state_of
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointMetadata,
    CheckpointNotFoundError,
    CheckpointStoreError,
    LeaseLostError,
    SQLAlchemyCheckpointStore,
    upgrade_schema,
)

__all__ = ["ROW"]

_TRIMMED, _KEPT = "trimmed", 10
"""A workflow, and how many of its checkpoints a trim leaves."""

_KINDS = ("", f"{_TRIMMED}:", "deleted:", f"{OLD}:", "", "again:", "", f"{OLD}:", "deleted:")
_SHARED_KINDS = ("", "deleted:", "", "again:")
"""Of a run's states one after the other: what becomes of it, which its workflow tells. They are deltas of one another.
Of a run that all share, no head may go."""

_SHARED = tuple(f"shared{number}" for number in range(6))
"""Runs that are gone on with by whoever claims them first."""

_WAVES = 4
"""How many states of such a run are saved in a row."""

_LEASE_SECONDS = 0.5
_MAX_AGE_SECONDS = 86400.0
_FIRST_AGAIN = 10**6
"""The numbers of what is saved again begin here: newer than any other."""

_SECONDS_BETWEEN_KILLS = 0.4

_LONGEST_DELAY = 20.0
"""For how many seconds more a busy machine may save what is needed."""

T = TypeVar("T")


def _id(run: str, number: int) -> str:
    kinds = _SHARED_KINDS if run in _SHARED else _KINDS
    return f"{kinds[number % len(kinds)]}{run}/{number}"


@dataclass(frozen=True)
class _Told:
    """What processes were told, in files of a folder.

    Attributes:
        folder: Holds them.
    """

    folder: Path

    @property
    def acknowledged(self) -> Acknowledged:
        """What was saved."""
        return Acknowledged(self.folder / "acknowledged")

    @property
    def doomed(self) -> Path:
        """What was to be deleted, written down before: whoever did it may have been killed before it was told."""
        return self.folder / "doomed"

    @property
    def deleted(self) -> Path:
        """What was deleted."""
        return self.folder / "deleted"

    @property
    def errors(self) -> Path:
        """What should not have been told."""
        return self.folder / "errors"

    @property
    def stop(self) -> Path:
        """Is there when all are to end."""
        return self.folder / "stop"


async def check(place: Place, effort: Effort) -> Verdict:
    """Have processes do all of it, kill one after the other, and tidy up beside them; then load all that is left."""
    chance, told = effort.chance(), _Told(place.folder)
    await upgrade_schema(place.url)
    kills, numbers = 0, itertools.count()
    async with SQLAlchemyCheckpointStore(place.url) as store:
        for run in _SHARED:
            await store.save_checkpoint(state_of(_id(run, 0), 0))
            told.acknowledged.note(_id(run, 0), 0)
        slots = effort.of(4, 3)
        processes = [start(work, place.url, told, next(numbers), (slot, slots)) for slot in range(slots)]
        tidying = asyncio.create_task(_tidy_up(store, told))
        size, end = told.acknowledged.size, time.monotonic() + effort.of(40.0, 1.5)
        least = effort.of(100_000, 5_000)
        while time.monotonic() < end or (told.acknowledged.size < least and time.monotonic() < end + _LONGEST_DELAY):
            await asyncio.sleep(_SECONDS_BETWEEN_KILLS)
            # Only when somebody has come to something: on a busy machine it takes a while to begin.
            if told.acknowledged.size > size + effort.of(20_000, 2_000):
                size = told.acknowledged.size
                slot = chance.randrange(slots)
                processes[slot].kill()
                await join(processes[slot])
                kills += 1
                processes[slot] = start(work, place.url, told, next(numbers), (slot, slots))
        told.stop.touch()
        codes = [await join(one) for one in processes]
        expired, trimmed = await tidying
        found = await audit(store, told.acknowledged, trimmed={_TRIMMED: _KEPT})
        left = [one.checkpoint_id for one in await store.list_checkpoints()]
    verdict = Verdict({"killed": kills})
    _judge(found, told, left, expired, verdict)
    verdict.figures |= {"expired": expired, "trimmed": trimmed, "longest chain": found.links.longest}
    verdict.require(not any(codes), f"processes ended with exit codes {codes}")
    verdict.require(kills, "nobody was killed")
    verdict.require(expired and trimmed, "nothing expired, or nothing was trimmed")
    return verdict


def _judge(found: Audit, told: _Told, left: list[str], expired: int, verdict: Verdict) -> None:
    """Compare what is there with what was told."""
    doomed, deleted, errors = (_lines(file) for file in (told.doomed, told.deleted, told.errors))
    again = sum(number >= _FIRST_AGAIN for _, number in told.acknowledged)
    elsewhere = sum(one.startswith(_SHARED) for one in found.links.bases)
    # What somebody was about to delete is nobody's loss, nor is what has expired, of which only the number is told.
    forgiven = (f"{OLD}:", *(f"{one} " for one in doomed))
    found.lost = [one for one in found.lost if not one.startswith(forgiven)]
    found.tell(verdict)
    old = sum(one.startswith(f"{OLD}:") for one in told.acknowledged.newest)
    lost = old - expired - sum(one.startswith(f"{OLD}:") for one in left)
    verdict.require(lost <= 0, f"{lost} of {old} that may expire are gone, and have not")
    verdict.figures |= {"of runs gone on with elsewhere": elsewhere, "deleted": len(deleted), "saved again": again}
    verdict.broken += [f"an error surfaced: {error}" for error in errors[:5]]
    verdict.broken += [f"{one} was deleted, and is there" for one in set(deleted).intersection(left)][:5]
    for run in _SHARED:
        heads = [one for one in left if one.rpartition(":")[2].startswith(f"{run}/")]
        verdict.require(heads, f"nothing of {run} is left")
    verdict.require(elsewhere and deleted and again, "nothing was deleted, saved again, or gone on with elsewhere")


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


async def _tidy_up(store: SQLAlchemyCheckpointStore, told: _Told) -> tuple[int, int]:
    """Delete what has expired and what is superfluous until all are to end, and once more then; how many it were."""
    expired = trimmed = 0
    while True:
        is_last = told.stop.exists()
        expired += await store.cleanup_expired(_MAX_AGE_SECONDS)
        trimmed += await store.trim_per_workflow(_KEPT, workflow_name=_TRIMMED)
        if is_last:
            return expired, trimmed
        await asyncio.sleep(0.1)


async def work(url: str, told: _Told, number: int, share: tuple[int, int]) -> None:
    """What each process does, until it is stopped or killed.

    Args:
        url: The database.
        told: Takes what it is told.
        number: Its own.
        share: Which part of those that are saved again it saves, so that of each it is known which save was the last.
    """
    chance = random.Random(number)
    async with SQLAlchemyCheckpointStore(url) as store, asyncio.TaskGroup() as group:
        for task in range(2):
            group.create_task(_save(store, told, f"run{number}-{task}"))
        group.create_task(_go_on(store, told, f"owner{number}", chance))
        group.create_task(_delete(store, told, chance))
        group.create_task(_save_again(store, told, chance, _FIRST_AGAIN * (number + 1), share))


async def _try(told: _Told, call: Awaitable[T]) -> T | None:
    """A call; None: it failed, and that is written down, or somebody else was faster, which may be."""
    with contextlib.suppress(CheckpointAlreadyClaimedError, CheckpointNotFoundError, LeaseLostError):
        try:
            return await call
        except (CheckpointAlreadyClaimedError, CheckpointNotFoundError, LeaseLostError):
            raise
        except CheckpointStoreError as error:
            append(told.errors, f"{type(error).__name__}: {error}")
    return None


async def _save(store: SQLAlchemyCheckpointStore, told: _Told, run: str) -> None:
    """Save a run of one's own."""
    for number in itertools.count():
        if told.stop.exists():
            return
        checkpoint_id = _id(run, number)
        if await _try(told, store.save_checkpoint(state_of(checkpoint_id, number))) is not None:
            told.acknowledged.note(checkpoint_id, number)


async def _go_on(store: SQLAlchemyCheckpointStore, told: _Told, owner: str, chance: random.Random) -> None:
    """Claim a run that others have gone on with before, and do so for some waves."""
    while not told.stop.exists():
        run = chance.choice(_SHARED)
        heads = await _try(told, store.list_checkpoints(run_id=run, heads_only=True))
        # Those saved again may look like heads, too.
        wanted = max(heads or (), key=lambda one: int(one.checkpoint_id.rpartition("/")[2]), default=None)
        if wanted is None:
            continue
        state = await _try(told, store.claim_checkpoint(wanted.checkpoint_id, owner, _LEASE_SECONDS))
        if state is None:
            await asyncio.sleep(0.01)
            continue
        before = state.checkpoint_id
        first = int(before.rpartition("/")[2]) + 1
        for number in range(first, first + _WAVES):
            checkpoint_id = _id(run, number)
            state = state_of(checkpoint_id, number)
            saving = store.save_checkpoint(state, follows=before, owner=owner, lease_seconds=_LEASE_SECONDS)
            if await _try(told, saving) is None:
                break
            told.acknowledged.note(checkpoint_id, number)
            before = checkpoint_id
        await _try(told, store.release_claim(before, owner))


async def _some(
    store: SQLAlchemyCheckpointStore, told: _Told, workflow: str, chance: random.Random, *, superseded: bool
) -> CheckpointMetadata | None:
    """One of the newest of a workflow, which others are deltas of."""
    listed = await _try(told, store.list_checkpoints(workflow, limit=30)) or []
    found = [one for one in listed if one.superseded or not superseded or "shared" not in one.checkpoint_id]
    await asyncio.sleep(0.01)
    return chance.choice(found) if found else None


async def _delete(store: SQLAlchemyCheckpointStore, told: _Told, chance: random.Random) -> None:
    """Delete what others are deltas of."""
    while not told.stop.exists():
        one = await _some(store, told, "deleted", chance, superseded=True)
        if one is None:
            continue
        append(told.doomed, one.checkpoint_id)
        if await _try(told, store.delete_checkpoint(one.checkpoint_id)):
            append(told.deleted, one.checkpoint_id)


async def _save_again(
    store: SQLAlchemyCheckpointStore, told: _Told, chance: random.Random, first: int, share: tuple[int, int]
) -> None:
    """Save other states under the ids of what others are deltas of; load those that other processes save."""
    for number in itertools.count(first):
        if told.stop.exists():
            return
        one = await _some(store, told, "again", chance, superseded=False)
        if one is None:
            continue
        checkpoint_id = one.checkpoint_id
        if zlib.crc32(checkpoint_id.encode()) % share[1] != share[0]:
            await _load(store, told, one)
        elif await _try(told, store.save_checkpoint(state_of(checkpoint_id, number))) is not None:
            told.acknowledged.note(checkpoint_id, number)


async def _load(store: SQLAlchemyCheckpointStore, told: _Told, listed: CheckpointMetadata) -> None:
    """What is loaded is at least as new as what was listed: whoever has saved it first may have it in memory."""
    state = await _try(told, store.load_checkpoint(listed.checkpoint_id))
    if state is None or state.created_at < listed.created_at:
        append(told.errors, f"{listed.checkpoint_id} was loaded as it was before, or not at all")
    elif state != state_of(listed.checkpoint_id, state.context["number"]):
        append(told.errors, f"{listed.checkpoint_id} was loaded as another")


ROW = Row(
    fault="history beside deletions",
    promise="While runs are saved by some and gone on with by others, what their states are deltas of is deleted, "
    "trimmed and saved again: all that is acknowledged and not deleted loads equal, by at most 31 rows.",
    check=check,
)
