"""A primary ends or freezes under load, and its synchronous standby becomes the primary."""

import asyncio
from contextlib import AsyncExitStack

from tests.faults.audit import audit
from tests.faults.load import Acknowledged, save_for_ever
from tests.faults.row import Effort, Place, Row, Verdict
from tests.faults.servers import frozen, new_server, new_standby
from workflows_mcp import CheckpointStoreError, SQLAlchemyCheckpointStore, StoreUnavailableError, upgrade_schema
from workflows_mcp.settings import Settings

__all__ = ["ROW"]

_TASKS = 8
_DEADLINE = 3.0
_MOST_OVERRUN = 0.25
"""How much later than its deadline a call may end, in seconds."""

_WAYS = ("crash", "freeze", "stop", "crash", "freeze")
"""How a primary ends. Frozen, it stays so: hosts that are gone without a word look like that."""


async def check(place: Place, effort: Effort) -> Verdict:
    """Crash, stop or freeze the primary, promote the standby, and see saving go on there."""
    chance = effort.chance()
    verdict = Verdict({"failovers": 0})
    acknowledged = Acknowledged(place.folder / "acknowledged")
    errors: list[CheckpointStoreError] = []
    seconds: list[float] = []
    resumed: dict[str, list[float]] = {way: [] for way in _WAYS}
    settings = Settings(deadline_seconds=_DEADLINE)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as servers:
        primary = await servers.enter_async_context(new_server(place.folder))
        await upgrade_schema(primary.url)
        standby = await servers.enter_async_context(new_standby(place.folder, primary, "standby0"))
        url = f"postgresql://postgres@{primary.address},{standby.address}/postgres?target_session_attrs=read-write"
        saving = asyncio.create_task(
            save_for_ever(
                url, acknowledged, tasks=_TASKS, on_error=errors.append, on_ended=seconds.append, settings=settings
            )
        )
        servers.callback(saving.cancel)
        ways = _WAYS[: effort.of(len(_WAYS), 1)]
        for number, way in enumerate(ways, 1):
            # One that is acknowledged now takes all before it along to the standby.
            await acknowledged.grown(acknowledged.size)
            await asyncio.sleep(chance.uniform(0.1, effort.of(1.0, 0.2)))
            told = len(errors)
            if way == "freeze":
                servers.enter_context(frozen(primary.pids))
            else:
                await (primary.crash() if way == "crash" else primary.stop())
            await asyncio.sleep(chance.uniform(0, 0.3))
            size = acknowledged.size
            promoted_at = await standby.promote()
            await acknowledged.grown(size)
            resumed[way].append(loop.time() - promoted_at)
            # Of a frozen host a call hears nothing until its deadline; when it is repeated, it finds the other one.
            in_time = _DEADLINE * (2 if way == "freeze" else 1) + _MOST_OVERRUN
            verdict.require(
                resumed[way][-1] <= in_time, f"after a {way} nothing was saved for {resumed[way][-1]:.2f} s"
            )
            most = _TASKS if way == "freeze" else 0
            given_up = len(errors) - told
            verdict.require(given_up <= most, f"{given_up} calls failed when the primary came to a {way}, not {most}")
            verdict.figures["failovers"] = number
            if number < len(ways):
                primary.kill()
                folder, port = place.folder, primary.port
                primary = standby
                standby = await servers.enter_async_context(new_standby(folder, primary, f"standby{number}", port=port))
        await asyncio.sleep(0.1)
        if saving.done():
            verdict.broken.append(f"the savers ended by themselves: {saving.exception()!r}")
        saving.cancel()
        await asyncio.wait({saving})
        async with SQLAlchemyCheckpointStore(standby.url) as store:
            (await audit(store, acknowledged)).tell(verdict)
    verdict.figures["errors"] = len(errors)
    for way, times in resumed.items():
        if times:
            verdict.figures[f"ms to first success after a {way}"] = round(max(times) * 1000)
    overrun = max(seconds) - _DEADLINE
    verdict.figures["worst overrun ms"] = round(overrun * 1000)
    verdict.require(overrun <= _MOST_OVERRUN, f"a call ended {overrun:.3f} s after its deadline")
    others = [error for error in errors if not isinstance(error, StoreUnavailableError)]
    verdict.require(not others, f"{len(others)} calls raised something else, such as {others[:1]}")
    return verdict


ROW = Row(
    fault="PostgreSQL failover",
    promise=(
        "No acknowledged save is lost. When the primary is gone, the store follows within its deadline and no call "
        "fails; when it freezes, calls to it end at their deadline with StoreUnavailableError, and the store follows "
        "within one more deadline."
    ),
    check=check,
    databases=("postgresql",),
)
