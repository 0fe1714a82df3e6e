"""Clocks jump: an hour back, ten years ahead, or stand still; those of processes, and that of the database."""

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from tests.faults.clocks import HOUR, TEN_YEARS, Clock, ServerClock
from tests.faults.crew import append, join, start
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointConfig,
    CheckpointMetadata,
    CheckpointStatus,
    CheckpointStore,
    InMemoryCheckpointStore,
    LeaseLostError,
    SQLAlchemyCheckpointStore,
    WorkflowExecutor,
    block_type,
    upgrade_schema,
)
from workflows_mcp.engine.blocks import BlockContext
from workflows_mcp.engine.events import CheckpointSaved, Event
from workflows_mcp.engine.retention import RetentionTask
from workflows_mcp.testing import make_state

__all__ = ["ROW"]

_LEASE_SECONDS = 0.6
_BLOCKS = 6
_RUNS_AT_ONCE = 3
_JUMPS = (0.0, -HOUR, TEN_YEARS)
_LONGEST_WAIT = 40.0
_SECONDS_TO_STOP = 10.0

SetClocks = Callable[[float], Awaitable[None]]
"""Sets the database's clock, where it has one of its own."""


def _chain(*types: str, name: str = "flow") -> str:
    """A workflow of blocks, one after the other; JSON is YAML."""
    blocks: list[dict[str, Any]] = []
    for n, kind in enumerate(types):
        inputs = {"prompt": "go on?"} if kind == "Prompt" else {}
        blocks.append({"id": f"b{n}", "type": kind, "depends_on": [f"b{n - 1}"] if n else [], "inputs": inputs})
    return json.dumps({"name": name, "blocks": blocks}) + "\n"


# --- order


_turns: list[Callable[[], None]] = [lambda: None]
"""What the blocks do with the clock; the last one counts."""


@block_type("ClockTurn")
async def turn() -> None:
    """The clock is set while a run is under way."""
    await asyncio.sleep(0)
    _turns[-1]()


