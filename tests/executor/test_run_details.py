"""What is known of a run, for whoever looks at it."""

import asyncio
import dataclasses
import threading
from typing import Any

import pytest

from tests.engine.probe import Probe, block, text
from workflows_mcp import (
    CheckpointMetadata,
    CheckpointNotFoundError,
    CheckpointState,
    CheckpointStatus,
    CheckpointStore,
    InMemoryCheckpointStore,
    WorkflowExecutor,
)
from workflows_mcp.engine.block_details import without_secrets
from workflows_mcp.engine.progress import Progress
from workflows_mcp.engine.run_details import BlockDetails, RunDetails, details_at, run_details
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.testing.values import nested

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
    assert run.blocks[1] == BlockDetails(
        "n",
        "running",
        1,
        started_at=run.blocks[1].started_at,
        items={"running": 1},
        block_id="n",
        type="Workflow",
        needs=("a",),
        workflow="inner",
    )
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


async def test_of_many_items_those_are_told_that_are_not_done(probe: Probe) -> None:
    """Of few all; how many there are of each kind is told of any number."""
    executor = WorkflowExecutor(InMemoryCheckpointStore())
    for count, shown in ((20, 20), (21, 0)):
        many = {**block("n"), "for_each": {f"k{number}": number for number in range(count)}}
        await executor.execute_workflow(text(many), run_id=f"r{count}")
        [whole, *items] = (await executor.get_run(f"r{count}")).blocks
        assert (whole.items, len(items)) == ({"succeeded": count}, shown)
    assert len(probe.started) == 41


def test_no_name_of_a_block_shows_a_secret() -> None:
    """Whichever of them holds it; what a block waits for, or is within, need not be there."""
    secret = "hunter2"
    names: dict[str, Any] = {"block_id": secret, "key": secret, "type": secret, "workflow": secret, "message": secret}
    block = BlockDetails(f"a/{secret}", "failed", 0, needs=(f"b/{secret}",), parent=f"c/{secret}", **names)
    scrub = Secrets(lambda: {"PASSWORD": secret}).scrub_now
    [clean] = without_secrets([block], scrub)
    masked: dict[str, Any] = dict.fromkeys(names, "***")
    assert clean == BlockDetails("a/***", "failed", 0, needs=("b/***",), parent="c/***", **masked)


async def test_what_cannot_be_described_is_said(probe: Probe) -> None:
    """Of a run of another program no more is known than what its waves tell; one that is not there is an error."""
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
    assert (statuses(run), run.outputs, run.started_at) == ({"a": "done"}, {}, None)
    assert "was not saved by this executor" in (run.flaw or "")
    assert (run.is_abandoned, run.is_held) == (False, False), "nobody ever held it"
    with pytest.raises(CheckpointNotFoundError, match="there is no run 'nope'"):
        await executor.get_run("nope")


async def test_blocks_tell_how_they_hang_together(probe: Probe) -> None:
    """What each waits for, by paths that lead to others; what each is within; and whose time it takes."""
    store = InMemoryCheckpointStore()
    executor = WorkflowExecutor(store)
    executor.load_workflow(INNER)
    probe.hold("y", started=3)
    await executor.start_workflow(FLOW, run_id="r")
    await probe.all_started.wait()
    by_path = {one.path: one for one in (await executor.get_run("r")).blocks}
    shape = {path: (one.block_id, one.key, one.parent, one.needs) for path, one in by_path.items()}
    assert shape == {
        "a": ("a", None, None, ()),
        "n": ("n", None, None, ("a",)),
        "n[eu]": ("n", "eu", "n", ()),
        "n[eu]/x": ("x", None, "n[eu]", ()),
        "n[eu]/y": ("y", None, "n[eu]", ("n[eu]/x",)),
        "ask": ("ask", None, None, ("n",)),
    }
    assert [by_path[path].type for path in ("a", "n[eu]", "ask")] == ["Probe", "Workflow", "Prompt"]
    assert by_path["n[eu]"].workflow == "inner"
    probe.release()
    paused = await executor.wait_for_run("r", 60)
    await executor.resume_workflow(paused.checkpoint_id or "", "y")
    run = await executor.get_run("r")
    assert {one.path: one.asks for one in run.blocks} == {"a": False, "n": False, "n[eu]": False, "ask": True}
    assert all(one.completed_at == (one.started_at or 0) + (one.seconds or 0) for one in run.blocks)


