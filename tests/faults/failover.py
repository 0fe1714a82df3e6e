"""A primary ends or freezes under load, and its synchronous standby becomes the primary."""

import asyncio
from contextlib import AsyncExitStack, contextmanager
from collections.abc import Iterator

from tests.faults.load import Acknowledged, audit, save_for_ever
from tests.faults.row import Effort, Place, Row, Verdict
from tests.faults.servers import Server, frozen, new_server, new_standby
from workflows_mcp import CheckpointStoreError, SQLAlchemyCheckpointStore, StoreUnavailableError, upgrade_schema
from workflows_mcp.settings import Settings

__all__ = ["ROW"]

_DEADLINE = 5.0


async def check(place: Place, effort: Effort) -> Verdict:
    """Crash, stop or freeze the primary, promote the standby, and see saving go on there."""
    chance = effort.chance()
    verdict = Verdict({"failovers": 0})
    acknowledged = Acknowledged(place.folder / "acknowledged")
    errors: list[CheckpointStoreError] = []
    resumed: list[float] = []
    settings = Settings(deadline_seconds=_DEADLINE)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as servers:
        primary = await servers.enter_async_context(new_server(place.folder))
        await upgrade_schema(primary.url)
        standby = await servers.enter_async_context(new_standby(place.folder, primary, "standby0"))
        url = f"postgresql://postgres@{primary.address},{standby.address}/postgres?target_session_attrs=read-write"
        saving = asyncio.create_task(
            save_for_ever(url, acknowledged, on_error=errors.append, settings=settings)
        )
        servers.callback(saving.cancel)
        ways = effort.of(("crash", "stop", "freeze", "crash", "freeze"), ("crash",))
        for number, way in enumerate(ways, 1):
            # One that is acknowledged now takes all before it along to the standby.
            await acknowledged.grown(acknowledged.size)
            await asyncio.sleep(chance.uniform(0.1, effort.of(1.0, 0.2)))
            before = len(errors)
            if way == "freeze":
                servers.enter_context(frozen(primary.pids))
            else:
                await (primary.crash() if way == "crash" else primary.stop())
            await asyncio.sleep(chance.uniform(0, 0.3))
            size = acknowledged.size
            promoted_at = await standby.promote()
            await acknowledged.grown(size)
            resumed.append(loop.time() - promoted_at)
            print(way, resumed[-1], len(errors) - before)
            verdict.figures["failovers"] = number
            if number < len(ways):
                primary.kill()
                primary, standby = standby, await servers.enter_async_context(
                    new_standby(place.folder, standby, f"standby{number}", port=primary.port)
                )
        await asyncio.sleep(0.1)
        if saving.done():
            verdict.broken.append(f"the savers ended by themselves: {saving.exception()!r}")
        saving.cancel()
        await asyncio.wait({saving})
        async with SQLAlchemyCheckpointStore(standby.url) as store:
            (await audit(store, acknowledged)).tell(verdict)
    verdict.figures["errors"] = len(errors)
    verdict.figures["ms to first success, worst"] = round(max(resumed) * 1000)
    return verdict


ROW = Row(
    fault="PostgreSQL failover",
    promise="No acknowledged save is lost, and the store finds the new primary within its deadline.",
    check=check,
    databases=("postgresql",),
)