async def _keep_order(store: CheckpointStore, clock: Clock, chance: random.Random, runs: int) -> tuple[int, list[str]]:
    """Run workflows while the clock jumps and stands still; how many checkpoints there are, and what is wrong."""

    def turn_clock() -> None:
        jump = chance.choice((*_JUMPS, None))
        if jump is None:
            clock.stop()
        else:
            clock.set(jump)

    _turns.append(turn_clock)
    saved: defaultdict[str, list[str]] = defaultdict(list)

    async def note(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            saved[event.run_id].append(event.checkpoint_id)

    executor = WorkflowExecutor(store, on_event=note)
    workflow = _chain(*["ClockTurn"] * 4, "Prompt", *["ClockTurn"] * 4)
    paused = await asyncio.gather(*(executor.execute_workflow(workflow, run_id=f"order-{n}") for n in range(runs)))
    ends = await asyncio.gather(*(executor.resume_workflow(one.checkpoint_id or "", "yes") for one in paused))
    _turns.pop()
    clock.set(0)
    same = [make_state(f"same {n:02}", created_at=5.0, workflow_name="same") for n in chance.sample(range(40), 40)]
    await asyncio.gather(*map(store.save_checkpoint, same))
    wrong = [f"a run ended as {one}" for one in ends if not one.is_success]
    for run_id, ids in saved.items():
        wrong += await _order_of(store, run_id, ids)
    everything = await store.list_checkpoints()
    places = [(one.created_at, one.checkpoint_id) for one in everything]
    if places != sorted(set(places), reverse=True) or await _in_pages(store) != everything:
        wrong.append("the order of all checkpoints is not total")
    return len(everything), wrong


async def _order_of(store: CheckpointStore, run_id: str, ids: list[str]) -> list[str]:
    """What is wrong with the order of a run, whose checkpoints were saved in this one."""
    listed = await store.list_checkpoints(run_id=run_id)
    wrong = []
    if [one.checkpoint_id for one in listed] != ids[::-1]:
        wrong.append(f"{run_id} is not listed in the order in which it was saved")
    if any(newer.created_at <= older.created_at for newer, older in itertools.pairwise(listed)):
        wrong.append(f"two checkpoints of {run_id} are of one time, or the newer of an earlier one")
    if [one.checkpoint_id for one in await store.list_checkpoints(run_id=run_id, heads_only=True)] != ids[-1:]:
        wrong.append(f"the head of {run_id} is not what was saved last")
    if await _in_pages(store, run_id=run_id) != listed:
        wrong.append(f"the pages of {run_id} are not its listing")
    return wrong


async def _in_pages(store: CheckpointStore, **filters: Any) -> list[CheckpointMetadata]:
    found: list[CheckpointMetadata] = []
    while page := await store.list_checkpoints(**filters, limit=7, before=found[-1].cursor if found else None):
        found += page
    return found


# --- retention


_released = asyncio.Event()


@block_type("ClockHold")
async def hold() -> None:
    """A block that takes as long as the harness wants."""
    await _released.wait()


async def _keep_needed(
    store: CheckpointStore, clock: Clock, set_database: SetClocks, each: int
) -> tuple[int, int, list[str]]:
    """Retention while clocks jump; how many checkpoints it deleted, how many wrongly, and what else is wrong."""
    _released.clear()
    config = CheckpointConfig(cleanup_interval_seconds=0.05, max_per_workflow=1)
    retention, executor = RetentionTask(store, config), WorkflowExecutor(store, config)
    run, held = executor.execute_workflow, _chain("ClockTurn", "ClockHold", "ClockTurn", name="held")
    waiting = await asyncio.gather(*(run(_chain("ClockTurn", "Prompt", name="waits")) for _ in range(each)))
    await asyncio.gather(*(run(_chain("ClockTurn", name="ends")) for _ in range(each)))
    working = [asyncio.create_task(run(held, run_id=f"working-{n}")) for n in range(each)]
    given_up = [asyncio.create_task(run(held, run_id=f"given-up-{n}")) for n in range(each)]
    while await _heads_at(store, wave=1) < 2 * each:
        await asyncio.sleep(0.01)
    for task in given_up:  # their leases are released, as though their process had ended
        task.cancel()
    await asyncio.wait(given_up)
    heads = await store.list_checkpoints(heads_only=True, status="running")
    needed = {one.checkpoint_id for one in heads if one.lease_expires_at is not None}  # what was never leased is no run
    needed |= {one.checkpoint_id for one in await store.list_checkpoints(is_paused=True)}
    before = len(await store.list_checkpoints())
    async with executor:  # whose own rounds come besides
        for process, database in ((TEN_YEARS, 0.0), (TEN_YEARS, TEN_YEARS), (0.0, TEN_YEARS), (-HOUR, 0.0), (0.0, 0.0)):
            clock.set(process)
            await set_database(database)
            await retention.run_once()
            await asyncio.sleep(0.06)
    left = {one.checkpoint_id for one in await store.list_checkpoints()}
    deleted, lost = before - len(left), needed - left
    wrong = []
    if len(needed) != 3 * each:
        wrong.append(f"{len(needed)} checkpoints wait or run, where there were to be {3 * each}")
    if not lost:
        _released.set()
        ends = [*await asyncio.gather(*working), *await executor.recover()]
        ends += [await executor.resume_workflow(one.checkpoint_id or "", "yes") for one in waiting]
        wrong += [f"a run ended as {one}" for one in ends if not one.is_success]
        if len(ends) != 3 * each:
            wrong.append(f"{len(ends)} of {3 * each} runs came to an end")
    for task in working:
        task.cancel()
    await asyncio.wait(working)
    for one in await store.list_checkpoints():
        await store.delete_checkpoint(one.checkpoint_id)
    return deleted, len(lost), wrong


async def _heads_at(store: CheckpointStore, *, wave: int) -> int:
    heads = await store.list_checkpoints(heads_only=True, status="running")
    return sum(one.current_wave_index == wave for one in heads)


# --- takeovers


@block_type("ClockStep")
async def step(context: BlockContext, journal: str) -> None:
    """A block that writes down when it begins."""
    append(Path(journal) / context.run_id, f"began {time.monotonic_ns()} {context.block_id.removeprefix('b')}")
    await asyncio.sleep(random.uniform(0.03, 0.15))


def _steps(journal: Path) -> str:
    workflow = json.loads(_chain(*["ClockStep"] * _BLOCKS, name="steps"))
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


async def _take_over(
    place: Place, store: CheckpointStore, set_database: SetClocks, chance: random.Random, runs: int
) -> tuple[int, int, list[str]]:
    """Servers whose clocks jump take runs from one another; takeovers, doubles, and what became wrong."""
    journal, stop = place.folder / "journal", place.folder / "stop"
    journal.mkdir()
    clocks = [Clock(place.folder / f"clock-{n}") for n in range(3)]
    names = [f"run-{n}" for n in range(runs)]
    servers = [
        start(work, place.url, place.folder / f"clock-{n}", journal, stop, names[n :: len(clocks)])
        for n in range(len(clocks))
    ]
    until = time.monotonic() + _LONGEST_WAIT
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


async def _ended(store: CheckpointStore, names: list[str]) -> int:
    ended = await store.list_checkpoints("steps", status="completed")
    return len({one.run_id for one in ended} & set(names))


# --- the row


@asynccontextmanager
async def _database_clock(place: Place) -> AsyncIterator[SetClocks]:
    """The clock of a server; a file's is that of whoever looks at it."""
    if place.database == "sqlite":

        async def nothing(_seconds_ahead: float) -> None:
            pass

        yield nothing
        return
    connection = await asyncpg.connect(place.url)
    try:
        clock = ServerClock(connection)
        await clock.install()
        yield clock.set
    finally:
        await connection.close()


async def check(place: Place, effort: Effort) -> Verdict:
    """Set clocks while runs are under way, waiting, abandoned and over, and while retention works."""
    chance = effort.chance()
    await upgrade_schema(place.url)
    clock = Clock(place.folder / "clock")
    clock.install()
    checkpoints = deleted = wrong_deletes = 0
    broken: list[str] = []
    async with _database_clock(place) as set_database:
        for is_memory in (True, False):  # the store in memory beside each: it goes by the process's clock alone
            opened = InMemoryCheckpointStore() if is_memory else SQLAlchemyCheckpointStore(place.url)
            async with opened as store:
                count, wrong = await _keep_order(store, clock, chance, effort.of(100, 6))
                checkpoints, broken = checkpoints + count, broken + wrong
                count, lost, wrong = await _keep_needed(store, clock, set_database, effort.of(50, 4))
                deleted, wrong_deletes, broken = deleted + count, wrong_deletes + lost, broken + wrong
        async with SQLAlchemyCheckpointStore(place.url) as store:
            takeovers, doubles, wrong = await _take_over(place, store, set_database, chance, effort.of(90, 9))
    verdict = Verdict(
        {
            "checkpoints in order": checkpoints,
            "deleted": deleted,
            "wrong deletes": wrong_deletes,
            "fenced takeovers": takeovers,
            "doubles": doubles,
        },
        (broken + wrong)[:10],
    )
    verdict.require(not wrong_deletes, f"{wrong_deletes} checkpoints were deleted that waited, or whose runs went on")
    verdict.require(deleted, "retention deleted nothing, so it could not have deleted what is needed")
    verdict.require(takeovers, "no run was taken over")
    return verdict


ROW = Row(
    fault="clock",
    promise="The order stays total; no waiting checkpoint and no running head is deleted; a lease that is lost to a "
    "jump costs a fenced takeover, never a double.",
    check=check,
)
