"""States that are too large to be saved."""

import asyncio
from typing import Any

import pytest

from tests.engine.probe import Probe, block, text
from workflows_mcp.engine.calling import MAX_BLOCKS_AT_ONCE
from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointState
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor

KIB = 1 / 1024


class WatchingStore(InMemoryCheckpointStore):
    """Remembers the limits that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int | None] = []

    async def save_checkpoint(self, state: CheckpointState, **options: Any) -> str:
        """See `CheckpointStore.save_checkpoint`."""
        self.limits.append(options["max_bytes"])
        return await super().save_checkpoint(state, **options)


async def run(limit_kib: float, workflow: str, **inputs: Any) -> tuple[Any, CheckpointState | None, WatchingStore]:
    """A run's result and its newest checkpoint, under a limit."""
    store = WatchingStore()
    executor = WorkflowExecutor(store, CheckpointConfig(max_checkpoint_size_mb=limit_kib * KIB))
    result = await executor.execute_workflow(workflow, inputs, run_id="r")
    newest = await store.list_checkpoints(run_id="r", limit=1)
    state = await store.load_checkpoint(newest[0].checkpoint_id) if newest else None
    assert result.checkpoint_id == (state.checkpoint_id if state else None)
    assert set(store.limits) == {int(limit_kib * 1024)}
    if state is not None:
        assert await executor.recover("r") == result
    return result, state, store


async def test_outputs_that_are_too_large_fail_the_run_and_what_was_before_is_kept(probe: Probe) -> None:
    """The last checkpoint fits, says why, and holds the earlier waves whole."""
    workflow = text(block("a", give="kept"), block("b", "a", give="{{ 'x' * 9000 }}"), block("c", "b"))
    result, state, _ = await run(8, workflow)
    assert result.status == "failure"
    assert "the state of the run cannot be saved" in result.error
    assert "and the limit is 8,192" in result.error
    assert state is not None
    assert state.status == "failed"
    assert state.context["error"] == result.error
    assert state.context["blocks"]["a"]["outputs"] == {"value": "kept"}
    assert state.context["blocks"]["b"]["status"] == "succeeded"
    assert "outputs" not in state.context["blocks"]["b"]
    assert probe.started == ["a", "b"]


async def test_outputs_that_are_too_large_together_fail_the_run(probe: Probe) -> None:
    """The wave that does not fit may be small."""
    assert probe is not None
    blocks = [block("b0", give="{{ 'x' * 1000 }}")]
    blocks += [block(f"b{n}", f"b{n - 1}", give="{{ 'x' * 1000 }}") for n in range(1, 9)]
    result, state, _ = await run(12, text(*blocks))
    assert result.status == "failure"
    assert state is not None
    assert state.status == "failed"


async def test_inputs_that_are_too_large_fail_the_run_at_its_beginning(probe: Probe) -> None:
    """Not even the definition may fit beside them."""
    workflow = text(block("a"), inputs={"i": {"type": "str"}})
    result, state, _ = await run(4, workflow, i="x" * 9000)
    assert result.status == "failure"
    assert state is not None
    assert state.runtime_inputs == {}
    assert state.status == "failed"
    assert probe.started == []


async def test_workflow_outputs_that_are_too_large_fail_the_run(probe: Probe) -> None:
    """Its blocks' outputs stay."""
    assert probe is not None
    result, state, _ = await run(4, text(block("a", give=1), outputs={"o": "{{ 'x' * 9000 }}"}))
    assert result.status == "failure"
    assert result.outputs == {}
    assert state is not None
    assert state.context["blocks"]["a"]["outputs"] == {"value": 1}


async def test_a_pause_that_is_too_large_fails_the_run(probe: Probe) -> None:
    """Nobody is asked what cannot be continued."""
    assert probe is not None
    result, state, _ = await run(4, text(block("a", ask="{{ 'x' * 9000 }}")))
    assert result.status == "failure"
    assert result.prompt is None
    assert state is not None
    assert not state.is_paused


async def test_a_failed_block_is_named_though_the_state_is_too_large(probe: Probe) -> None:
    """What went wrong first is told first."""
    assert probe is not None
    result, _, _ = await run(4, text(block("a", fail="no luck", give="{{ 'x' * 9000 }}")))
    assert result.error.startswith("block 'a' failed: no luck; the state of the run cannot be saved")


async def test_a_limit_below_everything_gives_a_failure_and_no_checkpoint(probe: Probe) -> None:
    """The limit holds for the last one too."""
    result, state, _ = await run(0.1, text(block("a")))
    assert result.status == "failure"
    assert result.checkpoint_id is None
    assert state is None
    assert probe.started == []


async def test_a_store_that_refuses_a_value_fails_the_run(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the path that it names; the last checkpoint is without the block's data."""
    monkeypatch.setattr("workflows_mcp.engine.calling.why_not_json", lambda *_, **__: None)
    probe.odd_outputs["a"] = {"deep": (1, 2)}
    store = InMemoryCheckpointStore()
    result = await WorkflowExecutor(store).execute_workflow(text(block("a")), run_id="r")
    assert result.error is not None
    assert "context.blocks.a.outputs.value.deep: tuple is not JSON" in result.error
    assert await WorkflowExecutor(store).recover("r") == result


async def test_a_wide_wave_runs_a_bounded_number_of_blocks_at_once(executor: WorkflowExecutor, probe: Probe) -> None:
    """The others wait for their turn, and all of them run."""
    running = peak = 0

    async def watch(*_: object) -> dict[str, Any]:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        if running == MAX_BLOCKS_AT_ONCE:
            probe.all_started.set()
        await asyncio.sleep(0)  # whoever else may start does so now
        await probe.all_started.wait()
        running -= 1
        return {}

    workflow = text(*(block(f"b{n}") for n in range(200)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "run", watch)
        assert (await executor.execute_workflow(workflow)).is_success
    assert peak == MAX_BLOCKS_AT_ONCE
