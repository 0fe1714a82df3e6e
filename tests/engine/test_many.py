"""Many items and many nested workflows: neither memory nor the patience of others is used up."""

import asyncio

import pytest

from tests.engine.probe import Probe
from workflows_mcp.engine import endings, runner
from workflows_mcp.engine.checkpoint import CheckpointConfig
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.events import BlockFinished, BlockStarted, Event
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.engine.nested import MAX_NESTING

BEGUN = 400
"""So many blocks are seen to begin; far more than may be under way at the same time."""


@pytest.mark.parametrize("mode", ["parallel", "sequential"])
async def test_items_that_hold_too_much_together_end_the_run_when_they_do(
    mode: str, probe: Probe, store: InMemoryCheckpointStore
) -> None:
    """Not when the last one is over: ten thousand of them may hold far more than there is memory."""
    executor = WorkflowExecutor(store, CheckpointConfig(max_checkpoint_size_mb=0.5))
    result = await executor.execute_workflow(f"""
name: heavy
blocks:
  - id: a
    type: Probe
    for_each: "{{{{ range(1000) }}}}"
    for_each_mode: {mode}
    inputs: {{give: "{{{{ 'x' * 9999 }}}}"}}
""")
    assert result.status == "failure"
    assert "the items of block 'a' hold more than 524,288 bytes together" in (result.error or "")
    assert len(probe.started) < 200
    assert result.checkpoint_id is not None


async def test_items_that_wait_for_nothing_do_not_hold_up_everything_else(probe: Probe) -> None:
    """Leases are renewed meanwhile, and other runs go on."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await WorkflowExecutor().execute_workflow("""
name: busy
blocks:
  - {id: a, type: Probe, for_each: "{{ range(300) }}", for_each_mode: sequential}
""")
    counting.cancel()
    assert len(probe.started) == 300
    assert turns >= 300


@pytest.mark.parametrize(
    "blocks",
    [
        "  - {id: a, type: Workflow, for_each: [1, 2, 3], inputs: {workflow: endless}}\n",
        "".join(f"  - {{id: b{n}, type: Workflow, inputs: {{workflow: endless}}}}\n" for n in range(3)),
    ],
)
async def test_a_recursion_that_branches_grows_in_depth_and_not_in_breadth(
    blocks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three ways to the power of sixteen levels: it takes for ever, but no more memory; and it can be cancelled."""
    monkeypatch.setattr(runner, "MAX_BLOCKS_AT_ONCE", 4)
    begun = open_now = most = 0
    enough = asyncio.Event()

    async def watch(event: Event) -> None:
        nonlocal begun, open_now, most
        begun += isinstance(event, BlockStarted)
        open_now += isinstance(event, BlockStarted) - isinstance(event, BlockFinished)
        most = max(most, open_now)
        if begun > BEGUN:
            enough.set()

    executor = WorkflowExecutor(on_event=watch)
    running = asyncio.create_task(executor.execute_workflow(f"name: endless\nblocks:\n{blocks}", run_id="r"))
    await enough.wait()
    assert (await executor.cancel("r")).status == "cancelled"
    assert (await running).status == "cancelled"
    assert most <= 2 * 4 * (MAX_NESTING + 1)


async def test_the_reason_of_a_failure_stays_short(
    store: InMemoryCheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many levels tell it on, each of several: they would double at each level."""
    monkeypatch.setattr(endings, "_MAX_MESSAGE", 1000)
    branch = (
        "{type: Workflow, condition: '{{ inputs.n > 0 }}', inputs: {workflow: w, inputs: {n: '{{ inputs.n - 1 }}'}}"
    )
    result = await WorkflowExecutor(store).execute_workflow(f"""
name: w
inputs: {{n: {{type: num, default: 5}}}}
blocks:
  - {branch}, id: a}}
  - {branch}, id: b}}
  - {{id: bad, type: Shell, condition: "{{{{ inputs.n == 0 }}}}", inputs: {{command: "{{{{ 1 // 0 }}}}"}}}}
""")
    assert result.error is not None
    assert len(result.error) < 2 * 1100
    assert result.error.endswith("in {{ 1 // 0 }}")
