"""Wherever a process dies, the run comes to the same."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest

from tests.workflows.block_types import block_types
from tests.workflows.corpus import Case, cases_of, path_of
from workflows_mcp.engine.blocks import BLOCK_TYPES
from workflows_mcp.engine.checkpoint import CheckpointConfig
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.errors import CheckpointStoreError

Every = Literal["wave", "block"]


class DyingStore(InMemoryCheckpointStore):
    """Takes some saves and then no more, as when the process had died, until it is revived."""

    def __init__(self, saves: int) -> None:
        super().__init__()
        self.left: float = saves
        self.has_died = False

    async def save_checkpoint(self, *args: Any, **options: Any) -> str:
        """See `CheckpointStore.save_checkpoint`."""
        self.left -= 1
        if self.left < 0:
            self.has_died = True
            raise CheckpointStoreError("the process has died")
        return await super().save_checkpoint(*args, **options)


@pytest.fixture(autouse=True)
def _known_block_types(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, block_type in block_types().items():
        monkeypatch.setitem(BLOCK_TYPES, name, block_type)


async def outlive(store: DyingStore, every: Every, step: Callable[[], Awaitable[WorkflowResult]]) -> WorkflowResult:
    """What a step comes to; when the process dies in it, another one recovers the run."""
    try:
        return await step()
    except CheckpointStoreError:
        store.left = float("inf")
        return await WorkflowExecutor(store, CheckpointConfig(checkpoint_every=every)).recover("r")


async def play(name: str, case: Case, store: DyingStore, every: Every) -> WorkflowResult:
    """Run a case to its end, with a crash on the way."""
    config = CheckpointConfig(checkpoint_every=every)
    executor = WorkflowExecutor(store, config)
    for used in case.uses:
        executor.load_workflow(path_of(used))
    result = await outlive(store, every, lambda: executor.execute_workflow(path_of(name), case.inputs, run_id="r"))
    for asked in case.answers:
        if asked.refused is not None:
            continue
        checkpoint_id, answer = result.checkpoint_id or "", asked.answer or ""
        for _ in range(2):  # an answer that was not saved is lost, and given again
            assert (result.status, result.prompt) == ("paused", asked.prompt), result.error
            result = await outlive(
                store,
                every,
                lambda: WorkflowExecutor(store, config).resume_workflow(checkpoint_id, answer),  # noqa: B023 - is called at once
            )
            if result.checkpoint_id != checkpoint_id:
                break
    return result


@pytest.mark.parametrize(
    ("name", "every"),
    [("nested", "wave"), ("nested", "block"), ("prompts_sequential", "wave"), ("prompts_in_a_wave", "block")],
)
async def test_a_crash_at_any_save_changes_nothing(name: str, every: Every) -> None:
    """Neither what is asked nor what comes out, in nested workflows and between items too."""
    case = cases_of(name)[0]
    saves, has_died = 1, True  # before the first save there is no run yet
    while has_died:
        store = DyingStore(saves)
        result = await play(name, case, store, every)
        assert (result.status, result.error) == (case.status, case.error), f"after {saves} saves"
        assert result.outputs == case.outputs, f"after {saves} saves"
        saves, has_died = saves + 1, store.has_died