async def test_a_block_in_whose_place_somebody_was_asked_is_told_from_work(probe: Probe) -> None:
    """Also when the workflow is gone that asked."""
    executor = WorkflowExecutor(InMemoryCheckpointStore())
    executor.load_workflow(text(block("q", ask="go on?"), name="asking"))
    nested = {"id": "n", "type": "Workflow", "inputs": {"workflow": "asking"}}
    result = await executor.execute_workflow(text(block("a"), nested), run_id="r")
    assert {one.path: one.asks for one in (await executor.get_run("r")).blocks} == {"a": False, "n": False, "n/q": True}
    await executor.resume_workflow(result.checkpoint_id or "", "yes")
    assert {one.path: one.asks for one in (await executor.get_run("r")).blocks} == {"a": False, "n": True}
    assert sorted(probe.started) == ["a", "q"]


async def test_what_was_under_way_at_an_earlier_checkpoint_was_not_interrupted(probe: Probe) -> None:
    """Nobody holds that checkpoint any more, since the run went on."""
    store = InMemoryCheckpointStore()
    executor = WorkflowExecutor(store)
    executor.load_workflow(INNER)
    nested = {"id": "n", "type": "Workflow", "inputs": {"workflow": "inner"}}
    assert (await executor.execute_workflow(text(nested), run_id="r")).is_success
    assert probe.started == ["x", "y"]
    then = [await executor.get_run_at(one.checkpoint_id) for one in await store.list_checkpoints(run_id="r")]
    assert {"n": "running", "n/x": "succeeded", "n/y": "not begun"} in map(statuses, then)


async def test_an_earlier_checkpoint_tells_what_the_run_was_then(store: CheckpointStore, probe: Probe) -> None:
    """Nobody holds a checkpoint that is history: that its run was abandoned then, or may have begun more, is not so."""
    executor = WorkflowExecutor(store)
    result = await executor.execute_workflow(text(block("a"), block("b", "a"), block("c", ask="go on?")), run_id="r")
    await executor.resume_workflow(result.checkpoint_id or "", "yes")
    assert probe.started == ["a", "c", "b"]
    then = [await executor.get_run_at(one.checkpoint_id) for one in await store.list_checkpoints(run_id="r")]
    told = [(run.status, run.superseded, run.is_abandoned, statuses(run)) for run in reversed(then)]
    all_over = {"a": "succeeded", "c": "succeeded"}
    assert told[0] == ("running", True, False, {"a": "not begun", "c": "not begun", "b": "not begun"})
    assert told[1] == ("paused", True, False, {"a": "succeeded", "c": "paused", "b": "not begun"})
    assert ("running", True, False, {**all_over, "b": "not begun"}) in told
    assert told[-1] == ("success", False, False, {**all_over, "b": "succeeded"})
    assert (then[-2].prompt, then[0].prompt) == ("go on?", None)
    with pytest.raises(CheckpointNotFoundError, match="there is no checkpoint 'nope'"):
        await executor.get_run_at("nope")


FOREIGN = CheckpointState(
    checkpoint_id="x",
    workflow_name="elsewhere",
    created_at=1.0,
    runtime_inputs={},
    context={},
    completed_blocks=["a"],
    current_wave_index=1,
    execution_waves=[["a"], ["b", "c"], ["d"]],
    block_definitions={
        "b": {"type": "Shell", "depends_on": ["a", "nowhere", 7]},
        "c": {"type": 1, "depends_on": [{"block": "a", "required": False}, {"block": []}]},
        "d": {"depends_on": "b"},
    },
    workflow_stack=[],
)


