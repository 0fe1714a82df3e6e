"""Clocks jump: an hour back, ten years ahead, or stand still; those of processes, and that of the database."""

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tests.faults.clock_takeovers import SetClocks, chain, take_over
from tests.faults.clocks import HOUR, TEN_YEARS, Clock, ServerClock
from tests.faults.links import links_of
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import (
    CheckpointConfig,
    CheckpointMetadata,
    CheckpointStore,
    InMemoryCheckpointStore,
    SQLAlchemyCheckpointStore,
    WorkflowExecutor,
    block_type,
    upgrade_schema,
)
from workflows_mcp.engine.events import CheckpointSaved, Event
from workflows_mcp.engine.retention import RetentionTask
from workflows_mcp.testing import make_state

__all__ = ["ROW"]

_JUMPS = (0.0, -HOUR, TEN_YEARS)

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
    workflow = chain(*["ClockTurn"] * 4, "Prompt", *["ClockTurn"] * 4)
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
    run, held = executor.execute_workflow, chain("ClockTurn", "ClockHold", "ClockTurn", name="held")
    waiting = await asyncio.gather(*(run(chain("ClockTurn", "Prompt", name="waits")) for _ in range(each)))
    await asyncio.gather(*(run(chain("ClockTurn", name="ends")) for _ in range(each)))
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
        next_one = WorkflowExecutor(store, config)  # the other one has been left, and begins nothing any more
        ends = [*await asyncio.gather(*working), *await next_one.recover()]
        ends += [await next_one.resume_workflow(one.checkpoint_id or "", "yes") for one in waiting]
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
            takeovers, doubles, wrong = await take_over(place, store, set_database, chance, effort.of(90, 9))
            links = await links_of(store)
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
    links.tell(verdict)
    verdict.require(takeovers, "no run was taken over")
    return verdict


ROW = Row(
    fault="clock",
    promise="The order stays total; no waiting checkpoint and no running head is deleted; a lease that is lost to a "
    "jump costs a fenced takeover, never a double.",
    check=check,
)
