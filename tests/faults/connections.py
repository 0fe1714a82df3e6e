"""More callers than connections: a pool of one with fifty tasks, and more clients than the server takes."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.faults.load import Acknowledged, audit, state_of
from tests.faults.row import Effort, Place, Row, Verdict
from tests.faults.servers import Server, new_server
from workflows_mcp import CheckpointStoreError, SQLAlchemyCheckpointStore, StoreUnavailableError, upgrade_schema
from workflows_mcp.settings import Settings

__all__ = ["ROW"]

_TASKS = 50
_ROWS = 100
_MOST_OVERRUN = 0.25


async def check(place: Place, effort: Effort) -> Verdict:
    """Exhaust a store's pool; then exhaust a server's connections, and let some go."""
    verdict = Verdict()
    if place.database == "sqlite":
        await upgrade_schema(place.url)
        await _share_one(place.url, verdict)
        await _wait_for_a_long_call(place.url, effort.of(3.0, 0.6), verdict)
        return verdict
    most, clients = effort.of((100, 110), (8, 11))
    async with new_server(place.folder, max_connections=str(most)) as server:
        await upgrade_schema(server.url)
        await _share_one(server.url, verdict)
        await _wait_for_one(server, effort.of(3.0, 0.6), verdict)
        await _exhaust_server(server, place, clients, Settings(deadline_seconds=effort.of(5.0, 1.2)), verdict)
        left = await _left_open(server)
        verdict.figures["connections left"] = left
        verdict.require(left == 0, f"{left} connections were left open")
    return verdict


async def _iterate(store: SQLAlchemyCheckpointStore) -> None:
    async for _ in store.iter_checkpoints():
        pass


_CALLS: Sequence[Callable[[SQLAlchemyCheckpointStore], Awaitable[object]]] = (
    lambda store: store.get_stats(),
    lambda store: store.list_checkpoints(),
    lambda store: store.list_abandoned(),
    _iterate,
)
"""Those that use the pool."""


async def _call_all(store: SQLAlchemyCheckpointStore) -> tuple[list[BaseException | object], float]:
    """What the tasks' calls came to, and how long the longest took."""
    began = time.perf_counter()
    calls = (_CALLS[number % len(_CALLS)](store) for number in range(_TASKS))
    return await asyncio.gather(*calls, return_exceptions=True), time.perf_counter() - began


async def _share_one(url: str, verdict: Verdict) -> None:
    """All are served by one connection, one after the other."""
    async with SQLAlchemyCheckpointStore(url, settings=Settings(pool_size=1)) as store:
        async with asyncio.TaskGroup() as group:
            for number in range(_ROWS):
                group.create_task(store.save_checkpoint(state_of(f"row{number}", number)))
        found, seconds = await _call_all(store)
        failed = [one for one in found if isinstance(one, BaseException)]
        verdict.figures["served by a pool of one"] = len(found) - len(failed)
        verdict.figures["s"] = f"{seconds:.1f}"
        verdict.require(not failed, f"{len(failed)} of {len(found)} calls failed, such as {failed[:1]}")


async def _wait_for_a_long_call(url: str, deadline: float, verdict: Verdict) -> None:
    """The only connection to a file is busy with a long query: the same, but that saves and loads have their own."""
    async with SQLAlchemyCheckpointStore(url, settings=Settings(pool_size=1, deadline_seconds=deadline)) as store:
        await store.get_stats()
        is_busy = threading.Event()
        long = asyncio.create_task(_query_for_long(store._database.engine, deadline + 2 * _MOST_OVERRUN, is_busy))
        while not is_busy.is_set():
            await asyncio.sleep(0.005)
        beside = asyncio.create_task(_save_and_load(store))
        found, seconds = await _call_all(store)
        verdict.require(not long.done(), "the only connection was not busy for long enough to have tried anything")
        await long
        refused = [one for one in found if isinstance(one, StoreUnavailableError)]
        verdict.figures["refused while it is busy"] = len(refused)
        verdict.figures["overrun ms"] = round((seconds - deadline) * 1000)
        others = [one for one in found if one not in refused]
        verdict.require(not others, f"{len(others)} of {_TASKS} calls ended with something else, such as {others[:1]}")
        verdict.require(seconds < deadline + _MOST_OVERRUN, f"the last one ended {seconds - deadline:.3f} s too late")
        verdict.require(await beside, "a save or a load waited for the connection of others")
        found, _ = await _call_all(store)
        failed = [one for one in found if isinstance(one, BaseException)]
        verdict.require(not failed, f"{len(failed)} calls failed when it was free again, such as {failed[:1]}")


async def _query_for_long(engine: AsyncEngine, seconds: float, is_busy: threading.Event) -> None:
    def sleep() -> None:
        is_busy.set()
        time.sleep(seconds)

    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.create_function("sleep", 0, sleep)
        await connection.execute(text("SELECT sleep()"))


