"""Clients of several processes use one database at once; what each did and saw must have happened in some order."""

import asyncio
import itertools
import time
from collections import Counter
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.faults.clients import Plan, Recorder, number_of, state_of, use_for_ever
from tests.faults.consistency import Kind, Operation, find_violations
from tests.faults.crew import join, start
from tests.faults.links import links_of
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import (
    CheckpointStore,
    SQLAlchemyCheckpointStore,
    upgrade_schema,
)

__all__ = ["ROW"]


_SECONDS_BETWEEN_KILLS = 1.0


_NUMBERS_OF_A_CLIENT = 10**7


async def check(place: Place, effort: Effort) -> Verdict:
    """Have clients use a database, kill some, and look through what they wrote down."""
    chance = effort.chance()
    await upgrade_schema(place.url)
    wanted, longest, least_kills = effort.of((50_000, 240.0, 10), (1_000, 20.0, 1))
    jobs = effort.of(3_000, 200)
    folder = place.folder / "history"
    folder.mkdir()
    kills = 0
    main = Recorder(folder / "main")
    async with SQLAlchemyCheckpointStore(place.url) as store:
        await asyncio.gather(*(_make_job(store, main, f"{kind}/{n}") for kind in _JOBS for n in range(jobs)))
        plan = Plan(place.url, place.folder / "stop", time.monotonic_ns(), jobs)
        clients: list[ForkServerProcess] = []
        names = itertools.count(1)

        def start_one() -> None:
            n = next(names)
            clients.append(start(use_for_ever, plan, folder / f"c{n}", n * _NUMBERS_OF_A_CLIENT))

        for _ in range(effort.of(6, 3)):
            start_one()
        killed_at = time.monotonic()
        while (time.monotonic_ns() - plan.began) / 1e9 < longest and (
            kills < least_kills or _written(folder) < wanted * _BYTES_OF_A_CALL
        ):
            await asyncio.sleep(0.1)
            if time.monotonic() - killed_at > _SECONDS_BETWEEN_KILLS:
                victim = clients.pop(chance.randrange(len(clients)))
                victim.kill()
                await join(victim)
                kills, killed_at = kills + 1, time.monotonic()
                start_one()
        plan.stop.touch()
        codes = [await join(client) for client in clients]
        recorders = [Recorder(file) for file in sorted(folder.iterdir())]
        operations = [one for recorder in recorders for one in recorder.operations()]
        operations += await _look(store, operations)
        links = await links_of(store)
    calls = sum(recorder.calls for recorder in recorders)
    verdict = Verdict({"operations": f"{calls:,}"})
    _judge(operations, verdict, () if effort.is_quick else ("delete", "release"))
    links.tell(verdict)
    verdict.figures.update(clients=next(names) - 1, killed=kills)
    verdict.require(calls >= wanted, f"{calls} operations are too few")
    verdict.require(kills >= least_kills, f"{kills} killed clients are too few")
    verdict.require(not any(codes), f"clients ended with exit codes {codes}")
    return verdict


_JOBS = ("claimed", "followed")

_BYTES_OF_A_CALL = 95
"""About so many a client writes down for each call."""


def _written(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


async def _make_job(store: CheckpointStore, recorder: Recorder, job: str) -> None:
    operation = recorder.begin("save", job, 1)
    await store.save_checkpoint(state_of(job, 1))
    recorder.end(operation)


async def _look(store: CheckpointStore, operations: list[Operation]) -> list[Operation]:
    """What is there in the end; a follow of which nobody knew turns out to have been made, or not."""
    since = time.monotonic_ns()
    held: dict[str, int | None] = {}
    async for state in store.iter_checkpoints():
        held[state.checkpoint_id] = number_of(state)
    until = time.monotonic_ns()
    found = [
        Operation("read", checkpoint_id, held.get(checkpoint_id), since, until, "the end")
        for checkpoint_id in {one.checkpoint_id for one in operations}
    ]
    for one in operations:
        if one.kind == "follow":
            name = f"{one.checkpoint_id}>{one.number}"
            if one.is_known:
                found += [
                    Operation("save", name, one.number, one.began, one.ended, one.client),
                    Operation("read", name, held.get(name), since, until, "the end"),
                ]
            elif name in held:
                found.append(Operation("follow", one.checkpoint_id, one.number, one.began, until, one.client))
    return found


def _judge(operations: list[Operation], verdict: Verdict, rare: tuple[Kind, ...]) -> None:
    kinds = Counter(one.kind for one in operations)
    violations = list(find_violations(operations))
    unknown = sum(not one.is_known for one in operations)
    verdict.figures.update(unknown=unknown, violations=len(violations))
    verdict.broken += violations[:10]
    for kind in ("save", "read", "claim", "follow", *rare):
        verdict.require(kinds[kind], f"nothing of this kind happened: {kind}")
    verdict.require(unknown, "the result of every call is known, so nothing was cut short")


ROW = Row(
    fault="history check",
    promise="What clients see can have happened in some order: no checkpoint is lost, stale or nobody's, no claim and "
    "no follow succeeds twice.",
    check=check,
)
