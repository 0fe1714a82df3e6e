"""Many clients share a few of a server's connections through a real PgBouncer in transaction mode."""

import asyncio
import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.faults.audit import audit
from tests.faults.crew import append, join, start
from tests.faults.load import OLD, STOP, Acknowledged, state_of
from tests.faults.poolers import Pooler, new_pooler
from tests.faults.row import PGBOUNCER, Effort, Place, Row, Verdict
from tests.faults.servers import Server, new_server
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointStoreError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    StoreUnavailableError,
    upgrade_schema,
)
from workflows_mcp.settings import Settings

__all__ = ["ROW"]

T = TypeVar("T")

_CLIENTS, _PROCESSES = 64, 2
_POOL = 8
_KEPT = _CLIENTS + 20
"""What retention keeps of each workflow: what each client saves again and again, but not all that it goes on from."""

_JOBS_A_SECOND = 20
_LEASE_SECONDS = 600.0
_OUTAGE_SECONDS = 6.0
"""Twice as long as a call waits, now and then."""

_ROUGH = "rough"
"""The file that tells the clients that calls may fail from now on."""

_SCHEMA = "through a pooler"
"""Where the tables are. Through a pooler nothing but the statements themselves can say so."""


async def check(place: Place, effort: Effort) -> Verdict:
    """Have all clients do everything at once, first undisturbed, then while pooler and server come and go."""
    verdict = Verdict({"clients": _CLIENTS, "connections": _POOL})
    settings = Settings(pgbouncer=True, database_schema=_SCHEMA)
    async with new_server(place.folder) as server, new_pooler(place.folder, server, pool_size=_POOL) as pooler:
        await upgrade_schema(pooler.url, settings=settings)
        await _tell_without_the_switch(pooler, verdict)
        await _tell_of_a_wrong_password(pooler, effort.of(1.5, 0.7), verdict)
        jobs = _JOBS_A_SECOND * effort.of(60, 8)
        async with SQLAlchemyCheckpointStore(pooler.url, settings=settings) as store, asyncio.TaskGroup() as group:
            for number in range(jobs):
                group.create_task(_put_up(store, f"jobs:{number}"))
        found = await _work(place.folder, pooler, jobs, effort, _disturb(server, pooler, effort))
        _judge(found, verdict)
        # Around the pooler, so that nothing of what it may have mixed up is asked of itself.
        async with SQLAlchemyCheckpointStore(server.url, settings=Settings(database_schema=_SCHEMA)) as store:
            (await audit(store, found.acknowledged)).tell(verdict)
    return verdict


async def _put_up(store: SQLAlchemyCheckpointStore, job: str) -> None:
    await store.save_checkpoint(state_of(job, 0))
    await store.pin_checkpoint(job)


async def _tell_without_the_switch(pooler: Pooler, verdict: Verdict) -> None:
    """Who does not know that there is a pooler is told so at once, and what to set."""
    began = time.perf_counter()
    try:
        async with SQLAlchemyCheckpointStore(pooler.url, settings=Settings(database_schema=_SCHEMA)) as store:
            await store.list_checkpoints(limit=1)
    except StoreConfigurationError as error:
        verdict.require("WORKFLOWS_PGBOUNCER=true" in str(error), f"without the switch it says: {error}")
        verdict.require(time.perf_counter() - began < 1, "it took long to say so")
    else:
        verdict.require(holds=False, promise="without the switch it worked, so that nothing was tried")


async def _tell_of_a_wrong_password(pooler: Pooler, seconds: float, verdict: Verdict) -> None:
    """The pooler has one code for that and for a server that is down: both are named, and it is asked for seldom."""
    asked = 0

    async def password() -> str:
        nonlocal asked
        asked += 1
        return "wrong"

    settings = Settings(pgbouncer=True, deadline_seconds=seconds)
    try:
        async with SQLAlchemyCheckpointStore(
            pooler.url_without_password, settings=settings, password=password
        ) as store:
            await store.list_checkpoints(limit=1)
    except CheckpointStoreError as error:
        verdict.require("password" in str(error), f"with a wrong password it says: {error}")
        verdict.require(asked <= seconds + 2, f"a wrong password was asked for {asked} times")
    else:
        verdict.require(holds=False, promise="a wrong password was let in, so that nothing was tried")


