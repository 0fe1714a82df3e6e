"""Servers that die: others go on with their runs, soon, and with all of them."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import OpenStore
from tests.engine.probe import Probe, block, text
from tests.executor.test_owners import eventually, hold
from workflows_mcp import (
    CheckpointMetadata,
    CheckpointState,
    InMemoryCheckpointStore,
    StoreUnavailableError,
    WorkflowExecutor,
)

LEASE_SECONDS = 1.0
RUNS = 20
"""More than an executor claims at the same time."""

FLOW = text(block("first"), block("second", "first"))

SERVER = f"""
import asyncio, sys
from tests.engine.probe import Probe
from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowExecutor
from workflows_mcp.engine.blocks import BLOCK_TYPES

async def serve(url):
    BLOCK_TYPES["Probe"] = probe = Probe()
    probe.hold("second", started={RUNS} * 2)
    async with SQLAlchemyCheckpointStore(url) as store:
        async with WorkflowExecutor(store, lease_seconds={LEASE_SECONDS}) as executor:
            for number in range({RUNS}):
                await executor.start_workflow({FLOW!r}, run_id=f"r{{number}}")
            await probe.all_started.wait()
            print("begun", flush=True)
            await asyncio.Event().wait()

asyncio.run(serve(sys.argv[1]))
"""


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that works on `RUNS` runs, each of which is in its second block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, database_url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"begun\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_crashed_servers_runs_are_taken_over_within_two_leases(
    server: asyncio.subprocess.Process, open_store: OpenStore, probe: Probe
) -> None:
    """All of them, though none ends meanwhile; nothing that a checkpoint holds is done again."""
    probe.hold("second", started=RUNS)
    store = open_store()
    every = LEASE_SECONDS / 2
    async with WorkflowExecutor(store, lease_seconds=LEASE_SECONDS, recover_every_seconds=every) as executor:
        server.kill()
        killed = time.monotonic()
        await probe.all_started.wait()
        assert time.monotonic() - killed < 2 * LEASE_SECONDS
        probe.release()
        for number in range(RUNS):
            assert (await executor.wait_for_run(f"r{number}", 60)).is_success
    assert probe.started == ["second"] * RUNS
    assert len(await store.list_checkpoints(status="completed")) == RUNS


async def abandon(store: InMemoryCheckpointStore, probe: Probe) -> None:
    """Leave a run behind whose block `a` was under way."""
    running = await hold(store, probe)
    running.cancel()
    await asyncio.wait([running])
    probe.release()


async def has_ended(store: InMemoryCheckpointStore) -> bool:
    """Whether that run is over."""
    return bool(await store.list_checkpoints(run_id="r", status="completed"))


async def test_abandoned_runs_are_looked_for_at_once(probe: Probe) -> None:
    """A server that comes back goes on with its own."""
    store = InMemoryCheckpointStore()
    await abandon(store, probe)
    async with WorkflowExecutor(store, recover_every_seconds=1000):
        await eventually(lambda: has_ended(store))


async def test_many_questions_do_not_hold_up_abandoned_runs(probe: Probe) -> None:
    """Nor does whatever is wrong with looking for them."""

    class Slow(InMemoryCheckpointStore):
        async def load_checkpoint(self, checkpoint_id: str) -> CheckpointState | None:
            state = await super().load_checkpoint(checkpoint_id)
            if state is not None and state.is_paused:
                await asyncio.Event().wait()
            return state

    store = Slow()
    await WorkflowExecutor(store).execute_workflow(text(block("ask", ask="?")), run_id="asks")
    await abandon(store, probe)
    async with WorkflowExecutor(store, recover_every_seconds=1000):
        await eventually(lambda: has_ended(store))


async def test_looking_goes_on_when_the_store_was_away(probe: Probe, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, without what somebody else's store says."""

    class Flaky(InMemoryCheckpointStore):
        failures = 2

        async def list_abandoned(self, *args: Any) -> list[CheckpointMetadata]:
            if self.failures:
                self.failures -= 1
                raise RuntimeError("hunter2")
            return await super().list_abandoned(*args)

    store = Flaky()
    await abandon(store, probe)
    async with WorkflowExecutor(store, recover_every_seconds=0.02):
        await eventually(lambda: has_ended(store))
    assert [record.getMessage() for record in caplog.records] == [
        "looking for runs to recover failed, and is tried again: RuntimeError"
    ] * 2


async def test_an_executor_does_not_take_over_its_own_run(probe: Probe) -> None:
    """Whose lease has run out because the store was away: its blocks would run twice, in one process."""

    class Away(InMemoryCheckpointStore):
        is_away = True
        found = 0

        async def renew_lease(self, *args: Any) -> None:
            if self.is_away:
                raise StoreUnavailableError("the database is gone")
            await super().renew_lease(*args)

        async def list_abandoned(self, *args: Any) -> list[CheckpointMetadata]:
            found = await super().list_abandoned(*args)
            self.found += len(found)
            return found

    store = Away()
    probe.hold("first", started=1)
    async with WorkflowExecutor(store, lease_seconds=0.05, recover_every_seconds=0.01) as executor:
        running = asyncio.create_task(executor.execute_workflow(FLOW, run_id="r"))

        async def is_found() -> bool:
            return store.found >= 5

        await eventually(is_found)
        assert await executor.recover() == []
        store.is_away = False
        probe.release()
        assert (await running).is_success
    assert probe.started == ["first", "second"]