async def _save_and_load(store: SQLAlchemyCheckpointStore) -> bool:
    """Whether both work at once."""
    began = time.perf_counter()
    saved = await _outcome(store.save_checkpoint(state_of("beside", 1)))
    found = await store.load_checkpoint("beside")
    return saved is None and found == state_of("beside", 1) and time.perf_counter() - began < _MOST_OVERRUN


async def _wait_for_one(server: Server, deadline: float, verdict: Verdict) -> None:
    """The only connection is busy for longer than anybody waits: all are told, in time, and are served afterwards."""
    async with SQLAlchemyCheckpointStore(
        server.url, settings=Settings(pool_size=1, deadline_seconds=deadline)
    ) as store:
        await store.get_stats()
        async with _table_locked(server):
            found, seconds = await _call_all(store)
            saved = await _outcome(store.save_checkpoint(state_of("locked", 1)))
        told = sum(isinstance(one, StoreUnavailableError) for one in [*found, saved])
        verdict.figures["refused while it is busy"] = told
        verdict.figures["overrun ms"] = round((seconds - deadline) * 1000)
        verdict.require(told == _TASKS + 1, f"only {told} of {_TASKS + 1} calls ended with StoreUnavailableError")
        verdict.require(seconds < deadline + _MOST_OVERRUN, f"the last one ended {seconds - deadline:.3f} s too late")
        found, _ = await _call_all(store)
        failed = [one for one in found if isinstance(one, BaseException)]
        verdict.require(not failed, f"{len(failed)} calls failed when it was free again, such as {failed[:1]}")


@asynccontextmanager
async def _table_locked(server: Server) -> AsyncIterator[None]:
    connection = await asyncpg.connect(server.url, ssl=False)
    try:
        await connection.execute("BEGIN; LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        await connection.close()


async def _exhaust_server(server: Server, place: Place, clients: int, settings: Settings, verdict: Verdict) -> None:
    """So many stores save at once; those who find no connection do so as soon as some are closed."""
    acknowledged = Acknowledged(place.folder / "acknowledged")
    stores = [SQLAlchemyCheckpointStore(server.url, settings=settings) for _ in range(clients)]
    deadline = settings.deadline_seconds

    async def save(number: int) -> BaseException | None:
        name = f"client{number}"
        found = await _outcome(stores[number].save_checkpoint(state_of(name, number)))
        if found is None:
            acknowledged.note(name, number)
        return found

    began = time.perf_counter()
    found = await asyncio.gather(*map(save, range(clients)))
    overrun = time.perf_counter() - began - deadline
    inside = [number for number, one in enumerate(found) if one is None]
    outside = [number for number, one in enumerate(found) if one is not None]
    others = [one for one in found if one is not None and not isinstance(one, StoreUnavailableError)]
    verdict.figures |= {"clients": clients, "served": len(inside), "refused": len(outside)}
    verdict.figures["last refusal ms over the deadline"] = round(overrun * 1000)
    verdict.require(inside and outside, "there were connections for all, or for none")
    verdict.require(not others, f"{len(others)} clients got something else, such as {others[:1]}")
    verdict.require(overrun < _MOST_OVERRUN, f"the last one was refused {overrun:.3f} s after its deadline")
    if not inside:
        return
    # Who is inside goes on saving; there is no connection for anything else.
    again = await asyncio.gather(*map(save, inside))
    verdict.require(
        not any(again), f"a store that has its connection could not save: {[one for one in again if one][:1]}"
    )
    counted = await _outcome(stores[inside[0]].get_stats())
    verdict.require(isinstance(counted, StoreUnavailableError), f"one connection too many was found: {counted!r}")
    # They wait, and some leave meanwhile.
    waiting = asyncio.gather(*map(save, outside))
    await asyncio.sleep(deadline / 4)
    await asyncio.gather(*(stores[number].close() for number in inside[: len(outside)]))
    failed = [one for one in await waiting if one is not None]
    verdict.require(not failed, f"{len(failed)} clients failed though others had left, such as {failed[:1]}")
    await asyncio.gather(*(store.close() for store in stores))
    async with SQLAlchemyCheckpointStore(server.url) as store:
        for number in range(_ROWS):
            acknowledged.note(f"row{number}", number)
        (await audit(store, acknowledged)).tell(verdict)


async def _outcome(call: Awaitable[object]) -> CheckpointStoreError | None:
    try:
        await call
    except CheckpointStoreError as error:
        return error
    return None


async def _left_open(server: Server) -> int:
    """How many connections of stores there are when the server has had time to notice their ends."""
    end = time.monotonic() + 2
    while True:
        rows = await server.fetch("SELECT FROM pg_stat_activity WHERE application_name = 'workflows-mcp'")
        if not rows or time.monotonic() > end:
            return len(rows)
        await asyncio.sleep(0.01)


ROW = Row(
    fault="too few connections",
    promise="Who finds none in time gets an error that is worth another try; all succeed when there are some again.",
    check=check,
    is_alone=True,
)