async def _disturb(server: Server, pooler: Pooler, effort: Effort) -> None:
    """Reload and pause the pooler, restart the server, restart the pooler; again and again."""
    pause = effort.of(1.0, 0.1)
    for turn in range(effort.of(6, 1)):
        outage = _OUTAGE_SECONDS if turn % 3 == 1 else pause
        pooler.reload()
        await asyncio.sleep(pause)
        await pooler.tell("PAUSE")
        await asyncio.sleep(outage)
        await pooler.tell("RESUME")
        await asyncio.sleep(pause)
        await server.stop()
        await asyncio.sleep(outage)
        await server.start()
        await asyncio.sleep(2 * pause)
        pooler.stop()
        await asyncio.sleep(outage)
        await pooler.start()
        await asyncio.sleep(2 * pause)


@dataclass
class _Found:
    """What all clients did, and what came of it.

    Attributes:
        acknowledged: Their saves that must be there.
        clients: How many worked until they were told to end.
        calls: How many succeeded in all.
        calm: What calls raised while nothing was disturbed.
        rough: What calls raised after that.
        claimed: The jobs, one for each time that somebody was told to have it.
    """

    acknowledged: Acknowledged
    clients: int
    calls: int
    calm: list[str]
    rough: list[str]
    claimed: list[str]


async def _work(folder: Path, pooler: Pooler, jobs: int, effort: Effort, disturb: Awaitable[None]) -> _Found:
    """Let the clients work, in some processes: undisturbed for a while, then until the disturbance is over."""
    crew = [start(_use_until_stopped, pooler.url, str(folder), number, jobs, effort) for number in range(_PROCESSES)]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30):
            while len(list(folder.glob("*.ready"))) < _CLIENTS:
                await asyncio.sleep(0.01)
    await asyncio.sleep(effort.of(20.0, 0.5))
    (folder / _ROUGH).touch()
    await disturb
    (folder / STOP).touch()
    for process in crew:
        await join(process)

    def lines(name: str) -> list[str]:
        return (folder / name).read_text().splitlines() if (folder / name).exists() else []

    calls = [int(line) for line in lines("calls")]
    acknowledged = Acknowledged(folder / "acknowledged")
    return _Found(acknowledged, len(calls), sum(calls), lines("errors"), lines("rough errors"), lines("claimed"))


def _judge(found: _Found, verdict: Verdict) -> None:
    verdict.figures |= {"calls": found.calls, "errors undisturbed": len(found.calm)}
    verdict.require(found.clients == _CLIENTS, f"only {found.clients} of {_CLIENTS} clients worked to their end")
    verdict.require(not found.calm, f"undisturbed, {len(found.calm)} calls failed, such as {found.calm[:1]}")
    verdict.figures |= {"told to try again": len(found.rough)}
    others = [one for one in found.rough if not one.startswith(StoreUnavailableError.__name__)]
    verdict.require(not others, f"{len(others)} calls raised something else, such as {others[:1]}")
    twice = [job for job, count in Counter(found.claimed).items() if count > 1]
    verdict.figures |= {"claims": len(found.claimed), "claimed twice": len(twice)}
    verdict.require(found.claimed, "no job was claimed")
    verdict.require(not twice, f"{len(twice)} jobs had two owners, such as {twice[:1]}")


async def _use_until_stopped(url: str, folder: str, process: int, jobs: int, effort: Effort) -> None:
    """Be some of the clients, each with a store of its own; in the quick version four share one."""
    share, per_store = _CLIENTS // _PROCESSES, effort.of(1, 4)
    # There, nobody gives up, either: a machine that is busy with other tests is no fault.
    deadline = effort.of(_OUTAGE_SECONDS / 2, 10.0)
    settings = Settings(pgbouncer=True, pool_size=2, database_schema=_SCHEMA, deadline_seconds=deadline)
    async with contextlib.AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(SQLAlchemyCheckpointStore(url, settings=settings))
            for _ in range(share // per_store)
        ]
        async with asyncio.TaskGroup() as group:
            for number in range(process * share, (process + 1) * share):
                store = stores[number % len(stores)]
                group.create_task(_Client(store, Path(folder), number, jobs).work())


