"""A run that is watched in the store."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from tests.engine.probe import Probe, block, text
from workflows_mcp import InMemoryCheckpointStore
from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.engine.run_details import RunDetails
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.engine.watching import views_of_run
from workflows_mcp.errors import CheckpointDecodeError, CheckpointNotFoundError, StoreUnavailableError
from workflows_mcp.testing import make_state

ASKING = text(block("a"), block("ask", "a", ask="well?"), block("end", "ask"))


class Counting(InMemoryCheckpointStore):
    """Counts what it is asked for, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.loads = 0
        self.looks: asyncio.Queue[None] = asyncio.Queue()
        self.failure: Exception | None = None

    async def see_looks(self, count: int) -> None:
        """Wait until it was asked so often for what there is."""
        for _ in range(count):
            await self.looks.get()

    async def load_checkpoint(self, checkpoint_id: str) -> CheckpointState | None:
        """See `CheckpointStore.load_checkpoint`."""
        self.loads += 1
        if isinstance(self.failure, CheckpointDecodeError):
            raise self.failure
        return await super().load_checkpoint(checkpoint_id)

    async def list_checkpoints(self, *args: Any, **options: Any) -> list[CheckpointMetadata]:
        """See `CheckpointStore.list_checkpoints`."""
        self.looks.put_nowait(None)
        failure, self.failure = self.failure, None if isinstance(self.failure, StoreUnavailableError) else self.failure
        if isinstance(failure, StoreUnavailableError):
            raise failure
        return await super().list_checkpoints(*args, **options)


@pytest.fixture
def store() -> Counting:
    """The store in memory that counts."""
    return Counting()


def views(store: Counting, run_id: str = "r", **options: Any) -> AsyncGenerator[RunDetails, None]:
    """What there is to be seen."""
    return views_of_run(store, run_id, Secrets(lambda: {"S": "hunter22"}), **options)


def statuses(run: RunDetails) -> dict[str, str]:
    """The blocks by path."""
    return {one.path: one.status for one in run.blocks}


async def test_a_run_is_seen_up_to_its_question_and_with_keep_up_to_its_end(store: Counting, probe: Probe) -> None:
    """Also what another executor does with it, in the order in which it happens."""
    assert probe is not None
    paused = await WorkflowExecutor(store).execute_workflow(ASKING, run_id="r")
    [seen] = [one async for one in views(store)]
    assert (seen.status, seen.prompt, statuses(seen)["a"]) == ("paused", "well?", "succeeded")
    kept = []
    async for one in views(store, keep=True):
        kept.append(one)
        if one.status == "paused":
            await WorkflowExecutor(store).resume_workflow(str(paused.checkpoint_id), "yes")
    assert [one.status for one in kept] == ["paused", "success"]
    assert set(statuses(kept[-1]).values()) == {"succeeded"}


async def test_to_look_at_a_run_in_which_nothing_happens_loads_nothing(store: Counting) -> None:
    """But for the first time; a lease that is renewed is seen without its state."""
    await store.save_checkpoint(make_state("c", run_id="r"), owner="me", lease_seconds=60)
    async with aclosing(views(store)) as found:
        first = await anext(found)
        waiting = asyncio.ensure_future(anext(found))
        await store.see_looks(2)
        assert not waiting.done()
        await store.renew_lease("c", "me", 120)
        second = await waiting
    assert store.loads == 1
    assert second.lease_seconds_left > first.lease_seconds_left + 30


async def test_a_run_whose_process_lets_go_of_it_is_seen_as_abandoned(store: Counting) -> None:
    """Without any new checkpoint, by its lease alone."""
    await store.save_checkpoint(make_state("c", run_id="r"), owner="me", lease_seconds=600)
    async with aclosing(views(store)) as found:
        assert not (await anext(found)).is_abandoned
        await store.release_claim("c", "me")
        assert (await anext(found)).is_abandoned


async def test_a_run_whose_process_is_gone_is_seen_as_abandoned_by_time_alone(store: Counting) -> None:
    """Nothing of what is stored changes."""
    await store.save_checkpoint(make_state("c", run_id="r"), owner="me", lease_seconds=0.2)
    async with asyncio.timeout(10), aclosing(views(store)) as found:
        assert [(await anext(found)).is_abandoned for _ in range(2)] == [False, True]


async def test_a_database_that_is_away_for_a_moment_is_asked_again(store: Counting) -> None:
    """Whoever watches hears of it, each time, and that it is back; but at the first look it is an error."""
    store.failure = StoreUnavailableError("away")
    with pytest.raises(StoreUnavailableError):
        await anext(views(store))
    await store.save_checkpoint(make_state("c", run_id="r"), owner="me", lease_seconds=600)
    told: list[str] = []
    heard: dict[str, Any] = {
        "on_unavailable": lambda error: told.append(str(error)),
        "on_available": lambda: told.append("back"),
    }
    async with asyncio.timeout(20), aclosing(views(store, **heard)) as found:
        await anext(found)
        store.failure = StoreUnavailableError("away")
        waiting = asyncio.ensure_future(anext(found))
        while "back" not in told:
            await store.see_looks(1)
        store.failure = StoreUnavailableError("away again")
        await store.save_checkpoint(make_state("d", run_id="r", status="completed"), follows="c")
        assert (await waiting).status == "success"
    assert told == ["away", "back", "away again", "back"]


async def test_a_database_may_be_away_while_a_run_is_waited_for(store: Counting) -> None:
    """It has answered once, if only that there is no such run."""
    told: list[str] = []
    views_of_it = views(store, wait=True, on_unavailable=lambda error: told.append(str(error)))
    async with asyncio.timeout(20), aclosing(views_of_it) as found:
        first = asyncio.ensure_future(anext(found))
        await store.see_looks(1)
        store.failure = StoreUnavailableError("away")
        await store.see_looks(2)
        await store.save_checkpoint(make_state("c", run_id="r"))
        assert (await first).run_id == "r"
    assert told == ["away"]


async def test_a_damaged_checkpoint_is_seen_without_its_state(store: Counting) -> None:
    """With the reason, and without the secret in its question."""
    paused = make_state("c", run_id="r", paused_block_id="b", pause_prompt="is it hunter22?")
    await store.save_checkpoint(paused)
    store.failure = CheckpointDecodeError("it is damaged")
    [seen] = [one async for one in views(store)]
    assert (seen.status, seen.prompt, seen.flaw, seen.blocks) == ("paused", "is it ***?", "it is damaged", ())


async def test_a_run_that_is_not_there_is_an_error_or_waited_for(store: Counting) -> None:
    """And one that is deleted while it is watched is told apart."""
    with pytest.raises(CheckpointNotFoundError, match="'r' is not there"):
        await anext(views(store))
    async with aclosing(views(store, wait=True)) as found:
        first = asyncio.ensure_future(anext(found))
        await store.see_looks(3)
        await store.save_checkpoint(make_state("c", run_id="r"))
        assert (await first).run_id == "r"
        await store.delete_checkpoint("c")
        with pytest.raises(CheckpointNotFoundError, match="'r' is gone"):
            await anext(found)
