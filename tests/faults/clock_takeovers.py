"""Servers whose clocks jump take runs from one another that were never given up; nothing is done twice."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.faults.clocks import HOUR, TEN_YEARS, Clock
from tests.faults.crew import append, join, start
from tests.faults.row import Place
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointConfig,
    CheckpointStatus,
    CheckpointStore,
    LeaseLostError,
    SQLAlchemyCheckpointStore,
    WorkflowExecutor,
    block_type,
)
from workflows_mcp.engine.blocks import BlockContext
from workflows_mcp.engine.events import CheckpointSaved, Event

__all__ = ["SetClocks", "chain", "take_over", "work"]

_LEASE_SECONDS = 0.6
_BLOCKS = 6
_RUNS_AT_ONCE = 3

_TEXT = " ".join(map(str, range(1_200)))
"""What each run takes along in all of its states."""

_LONG_STEP = 0.5
"""Long enough for another server to find the run and to claim it, also on a busy machine."""

_LONGEST_WAIT = 40.0
_SECONDS_TO_STOP = 10.0

SetClocks = Callable[[float], Awaitable[None]]
"""Sets the database's clock, where it has one of its own."""


def chain(*types: str, name: str = "flow") -> str:
    """A workflow of blocks, one after the other; JSON is YAML. Its states are large enough to be stored as deltas."""
    blocks: list[dict[str, Any]] = []
    for n, kind in enumerate(types):
        inputs = {"prompt": "go on?"} if kind == "Prompt" else {}
        blocks.append({"id": f"b{n}", "type": kind, "depends_on": [f"b{n - 1}"] if n else [], "inputs": inputs})
    text = {"type": "str", "default": _TEXT}
    return json.dumps({"name": name, "inputs": {"text": text}, "blocks": blocks}) + "\n"


@block_type("ClockStep")
async def step(context: BlockContext, journal: str) -> None:
    """A block that writes down when it begins."""
    append(Path(journal) / context.run_id, f"began {time.monotonic_ns()} {context.block_id.removeprefix('b')}")
    await asyncio.sleep(_LONG_STEP if context.block_id == "b2" else random.uniform(0.02, 0.1))


def _steps(journal: Path) -> str:
    workflow = json.loads(chain(*["ClockStep"] * _BLOCKS, name="steps"))
    for block in workflow["blocks"]:
        block["inputs"] = {"journal": str(journal)}
    return json.dumps(workflow) + "\n"


async def work(url: str, clock: Path, journal: Path, stop: Path, run_ids: list[str]) -> None:
    """A server that begins some runs, and recovers all that its clock, or the database's, tells it are abandoned."""
    Clock(clock).install()

    async def note(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            append(journal / event.run_id, f"saved {time.monotonic_ns()} {event.wave}")

    async def attempt(run_id: str, run: Awaitable[object]) -> None:
        with contextlib.suppress(CheckpointAlreadyClaimedError):
            try:
                await run
            except LeaseLostError:
                append(journal / run_id, f"lost {time.monotonic_ns()} 0")
        at_work.discard(run_id)

    config = CheckpointConfig(auto_cleanup=False)
    at_work, new = set(run_ids), list(run_ids)
    async with SQLAlchemyCheckpointStore(url) as store, asyncio.TaskGroup() as group:
        executor = WorkflowExecutor(store, config, on_event=note, lease_seconds=_LEASE_SECONDS)

        async def begin() -> None:
            while new:
                one = new.pop()
                await attempt(one, executor.execute_workflow(_steps(journal), run_id=one))

        for _ in range(_RUNS_AT_ONCE):
            group.create_task(begin())
        while not stop.exists():
            for run_id in {one.run_id or "" for one in await store.list_abandoned()} - at_work:
                at_work.add(run_id)
                group.create_task(attempt(run_id, executor.recover(run_id)))
            await asyncio.sleep(0.02)


async def take_over(
    place: Place, store: CheckpointStore, set_database: SetClocks, chance: random.Random, runs: int
) -> tuple[int, int, list[str]]:
    """Servers whose clocks jump take runs from one another; takeovers, doubles, and what became wrong."""
    journal, stop = place.folder / "journal", place.folder / "stop"
    journal.mkdir()
    clocks = [Clock(place.folder / f"clock-{n}") for n in range(3)]
    names = [f"run-{n}" for n in range(runs)]
    shares = [names[n :: len(clocks)] for n in range(len(clocks))]
    servers = [
        start(work, place.url, place.folder / f"clock-{n}", journal, stop, share) for n, share in enumerate(shares)
    ]
    until = time.monotonic() + _LONGEST_WAIT
    await _all_at_work(journal, shares, until)
    jumps = 0
    while await _ended(store, names) < runs and time.monotonic() < until:
        await asyncio.sleep(0.05)
        if jumps < runs * 5:  # then all clocks are right again, and whatever is left has to end
            # Each time further ahead than before: then no lease outlasts it.
            ahead = (0.0, -HOUR, TEN_YEARS + jumps * HOUR)
            chance.choice(clocks).set(chance.choice(ahead))
            await set_database(chance.choice(ahead[1:]))
            jumps += 1
        else:
            for clock in clocks:
                clock.set(0)
            await set_database(0)
    stop.touch()
    wrong = []
    for server in servers:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(join(server), _SECONDS_TO_STOP)
        if server.exitcode != 0:
            wrong.append(f"a server ended with exit code {server.exitcode}, None: not at all")
            server.kill()
    doubles = takeovers = 0
    for name in names:
        lines = [line.split() for line in (journal / name).read_text().splitlines()]
        takeovers += sum(what == "lost" for what, *_ in lines)
        durable = [(int(at), int(wave)) for what, at, wave in lines if what == "saved"]
        for what, at, block in lines:
            if what == "began" and any(saved < int(at) and wave > int(block) for saved, wave in durable):
                doubles += 1
                wrong.append(f"block {block} of {name} began again after it had been saved as finished")
        listed = await store.list_checkpoints(run_id=name)
        heads = [one.status for one in listed if not one.superseded]
        if heads != [CheckpointStatus.COMPLETED] or sum(one.status is CheckpointStatus.COMPLETED for one in listed) > 1:
            doubles += len(heads) > 1
            wrong.append(f"{name} ended with heads that are {[str(one) for one in heads]}")
    return takeovers, doubles, wrong


async def _all_at_work(journal: Path, shares: list[list[str]], until: float) -> None:
    """Wait until each server has begun a run: a clock that jumps before takes no run from anybody."""
    while not all(any((journal / name).exists() for name in share) for share in shares) and time.monotonic() < until:
        await asyncio.sleep(0.01)


async def _ended(store: CheckpointStore, names: list[str]) -> int:
    ended = await store.list_checkpoints("steps", status="completed")
    return len({one.run_id for one in ended} & set(names))