class _Client:
    """Does everything that a store can do, one after the other, and writes down what came of it."""

    def __init__(self, store: SQLAlchemyCheckpointStore, folder: Path, number: int, jobs: int) -> None:
        self._store = store
        self._folder = folder
        self._number = number
        self._name = f"client{number}"
        self._jobs = jobs
        self._acknowledged = Acknowledged(folder / "acknowledged")
        self._calls = 0
        self._head: tuple[str, int] | None = None
        self._began = time.monotonic()

    async def work(self) -> None:
        """Go on until all are to stop."""
        for number in itertools.count():
            if (self._folder / STOP).exists():
                break
            await self._round(number)
            if number == 0:
                (self._folder / f"{self._name}.ready").touch()
        if self._head is not None:
            self._acknowledged.note(*self._head)
        append(self._folder / "calls", str(self._calls))

    async def _round(self, number: int) -> None:
        store, own = self._store, f"own:{self._name}"
        await self._until_done(lambda: store.save_checkpoint(state_of(own, number)))
        self._acknowledged.note(own, number)
        found = await self._until_done(lambda: store.load_checkpoint(own))
        if found != state_of(own, number):
            append(self._folder / "errors", f"what was saved last was not what was loaded: {own}, {number}")
        await self._go_on(number)
        await self._claim()
        listed = await self._until_done(lambda: store.list_checkpoints(self._name, limit=5))
        if [one.checkpoint_id for one in listed][:1] != [f"{self._name}:{self._name}/{number}"]:
            append(self._folder / "errors", f"the newest was not the first of the list: {self._name}, {number}")
        if (number + self._number) % 10 == 1:  # not all at once
            await self._until_done(lambda: store.save_checkpoint(state_of(f"{OLD}:{self._name}-{number}", number)))
            await self._until_done(lambda: store.trim_per_workflow(_KEPT))
            await self._until_done(lambda: store.cleanup_expired(1e8))
            await self._until_done(store.get_stats)

    async def _go_on(self, number: int) -> None:
        """Follow what was saved last, under its lease."""
        store, followed = self._store, None if self._head is None else self._head[0]
        state = state_of(f"{self._name}:{self._name}/{number}", number)
        fence = {"owner": self._name, "lease_seconds": _LEASE_SECONDS}
        await self._until_done(lambda: store.save_checkpoint(state, follows=followed, **fence))  # type: ignore[arg-type]
        await self._until_done(lambda: store.renew_lease(state.checkpoint_id, self._name, _LEASE_SECONDS))
        self._head = state.checkpoint_id, number

    async def _claim(self) -> None:
        """Want the same job as all others do at about this time."""
        job = f"jobs:{int((time.monotonic() - self._began) * _JOBS_A_SECOND) % self._jobs}"
        owner = f"{self._name}-{os.urandom(4).hex()}"
        with contextlib.suppress(CheckpointAlreadyClaimedError):
            if await self._try(self._store.claim_checkpoint(job, owner, _LEASE_SECONDS)) is not None:
                append(self._folder / "claimed", job)

    async def _try(self, call: Awaitable[T]) -> T | None:
        try:
            done = await call
        except CheckpointAlreadyClaimedError:
            self._calls += 1
            raise
        except CheckpointStoreError as error:
            name = "rough errors" if (self._folder / _ROUGH).exists() else "errors"
            append(self._folder / name, f"{type(error).__name__}: {error}")
            return None
        self._calls += 1
        return done

    async def _until_done(self, make: Callable[[], Awaitable[T]]) -> T:
        while True:
            count = self._calls
            done = await self._try(make())
            if self._calls > count:
                return done  # type: ignore[return-value] # None is what the call returned
            if (self._folder / STOP).exists():
                raise RuntimeError("a call did not succeed before all was over")


ROW = Row(
    fault="through PgBouncer",
    promise=(
        "64 clients share 8 connections in transaction mode without an error; while the pooler is reloaded, paused and "
        "restarted, and the server too, calls succeed or are worth another try, and nothing acknowledged is lost."
    ),
    check=check,
    databases=("postgresql",),
    needs=(PGBOUNCER,),
)
