"""Savers under load, and what was acknowledged to them.

Every state is made of its id and a number alone, so that whoever finds it knows what it must be, to the last byte.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.crew import append
from workflows_mcp import (
    CheckpointState,
    CheckpointStore,
    CheckpointStoreError,
    SQLAlchemyCheckpointStore,
)
from workflows_mcp.settings import Settings

__all__ = [
    "OLD",
    "STOP",
    "Acknowledged",
    "Met",
    "met",
    "save_for_ever",
    "save_until_stopped",
    "state_of",
    "until_saving",
]

OLD = "old"
"""A workflow that ended long ago."""

_SECONDS_TO_BEGIN = 20.0
"""By then every process has saved something."""

_SIZES = (50, 3_000, 12_000)
_SAME, _TIMES, _NEW, _WAVES = 900, 3, 20, 6
"""What a state of a run has: some text that stays, so many times, and a little of each of the last waves."""


def state_of(checkpoint_id: str, number: int) -> CheckpointState:
    """The state that is saved under an id the number-th time.

    An id may begin with a workflow's name and a colon. The checkpoints of `OLD` were made long ago. What goes on
    with a run's name and a slash is of that run, and differs little from what the run was some numbers before, so that
    it is stored as a delta, and is a base.
    """
    workflow, _, name = checkpoint_id.rpartition(":")
    workflow = workflow or "load"
    run_id = name.partition("/")[0] if "/" in name else None
    return CheckpointState(
        checkpoint_id=checkpoint_id,
        workflow_name=workflow,
        created_at=(1.5e9 if workflow == OLD else 1.8e9) + number,
        runtime_inputs={},
        context={"number": number, "text": _text(checkpoint_id, run_id, number)},
        completed_blocks=[],
        current_wave_index=number,
        execution_waves=[],
        block_definitions={},
        workflow_stack=[],
        run_id=run_id,
    )


def _text(checkpoint_id: str, run_id: str | None, number: int) -> str:
    if run_id is None:
        chance = random.Random(f"{checkpoint_id}:{number}")
        return chance.randbytes(chance.choice(_SIZES) // 2).hex()
    waves = (_noise(f"{run_id}/{wave}", _NEW) for wave in range(max(number - _WAVES, 0), number + 1))
    return _noise(run_id, _SAME) * _TIMES + "".join(waves)


def _noise(name: str, size: int) -> str:
    return hashlib.shake_128(name.encode()).hexdigest(size)


def _id_of(name: str, number: int) -> str:
    """Under which id a task saves next: that of a new state of its run, or the same one again and again.

    Now and then it is one of the run that it has saved before, which others are deltas of.
    """
    if number % 5 in {2, 3}:
        return name
    return f"{name}/{number - 9 if number % 20 == 19 else number}"


@dataclass(frozen=True)
class Acknowledged:
    """What savers were told is durable, as they wrote it down: whole lines, whenever they are killed.

    Attributes:
        file: A line for each save: the id and the number.
    """

    file: Path

    def note(self, checkpoint_id: str, number: int) -> None:
        """Write down that a save was acknowledged."""
        append(self.file, f"{checkpoint_id} {number}")

    @property
    def size(self) -> int:
        """How much has been written down, in bytes."""
        return self.file.stat().st_size if self.file.exists() else 0

    async def grown(self, size: int, *, seconds: float = 20.0) -> None:
        """Wait until there is more than so much.

        Raises:
            TimeoutError: It has not come in time.
        """
        async with asyncio.timeout(seconds):
            while self.size <= size:
                await asyncio.sleep(0.001)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        for line in self.file.read_text().splitlines() if self.file.exists() else ():
            checkpoint_id, number = line.split()
            yield checkpoint_id, int(number)

    @property
    def newest(self) -> dict[str, int]:
        """The largest number of each id."""
        found: dict[str, int] = {}
        for checkpoint_id, number in self:
            found[checkpoint_id] = max(number, found.get(checkpoint_id, number))
        return found


async def save_for_ever(
    url: str,
    acknowledged: Acknowledged,
    *,
    tasks: int = 8,
    ids: int | None = None,
    first: int = 0,
    name: str | None = None,
    on_error: Callable[[CheckpointStoreError], None] | None = None,
    on_saved: Callable[[float], None] | None = None,
    on_ended: Callable[[float], None] | None = None,
    settings: Settings | None = None,
) -> None:
    """Save with several tasks until somebody ends this process, or cancels the call.

    Args:
        url: A database at head.
        acknowledged: Takes what is durable.
        tasks: How many there are.
        ids: How many ids each of them saves in turn; None: new ones of a run all the time, and others again and again.
        first: The number that each task begins with.
        name: How the ids begin; by default with the process's id.
        on_error: Takes what a save raises, which is then repeated; None: it is raised.
        on_saved: Takes how many seconds a save took.
        on_ended: The same, also of one that raised an error.
        settings: The store's.
    """
    who = name or f"p{os.getpid()}"
    async with SQLAlchemyCheckpointStore(url, settings=settings) as store, asyncio.TaskGroup() as group:
        for task in range(tasks):
            saving = _save_for_ever(
                store,
                f"{who}-{task}",
                acknowledged,
                ids=ids,
                first=first,
                on_error=on_error,
                on_saved=on_saved,
                on_ended=on_ended,
            )
            group.create_task(saving)


async def _save_for_ever(
    store: CheckpointStore,
    name: str,
    acknowledged: Acknowledged,
    *,
    ids: int | None,
    first: int,
    on_error: Callable[[CheckpointStoreError], None] | None,
    on_saved: Callable[[float], None] | None,
    on_ended: Callable[[float], None] | None,
) -> None:
    for number in itertools.count(first):
        checkpoint_id = _id_of(name, number) if ids is None else f"{name}-{number % ids}"
        state = state_of(checkpoint_id, number)
        while True:
            began = time.perf_counter()
            try:
                await store.save_checkpoint(state)
                if on_saved is not None:
                    on_saved(time.perf_counter() - began)
                break
            except CheckpointStoreError as error:
                if on_error is None:
                    raise
                on_error(error)
            finally:
                if on_ended is not None:
                    on_ended(time.perf_counter() - began)
        acknowledged.note(checkpoint_id, number)


@dataclass
class Met:
    """What savers met with, in several processes.

    Attributes:
        processes: How many of them told.
        errors: What surfaced.
        seconds: How long each save took, the longest last.
        fewest: How many saves the slowest process has made.
    """

    processes: int = 0
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    fewest: int = 0

    def milliseconds(self, share: float) -> int:
        """How long a save took at the most, but for the slowest: 0.99 leaves out one in a hundred."""
        return round(self.seconds[min(int(len(self.seconds) * share), len(self.seconds) - 1)] * 1000)


STOP = "stop"
"""The file that stops those who save until it is there."""


async def save_until_stopped(
    url: str,
    acknowledged: Acknowledged,
    folder: Path,
    *,
    tasks: int = 8,
    ids: int | None = None,
    first: int = 0,
    name: str | None = None,
    settings: Settings | None = None,
) -> None:
    """Save until a folder holds the file `STOP`, then write down there what was met with; see `save_for_ever`."""
    errors: list[str] = []
    seconds: list[float] = []

    def failed(error: CheckpointStoreError) -> None:
        errors.append(f"{type(error).__name__}: {error}")

    def saved(elapsed: float) -> None:
        if not seconds:
            (folder / f"{os.getpid()}.ready").touch()
        seconds.append(elapsed)

    saving = asyncio.create_task(
        save_for_ever(
            url,
            acknowledged,
            tasks=tasks,
            ids=ids,
            first=first,
            name=name,
            on_error=failed,
            on_saved=saved,
            settings=settings,
        )
    )
    while not (folder / STOP).exists() and not saving.done():
        await asyncio.sleep(0.02)
    saving.cancel()
    await asyncio.wait({saving})
    if not saving.cancelled():
        saving.result()
    (folder / f"{os.getpid()}.json").write_text(json.dumps({"errors": errors, "seconds": seconds}))


async def until_saving(folder: Path, processes: int) -> None:
    """Wait until each of several processes has saved something, but not for ever: what did not come is missed later."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS_TO_BEGIN):
            while len(list(folder.glob("*.ready"))) < processes:
                await asyncio.sleep(0.01)


def met(folder: Path) -> Met:
    """What those met with who saved until they were stopped."""
    found = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    return Met(
        processes=len(found),
        errors=[error for one in found for error in one["errors"]],
        seconds=sorted(seconds for one in found for seconds in one["seconds"]),
        fewest=min((len(one["seconds"]) for one in found), default=0),
    )