async def test_the_checkpoint_of_another_program_is_told_by_its_waves() -> None:
    """Also one that belongs to no run, and whose waiting block is known by its id alone."""
    store = InMemoryCheckpointStore()
    await store.save_checkpoint(FOREIGN)
    run = await details_at(store, "x", Secrets())
    assert run.run_id == ""
    assert statuses(run) == {"a": "done", "b": "may have begun", "c": "may have begun", "d": "not begun"}
    assert [(one.type, one.needs) for one in run.blocks] == [
        (None, ()),
        ("Shell", ("a",)),
        (None, ("a",)),
        (None, ("b",)),
    ]
    await store.save_checkpoint(dataclasses.replace(FOREIGN, paused_block_id="b"))
    assert statuses(await details_at(store, "x", Secrets()))["b"] == "paused"


@pytest.mark.parametrize(
    "odd",
    [
        {"execution_waves": 7},
        {"execution_waves": [7, ["a", 8, "a"]], "completed_blocks": {"a": 1}, "block_definitions": []},
        {"context": [1], "block_definitions": {"b": None, "c": 3}, "pause_metadata": "x"},
        {"context": {"blocks": {"a": {"status": [], "wave": 0}}, "started_at": "now", "error": {"a": 1}}},
        {"current_wave_index": "one", "workflow_stack": None},
        {"context": {"error": nested(100_000), "outputs": {"deep": nested(100_000)}}},
    ],
)
async def test_what_no_executor_has_saved_is_told_as_far_as_it_goes(odd: dict[str, Any]) -> None:
    """A table of another origin may hold anything, which is no reason to show nothing of a run."""
    state = dataclasses.replace(FOREIGN, run_id="r", **odd)
    listed = CheckpointMetadata("x", "elsewhere", 1.0, is_paused=False, run_id="r")
    run = await run_details(listed, state, Secrets())
    assert run.flaw is not None
    assert run.error in {None, "{'a': 1}", "(nested too deeply to be shown)"}
    paths = [one.path for one in run.blocks]
    assert set(paths) <= {"a", "b", "c", "d"}
    assert len(paths) == len(set(paths)), "a block is told once, however often it is listed"


@pytest.mark.parametrize(
    ("odd", "status"),
    [
        ({"started_at": "soon"}, "succeeded"),
        ({"started_at": True}, "succeeded"),
        ({"completed_at": 10**400}, "succeeded"),
        ({"wave": None}, "succeeded"),
        ({"status": {}}, "done"),
        ({"status": "<b>"}, "done"),
        ({"message": ["x"]}, "done"),
        ({"attempts": "many"}, "done"),
        ({"items": {"k": {}}}, "done"),
    ],
)
async def test_records_that_were_tampered_with_are_told_as_far_as_they_go(
    odd: dict[str, Any], status: str, probe: Probe
) -> None:
    """Times that are none are left out; where nothing in a record can be relied on, the waves tell what they know."""
    store = InMemoryCheckpointStore()
    executor = WorkflowExecutor(store)
    result = await executor.execute_workflow(text(block("a")), run_id="r")
    assert probe.started == ["a"]
    state = await store.load_checkpoint(result.checkpoint_id or "")
    assert state is not None
    record = {**state.context["blocks"]["a"], **odd}
    head = (await store.list_checkpoints(run_id="r"))[0]
    changed = dataclasses.replace(state, context={**state.context, "blocks": {"a": record}})
    run = await run_details(head, changed, Secrets())
    assert statuses(run) == {"a": status}
    assert (run.flaw is None) == (status == "succeeded")
    assert run.blocks[0].wave == 0
    assert (run.blocks[0].seconds is None) == (odd.keys() != {"wave"})


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
