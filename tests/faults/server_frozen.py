"""A PostgreSQL server stands still, whole or one of its processes alone, and goes on later."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tests.faults.load import Acknowledged, audit, save_for_ever, state_of
from tests.faults.row import Effort, Place, Row, Verdict
from tests.faults.servers import Server, frozen, new_server
from workflows_mcp import CheckpointStoreError, SQLAlchemyCheckpointStore, StoreUnavailableError, upgrade_schema
from workflows_mcp.settings import Settings

__all__ = ["ROW"]

_MOST_OVERRUN = 0.25
_OWNER = "owner"
_NAMES = ("head", "next", "free", "leased", "saved")

_BEFORE = 0.2
"""For how many seconds calls are made before the server is frozen, in the middle of some of them."""

_PAUSE = 0.03
"""Between the opening of two stores: a moment for what holds up the event loop, the compilation of statements."""

Call = Callable[[SQLAlchemyCheckpointStore], Awaitable[object]]


async def _iterate(store: SQLAlchemyCheckpointStore) -> None:
    async for _ in store.iter_checkpoints():
        pass


CALLS: Mapping[str, Call] = {
    "save": lambda store: store.save_checkpoint(state_of("saved", 1)),
    "save that follows": lambda store: store.save_checkpoint(
        state_of("next", 1), follows="head", owner=_OWNER, lease_seconds=30
    ),
    "load": lambda store: store.load_checkpoint("head"),
    "list": lambda store: store.list_checkpoints(limit=10),
    "list all": lambda store: store.list_checkpoints(),
    "list_abandoned": lambda store: store.list_abandoned(),
    "iterate": _iterate,
    "stats": lambda store: store.get_stats(),
    "claim": lambda store: store.claim_checkpoint("free", "another"),
    "renew": lambda store: store.renew_lease("leased", _OWNER),
    "release": lambda store: store.release_claim("leased", _OWNER),
    "pin": lambda store: store.pin_checkpoint("head"),
    "delete": lambda store: store.delete_checkpoint("absent"),
    "delete_run": lambda store: store.delete_run("absent"),
    "cleanup": lambda store: store.cleanup_expired(10 * 365 * 86_400),
    "trim": lambda store: store.trim_per_workflow(1_000_000),
}


@dataclass
class _Times:
    """How long calls took that were under way while the server stood still.

    Attributes:
        deadline: Theirs, in seconds.
        frozen_at: When it began to.
        worst: By how many seconds one was over it, and which one that was.
        failed: How many failed as they should.
        broken: What they did instead.
    """

    deadline: float
    frozen_at: float = float("inf")
    worst: tuple[float, str] = (-1e9, "")
    failed: int = 0
    broken: list[str] = field(default_factory=list)

    async def measure(self, name: str, call: Awaitable[object], *, may_succeed: bool = False) -> None:
        """Await a call that can only fail, unless it began while the server still answered."""
        began = time.perf_counter()
        try:
            await call
        except StoreUnavailableError:
            self.failed += 1
        except CheckpointStoreError as error:
            if began > self.frozen_at:
                self.broken.append(f"{name} raised {error!r}")
        else:
            if began > self.frozen_at and not may_succeed:
                self.broken.append(f"{name} succeeded")
        overrun = time.perf_counter() - began - self.deadline
        self.worst = max(self.worst, (overrun, name))
        if overrun > _MOST_OVERRUN:
            self.broken.append(f"{name} ended {overrun * 1000:.0f} ms after its deadline")


async def check(place: Place, effort: Effort) -> Verdict:
    """Freeze the server under load, make all kinds of calls meanwhile, and see all of them work later."""
    verdict = Verdict()
    settings = Settings(deadline_seconds=effort.of(2.0, 0.5))
    times = _Times(settings.deadline_seconds)
    acknowledged = Acknowledged(place.folder / "acknowledged")
    errors: list[CheckpointStoreError] = []
    async with new_server(place.folder) as server, SQLAlchemyCheckpointStore(server.url, settings=settings) as store:
        await upgrade_schema(server.url)
        await _prepare(store)
        saving = asyncio.create_task(save_for_ever(server.url, acknowledged, on_error=errors.append, settings=settings))
        await acknowledged.grown(0)
        seconds = effort.of(20.0, 1.2)
        end = asyncio.get_running_loop().time() + seconds + _BEFORE
        async with asyncio.TaskGroup() as calls:
            for name, call in CALLS.items():
                calls.create_task(_repeat(times, name, call, store, end))
            await asyncio.sleep(_BEFORE)
            with frozen(server.pids):
                times.frozen_at = time.perf_counter()
                for name, call in CALLS.items():
                    calls.create_task(_open_call_close(times, name, call, server.url, settings))
                    await asyncio.sleep(_PAUSE)
                await asyncio.sleep(end - asyncio.get_running_loop().time())
                # Those that began last hear of it while it still stands still.
                await asyncio.sleep(settings.deadline_seconds + _MOST_OVERRUN)
        verdict.require(times.failed >= 2 * len(CALLS), "not every kind of call was made while it stood still")
        thawed = asyncio.get_running_loop().time()
        await acknowledged.grown(acknowledged.size)
        verdict.figures["s frozen"] = f"{seconds:g}"
        verdict.figures["calls"] = times.failed
        verdict.figures["worst overrun ms"] = f"{times.worst[0] * 1000:.0f} ({times.worst[1]})"
        verdict.figures["ms to first success"] = round((asyncio.get_running_loop().time() - thawed) * 1000)
        await _all_work(store, verdict)
        await asyncio.sleep(0.2)
        if saving.done():
            verdict.broken.append(f"the savers ended by themselves: {saving.exception()!r}")
        saving.cancel()
        await asyncio.wait({saving})
        for name in _NAMES:
            await store.delete_checkpoint(name)
        (await audit(store, acknowledged)).tell(verdict)
        rounds = effort.of(3, 1)
        overwritten = 0
        for _ in range(rounds):
            overwritten += await _freeze_saver(server, settings, times)
        verdict.figures["overwritten by what was given up"] = overwritten
        verdict.require(not overwritten, f"{overwritten} of {rounds} newer saves were overwritten by one given up")
    others = [error for error in errors if not isinstance(error, StoreUnavailableError)]
    verdict.require(not others, f"{len(others)} saves raised something else, such as {others[:1]}")
    verdict.broken += times.broken[:10]
    return verdict


async def _prepare(store: SQLAlchemyCheckpointStore) -> None:
    for name in _NAMES:
        await store.delete_checkpoint(name)
    for name in ("head", "free", "leased"):
        await store.save_checkpoint(state_of(name, 1))
    for name in ("head", "leased"):
        await store.claim_checkpoint(name, _OWNER, lease_seconds=3600)


async def _repeat(times: _Times, name: str, call: Call, store: SQLAlchemyCheckpointStore, end: float) -> None:
    while asyncio.get_running_loop().time() < end:
        await times.measure(name, call(store))


async def _open_call_close(times: _Times, name: str, call: Call, url: str, settings: Settings) -> None:
    """With a store of its own, opened and closed while the server stands still."""
    store = SQLAlchemyCheckpointStore(url, settings=settings)
    await times.measure(f"{name} of a new store", call(store))
    under_way = asyncio.ensure_future(call(store))
    await asyncio.sleep(0.01)
    await times.measure(f"close during {name}", store.close(), may_succeed=True)
    await asyncio.wait({under_way})
    if not isinstance(under_way.exception(), StoreUnavailableError):
        times.broken.append(f"{name} during a close ended with {under_way.exception()!r}")


async def _all_work(store: SQLAlchemyCheckpointStore, verdict: Verdict) -> None:
    """Every kind of call, at the first try."""
    await _prepare(store)
    for name, call in CALLS.items():
        try:
            await call(store)
        except CheckpointStoreError as error:
            verdict.broken.append(f"{name} does not work any more: {error!r}")


async def _freeze_saver(server: Server, settings: Settings, times: _Times) -> bool:
    """Freeze the one process that saves; whether a save that was given up came back to life over a newer one."""
    async with SQLAlchemyCheckpointStore(server.url, settings=settings) as store:
        await store.save_checkpoint(state_of("again", 1))
        [[pid]] = await server.fetch("SELECT pid FROM pg_stat_activity WHERE query LIKE 'INSERT INTO checkpoints%'")
        with frozen([pid]):
            await times.measure("save to one frozen process", store.save_checkpoint(state_of("again", 2)))
            await store.save_checkpoint(state_of("again", 3))
        while await server.fetch("SELECT FROM pg_stat_activity WHERE pid = $1", pid):
            await asyncio.sleep(0.005)
        return await store.load_checkpoint("again") != state_of("again", 3)


ROW = Row(
    fault="server frozen",
    promise="Every call ends within its deadline and 250 ms, later all work, and nothing given up comes back to life.",
    check=check,
    databases=("postgresql",),
    is_alone=True,
)
