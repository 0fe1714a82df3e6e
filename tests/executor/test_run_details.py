"""What is known of a run, for whoever looks at it."""

import asyncio
import dataclasses
import threading
from typing import Any

import pytest

from tests.engine.probe import Probe, block, text
from workflows_mcp import (
    CheckpointNotFoundError,
    CheckpointStatus,
    CheckpointStore,
    InMemoryCheckpointStore,
    WorkflowExecutor,
)
from workflows_mcp.engine.progress import Progress
from workflows_mcp.engine.run_details import BlockDetails, RunDetails
from workflows_mcp.engine.secrets import Secrets

INNER = text(block("x"), block("y", "x"), name="inner")
FLOW = text(
    block("a", give="hunter2"),
    {"id": "n", "type": "Workflow", "for_each": {"eu": 1}, "depends_on": ["a"], "inputs": {"workflow": "inner"}},
    {"id": "ask", "type": "Prompt", "depends_on": ["n"], "inputs": {"prompt": "is it hunter2?", "choices": ["y", "n"]}},
    outputs={"o": "{{ blocks.a.outputs.value }}"},
)


def statuses(run: RunDetails) -> dict[str, str]:
    """The blocks' statuses by their paths."""
    return {one.path: one.status for one in run.blocks}


async def test_a_run_is_described_on_its_way_and_at_its_end(store: CheckpointStore, probe: Probe) -> None:
    """By whoever works on it, as it is now; by others, as its newest checkpoint has it."""
    executor, other = WorkflowExecutor(store), WorkflowExecutor(store)
    executor.load_workflow(INNER)
    probe.hold("y", started=3)
    await executor.start_workflow(FLOW, run_id="r")
    await probe.all_started.wait()
    run = await executor.get_run("r")
    assert (run.status, run.workflow_name, run.wave, run.waves) == ("running", "flow", 1, 3)
    assert run.lease_seconds_left > 0
    assert not run.is_abandoned
    begun = {"a": "succeeded", "n": "running", "n[eu]": "running", "n[eu]/x": "succeeded"}
    assert statuses(run) == {**begun, "n[eu]/y": "running", "ask": "not begun"}
    assert run.blocks[1] == BlockDetails("n", "running", 1, started_at=run.blocks[1].started_at, items={"running": 1})
    assert statuses(await other.get_run("r")) == {**begun, "n[eu]/y": "may have begun", "ask": "not begun"}
    probe.release()
    paused = await executor.wait_for_run("r", 60)
    for run in (await executor.get_run("r"), await other.get_run("r")):
        assert (run.status, run.checkpoint_id, run.prompt) == ("paused", paused.checkpoint_id, "is it hunter2?")
        assert run.pause_metadata == {"choices": ["y", "n"], "pending": []}
        assert run.started_at is not None
        assert run.started_at <= run.updated_at
    assert (await other.resume_workflow(run.checkpoint_id, "y")).is_success
    run = await executor.get_run("r")
    assert (run.status, run.outputs, run.error, run.prompt) == ("success", {"o": "hunter2"}, None, None)


async def test_a_description_shows_no_secret(probe: Probe) -> None:
    """Also none that is one only now."""
    store = InMemoryCheckpointStore()
    executor = WorkflowExecutor(store)
    await executor.execute_workflow(text(block("a", ask="is it hunter2?")), run_id="asks")
    await executor.execute_workflow(text(block("a", fail="hunter2 is wrong")), run_id="failed")
    await executor.execute_workflow(
        text(block("a"), outputs={"o": {"value": "{{ inputs.i }}"}}, inputs={"i": {"type": "str"}}),
        {"i": "hunter2"},
        run_id="over",
    )
    knowing = WorkflowExecutor(store, secrets=Secrets(lambda: {"PASSWORD": "hunter2", "UNFIT": "x"}))
    shown = [await knowing.get_run(run_id) for run_id in ("asks", "failed", "over")]
    assert "hunter2" not in repr(shown)
    assert [shown[0].prompt, shown[1].error, shown[1].blocks[0].message, shown[2].outputs] == [
        "is it ***?",
        "block 'a' failed: *** is wrong",
        "*** is wrong",
        {"o": "***"},
    ]
    assert probe.started == ["a"] * 3


async def test_what_cannot_be_described_is_said(probe: Probe) -> None:
    """A run of another program has no blocks that we know; one that is not there is an error."""
    assert probe.started == []
    store = InMemoryCheckpointStore()
    executor = WorkflowExecutor(store)
    result = await executor.execute_workflow(text(block("a")), run_id="r")
    state = await store.load_checkpoint(result.checkpoint_id or "")
    assert state is not None
    foreign = dataclasses.replace(
        state, checkpoint_id="x", run_id="foreign", context={"outputs": 1}, status=CheckpointStatus.RUNNING
    )
    await store.save_checkpoint(foreign)
    run = await executor.get_run("foreign")
    assert (run.blocks, run.outputs, run.started_at) == ((), {}, None)
    assert "was not saved by this executor" in (run.flaw or "")
    assert run.is_abandoned
    with pytest.raises(CheckpointNotFoundError, match="there is no run 'nope'"):
        await executor.get_run("nope")


async def test_a_large_run_is_read_beside_everything_else(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its expressions are compiled for that, unless this executor works on it and has them."""
    store, threads = InMemoryCheckpointStore(), []
    read = Progress.from_state

    def noted(*args: Any) -> Progress:
        threads.append(threading.current_thread() is threading.main_thread())
        return read(*args)

    executor = WorkflowExecutor(store)
    probe.hold("a", started=1)
    running = asyncio.create_task(executor.execute_workflow(text(block("a"), block("b", "a")), run_id="r"))
    await probe.all_started.wait()
    monkeypatch.setattr(Progress, "from_state", noted)
    assert statuses(await executor.get_run("r")) == {"a": "running", "b": "not begun"}
    assert threads == []
    assert statuses(await WorkflowExecutor(store).get_run("r")) == {"a": "may have begun", "b": "not begun"}
    assert threads == [False]
    probe.release()
    assert (await running).is_success
