"""Callers are cancelled at random moments, by asyncio and by anyio, in the middle of every kind of call."""

import asyncio
import contextlib
import gc
import itertools
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.faults.audit import audit
from tests.faults.leftovers import count_threads, threads_left
from tests.faults.load import Acknowledged, state_of
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import CheckpointStoreError, SQLAlchemyCheckpointStore, upgrade_schema

__all__ = ["ROW"]

_IDS = 40
"""How many ids are saved, again and again."""

_RUN = "long"
"""A run that all callers save states of."""

_LARGE = 300_000
_LARGE_IDS = 3
"""The size of some states, which are compressed in threads, and how many ids they have."""

_AT_ONCE = 24
"""How many callers there are at a time."""

_ROUND = 100
"""How many callers there are in a row until it is looked at what has become of their saves."""

_MOST_ROUNDS = 20
"""How many times as many calls as are to be cancelled are made at the most."""

_SECONDS_TO_FINISH = 5.0
"""By then all that was begun is there."""

_LONGEST_SECONDS = (0.0, 0.002, 0.01, 0.03, 0.3)
"""Until a caller is cancelled, at the most: one of these."""


async def check(place: Place, effort: Effort) -> Verdict:
    """Cancel, then count what is left and load all that was acknowledged."""
    verdict = Verdict({"cancelled": 0, "ended before": 0, "leaks": 0})
    await upgrade_schema(place.url)
    acknowledged = Acknowledged(place.folder / "acknowledged")
    threads = count_threads()
    descriptors = _descriptors()
    backends = await _backends(place)
    numbers, fresh = dict.fromkeys(range(_IDS), 0), itertools.count()
    async with (
        _engine(place) as engine,
        SQLAlchemyCheckpointStore(place.url) as store,
        SQLAlchemyCheckpointStore(engine) as on_theirs,
    ):
        tasks = len(asyncio.all_tasks())
        for one, times in ((store, effort.of(1200, 120)), (on_theirs, effort.of(300, 30))):
            storm = _Storm(one, acknowledged, numbers, effort.chance(), verdict, fresh=fresh)
            await storm.save_all()  # so that something is acknowledged, however slow the machine is
            for _ in range(_MOST_ROUNDS * times // _ROUND):
                if storm.cancelled >= times or verdict.broken:
                    break
                await storm.rage(min(_ROUND, times))
                await storm.must_have_finished()
            verdict.require(
                storm.cancelled >= times or verdict.broken, f"only {storm.cancelled} calls were cancelled, not {times}"
            )
            await storm.delete_large()
            # Before anything is saved anew: what was acknowledged must be there of its own.
            (await audit(one, acknowledged)).tell(verdict)
            await storm.must_work_again()
            (await audit(one, acknowledged)).tell(verdict)
        await _leaks(len(asyncio.all_tasks()) - tasks, "tasks", verdict)
        await _leaks(_checked_out(engine), "checked-out connections of an engine passed in", verdict)
        await _leaks(_checked_out(store._database.engine), "checked-out connections", verdict)
    await asyncio.sleep(0)
    gc.collect()
    await _leaks(await threads_left(threads), "threads", verdict)
    await _leaks(await _settled(lambda: _number(_descriptors() - descriptors)), "file descriptors", verdict)
    await _leaks(await _settled(lambda: _more_backends(place, backends)), "server's backends", verdict)
    return verdict


class _Storm:
    """Callers of a store who are cancelled.

    Args:
        store: Any.
        acknowledged: Takes what was told to be durable.
        numbers: How often each id was saved so far.
        chance: Decides.
        verdict: Takes what is broken.
        fresh: Makes ids that no storm over this database has used.

    Attributes:
        cancelled: How many calls ended with their callers' cancellation.
    """

    def __init__(
        self,
        store: SQLAlchemyCheckpointStore,
        acknowledged: Acknowledged,
        numbers: dict[int, int],
        chance: random.Random,
        verdict: Verdict,
        *,
        fresh: Iterator[int],
    ) -> None:
        self.cancelled = 0
        self._store = store
        self._acknowledged = acknowledged
        self._chance = chance
        self._verdict = verdict
        self._numbers = numbers
        self._fresh = fresh
        self._calls: list[Callable[[], Awaitable[object]]] = [
            *[self._save] * 8,
            self._save_large,
            *[self._load] * 4,
            self._follow,
            *[self._save_wave] * 3,
            self._delete_base,
            self._claim,
            self._delete,
            self._pin,
            lambda: store.list_checkpoints(limit=30),
            store.list_checkpoints,
            store.get_stats,
            self._iterate,
            lambda: store.cleanup_expired(1e8),
            lambda: store.delete_run("none"),
            lambda: store.list_abandoned(limit=3),
            store.vacuum,
        ]
        self._cancels = (self._by_task, self._by_timeout, self._by_scope, self._by_move_on, self._by_group)

    async def rage(self, times: int) -> None:
        """Cancel so many callers, some of them at once."""
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one() -> None:
            async with turns:
                call = self._chance.choice(self._calls)
                cancel = self._chance.choice(self._cancels)
                try:
                    is_cancelled = await cancel(call, self._chance.uniform(0, self._chance.choice(_LONGEST_SECONDS)))
                except (CheckpointStoreError, ExceptionGroup) as error:
                    self._verdict.broken.append(f"a call raised {error!r}")
                else:
                    self.cancelled += is_cancelled
                    figure = "cancelled" if is_cancelled else "ended before"
                    self._verdict.figures[figure] = int(str(self._verdict.figures[figure])) + 1

        await asyncio.gather(*(one() for _ in range(times)))

    async def must_have_finished(self) -> None:
        """Every save that was handed to the store is there, whether its caller waited for it or not.

        Those of an id are handed over in the order of their numbers, so that the last one is what must be found.
        """
        end = asyncio.get_running_loop().time() + _SECONDS_TO_FINISH
        for number, version in self._numbers.items():
            if not version:
                continue
            name = f"storm-{number}"
            while (found := await self._store.load_checkpoint(name)) != state_of(name, version):
                if asyncio.get_running_loop().time() > end:
                    held = None if found is None else found.context["number"]
                    self._verdict.broken.append(f"{name} was begun to be saved as number {version}, and is {held}")
                    self._numbers[number] = held or 0  # told once
                    break
                await asyncio.sleep(0.005)

    async def delete_large(self) -> None:
        """Take away what is not made of its id alone."""
        for number in range(_LARGE_IDS):
            await asyncio.wait_for(self._store.delete_checkpoint(f"large-{number}"), 5)

    async def save_all(self) -> None:
        """Save each id, and be told so."""
        for number in self._numbers:
            await asyncio.wait_for(self._save_one(number), 5)

    async def must_work_again(self) -> None:
        """All goes on as if nothing had been, and what was abandoned does not come later."""
        await self.save_all()
        for number, version in self._numbers.items():
            found = await asyncio.wait_for(self._store.load_checkpoint(f"storm-{number}"), 5)
            self._verdict.require(found == state_of(f"storm-{number}", version), f"storm-{number} is not the last one")

    # --- the calls

    async def _save(self) -> None:
        await self._save_one(self._chance.randrange(_IDS))

    async def _save_one(self, number: int) -> None:
        self._numbers[number] += 1
        version = self._numbers[number]
        await self._store.save_checkpoint(state_of(f"storm-{number}", version))
        self._acknowledged.note(f"storm-{number}", version)

    async def _save_large(self) -> None:
        state = state_of("large", 1)
        large = replace(state, context={**state.context, "much": self._chance.randbytes(_LARGE // 2).hex()})
        await self._store.save_checkpoint(replace(large, checkpoint_id=f"large-{self._chance.randrange(_LARGE_IDS)}"))
        await self._store.load_checkpoint("large-0")

    async def _load(self) -> None:
        number = self._chance.randrange(_IDS)
        found = await self._store.load_checkpoint(f"storm-{number}")
        version = 0 if found is None else found.context["number"]
        self._verdict.require(
            found is None or found == state_of(f"storm-{number}", version), f"storm-{number} was loaded as another"
        )

    async def _follow(self) -> None:
        number = next(self._fresh)
        name, owner = f"run-{number}/0", f"owner-{number}"
        await self._store.save_checkpoint(state_of(name, 0), owner=owner, lease_seconds=60)
        for wave in range(1, 4):
            followed, name = name, f"run-{number}/{wave}"
            await self._store.save_checkpoint(state_of(name, wave), follows=followed, owner=owner, lease_seconds=60)
            await self._store.renew_lease(name, owner, 60)
        await self._store.release_claim(name, owner)

    async def _claim(self) -> None:
        number = next(self._fresh)
        name, owner = f"claimed-{number}", f"owner-{number}"
        await self._store.save_checkpoint(state_of(name, 0))
        await self._store.claim_checkpoint(name, owner, 60)
        await self._store.release_claim(name, owner)

    async def _delete(self) -> None:
        name = f"gone-{next(self._fresh)}"
        await self._store.save_checkpoint(state_of(name, 0))
        await self._store.delete_checkpoint(name)

    async def _save_wave(self) -> None:
        """Another state of a run, a delta of one that nobody may have been told of."""
        wave = next(self._fresh)
        await self._store.save_checkpoint(state_of(f"{_RUN}/{wave}", wave))
        self._acknowledged.note(f"{_RUN}/{wave}", wave)

    async def _delete_base(self) -> None:
        """Delete a state of which another one is a delta."""
        number = next(self._fresh)
        for wave in range(2):
            await self._store.save_checkpoint(state_of(f"based-{number}/{wave}", wave))
        self._acknowledged.note(f"based-{number}/1", 1)
        await self._store.delete_checkpoint(f"based-{number}/0")

    async def _pin(self) -> None:
        name = f"pinned-{next(self._fresh)}"
        await self._store.save_checkpoint(state_of(name, 0))
        await self._store.pin_checkpoint(name)

    async def _iterate(self) -> None:
        async with contextlib.aclosing(self._store.iter_checkpoints()) as states:  # type: ignore[type-var] # a generator
            async for _ in states:
                pass

    # --- the ways to cancel: whether they came in time

    async def _by_task(self, call: Callable[[], Awaitable[object]], seconds: float) -> bool:
        async def work() -> None:
            await call()

        task = asyncio.create_task(work())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
        return task.cancelled()

    async def _by_timeout(self, call: Callable[[], Awaitable[object]], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await call()
        except TimeoutError:
            return True
        return False

    async def _by_scope(self, call: Callable[[], Awaitable[object]], seconds: float) -> bool:
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_later(seconds, scope.cancel)
            await call()
        return scope.cancelled_caught

    async def _by_move_on(self, call: Callable[[], Awaitable[object]], seconds: float) -> bool:
        with anyio.move_on_after(seconds) as scope:
            await call()
        return scope.cancelled_caught

    async def _by_group(self, call: Callable[[], Awaitable[object]], seconds: float) -> bool:
        ended = False

        async def work() -> None:
            nonlocal ended
            await call()
            ended = True

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await anyio.sleep(seconds)
            group.cancel_scope.cancel()
        return not ended


# --- what is left


@asynccontextmanager
async def _engine(place: Place) -> AsyncIterator[AsyncEngine]:
    url = place.url.replace("postgresql:", "postgresql+asyncpg:").replace("postgres:@", "postgres@")
    engine = create_async_engine(url if place.database == "postgresql" else f"sqlite+aiosqlite:///{url}")
    try:
        yield engine
    finally:
        await engine.dispose()


def _checked_out(engine: AsyncEngine) -> int:
    return engine.pool.checkedout()  # type: ignore[attr-defined, no-any-return] # its pool counts


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are all that is wanted


async def _number(number: int) -> int:
    return number


async def _backends(place: Place) -> int:
    if place.database == "sqlite":
        return 0
    server = await asyncpg.connect(place.url)
    try:
        count = await server.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await server.close()
    assert isinstance(count, int)
    return count


async def _more_backends(place: Place, before: int) -> int:
    return await _backends(place) - before


async def _settled(count: Callable[[], Awaitable[int]]) -> int:
    """What is left after a moment: what was told to end does so in its own time."""
    left = 0
    for _ in range(60):
        left = await count()
        if left <= 0:
            return 0
        await asyncio.sleep(0.05)
    return left


async def _leaks(number: int, what: str, verdict: Verdict) -> None:
    verdict.figures["leaks"] = int(str(verdict.figures["leaks"])) + number
    verdict.require(number <= 0, f"{number} {what} are left")


ROW = Row(
    fault="cancel storm",
    promise="Nothing leaks; a started save finishes and is visible, whole; and the store goes on working.",
    check=check,
)
