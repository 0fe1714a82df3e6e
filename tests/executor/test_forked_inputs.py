"""A fork with other inputs walks around no question: whoever answers has seen what will be done."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.probe import Probe, block, text
from tests.executor.test_owners import paused_at
from workflows_mcp import CheckpointConfig, CheckpointStore, WorkflowExecutor, WorkflowResult
from workflows_mcp.settings import Settings
from workflows_mcp.wiring import open_library

INPUTS = {"what": {"default": "old"}}
REFUSED = "holds an answer to a question of block '{}', which was given under other inputs"

ASK = text(
    block("ask", ask="Delete {{ inputs.what }}?"),
    block("delete", "ask", give="{{ inputs.what }}"),
    inputs=INPUTS,
    outputs={"deleted": "{{ blocks.delete.outputs.value }}"},
)

GATE = text(block("before"), block("ask", "before", ask="Delete {{ inputs.of }}?"), name="gate", inputs={"of": {}})


def calls(each: object = None, **more: Any) -> str:
    """A workflow whose question is asked by a nested one, for each of several items if need be."""
    one = "{{ inputs.what }}" if each is None else "{{ each.value }}"
    gate = {"id": "gate", "type": "Workflow", "inputs": {"workflow": "gate", "inputs": {"of": one}}, **more}
    if each is not None:
        gate["for_each"] = each
    inputs = {**INPUTS, "bad": {"type": "bool", "default": False}}
    fail = "{{ 'no' if inputs.bad else none }}"
    return text(gate, block("delete", "gate", give="{{ inputs.what }}", fail=fail), inputs=inputs)


def checkpoint_of(result: WorkflowResult) -> str:
    """Where it stands."""
    assert result.checkpoint_id is not None
    return result.checkpoint_id


async def test_a_question_that_waits_is_asked_anew(store: CheckpointStore, probe: Probe) -> None:
    """With the new inputs; with the same ones again it stays the one that it was."""
    executor = WorkflowExecutor(store)
    paused = paused_at(await executor.execute_workflow(ASK))
    same = await executor.fork(paused, {"what": "old"})
    assert (same.prompt, probe.started) == ("Delete old?", ["ask"])
    fork = await executor.fork(paused, {"what": "new"})
    assert (fork.prompt, probe.started) == ("Delete new?", ["ask", "ask"])
    assert (await executor.resume_workflow(paused_at(fork), "yes")).outputs == {"deleted": "new"}
    cancelled = await executor.cancel((await executor.fork(paused)).run_id)
    assert (await executor.fork(checkpoint_of(cancelled), {"what": "new"})).prompt == "Delete new?"


async def test_an_answer_counts_for_the_inputs_under_which_it_was_given(store: CheckpointStore, probe: Probe) -> None:
    """Whatever the run has come to since, and also for a fork of a fork."""
    executor = WorkflowExecutor(store)
    paused = paused_at(await executor.execute_workflow(ASK, run_id="r"))
    await executor.resume_workflow(paused, "yes")
    answered = (await store.list_checkpoints(run_id="r", status="running"))[0].checkpoint_id
    saved = await store.list_checkpoints()
    for inputs in ({"what": "new"}, {"what": "OLD"}):
        with pytest.raises(ValueError, match=REFUSED.format("ask")):
            await executor.fork(answered, inputs)
    assert await store.list_checkpoints() == saved
    same = await executor.fork(answered, {"what": "old"}, run_id="same")
    assert same.outputs == {"deleted": "old"}
    again = (await store.list_checkpoints(run_id="same", status="running"))[0].checkpoint_id
    with pytest.raises(ValueError, match=REFUSED.format("ask")):
        await executor.start_fork(again, {"what": "new"})
    assert probe.started == ["ask", "delete"]


async def test_inputs_that_only_python_takes_for_the_same_are_others(store: CheckpointStore, probe: Probe) -> None:
    """A question shows 1 and true as what they are."""
    executor = WorkflowExecutor(store)
    workflow = text(block("ask", ask="{{ inputs.what }}?"), inputs={"what": {"type": "list"}})
    paused = paused_at(await executor.execute_workflow(workflow, {"what": [1]}))
    assert (await executor.fork(paused, {"what": [True]})).prompt != (await executor.fork(paused)).prompt
    assert probe.started == ["ask", "ask"]


async def test_a_nested_question_that_waits_is_asked_anew(store: CheckpointStore, probe: Probe) -> None:
    """By its workflow, which begins again: its own inputs were made of the old ones."""
    executor = WorkflowExecutor(store, CheckpointConfig(checkpoint_every="block"))
    executor.load_workflow(GATE)
    paused = paused_at(await executor.execute_workflow(calls(), run_id="r"))
    fork = await executor.fork(paused, {"what": "new"})
    assert (fork.prompt, probe.started) == ("Delete new?", ["before", "ask"] * 2)
    under_way = await store.list_checkpoints(run_id="r", status="running")
    for one in under_way:  # the nested workflow has not asked by then, and its inputs are the old ones
        assert (await executor.fork(one.checkpoint_id, {"what": "new"})).prompt == "Delete new?"
    assert len(under_way) > 1


async def test_an_answer_to_a_nested_question_counts_too(store: CheckpointStore, probe: Probe) -> None:
    """Though all that is kept of a nested workflow that is over are its outputs."""
    executor = WorkflowExecutor(store)
    executor.load_workflow(GATE)
    outer = paused_at(await executor.execute_workflow(calls(), run_id="r"))
    await executor.resume_workflow(outer, "yes")
    [asked] = await store.list_checkpoints(run_id="r", status="paused")
    saved = await store.list_checkpoints(run_id="r", status="running")
    answered = [one for one in saved if one.created_at > asked.created_at]
    assert len(answered) > 1
    for one in answered:
        with pytest.raises(ValueError, match=REFUSED.format("gate")):
            await executor.fork(one.checkpoint_id, {"what": "new"})
    assert probe.started == ["before", "ask", "delete"]


async def test_questions_of_items_are_asked_anew_until_one_is_answered(store: CheckpointStore, probe: Probe) -> None:
    """An item that is over without a question stays done."""
    executor = WorkflowExecutor(store)
    asks = {
        **block("ask", ask="{{ each.value ~ ' ' ~ inputs.what ~ '?' if each.value == 'asks' else none }}", give=1),
        "for_each": ["silent", "asks"],
    }
    paused = paused_at(await executor.execute_workflow(text(asks, inputs=INPUTS)))
    assert (await executor.fork(paused, {"what": "new"})).prompt == "asks new?"
    assert probe.started == ["ask"] * 3

    executor.load_workflow(GATE)
    first = paused_at(await executor.execute_workflow(calls("{{ [inputs.what, 'other'] }}")))
    assert (await executor.fork(first, {"what": "new"})).prompt == "Delete new?"
    second = paused_at(await executor.resume_workflow(first, "yes"))
    with pytest.raises(ValueError, match=REFUSED.format("gate")):
        await executor.fork(second, {"what": "new"})
    assert (await executor.fork(second)).prompt == "Delete other?"


async def test_a_failed_run_is_tried_again_with_other_inputs_unless_it_holds_an_answer(
    store: CheckpointStore, probe: Probe
) -> None:
    """What had failed is done whole, so a question in it is asked again; an answer that is kept does not count."""
    executor = WorkflowExecutor(store)
    executor.load_workflow(GATE)
    paused = await executor.execute_workflow(calls(), {"bad": True})
    failed = await executor.resume_workflow(paused_at(paused), "yes")
    assert failed.status == "failure"
    with pytest.raises(ValueError, match=REFUSED.format("gate")):
        await executor.fork(checkpoint_of(failed), {"bad": False})

    broken = text(block("ask", ask="{{ inputs.of }}?"), block("x", "ask", fail="no"), name="gate", inputs={"of": {}})
    executor.load_workflow(broken)
    paused = await executor.execute_workflow(calls())
    failed = await executor.resume_workflow(paused_at(paused), "yes")
    assert failed.status == "failure"
    assert (await executor.fork(checkpoint_of(failed), {"what": "new"})).prompt == "new?"
    assert probe.started == ["before", "ask", "delete", "ask", "x", "ask"]


async def test_an_answer_within_a_failure_that_the_run_goes_on_after_counts(
    store: CheckpointStore, probe: Probe
) -> None:
    """The nested workflow is gone with its records, and will not run again."""
    executor = WorkflowExecutor(store)
    executor.load_workflow(
        text(block("ask", ask="{{ inputs.of }}?"), block("x", "ask", fail="no"), name="gate", inputs={"of": {}})
    )
    flow = json.loads(calls(continue_on_error=True))
    flow["blocks"][1]["depends_on"] = [{"block": "gate", "required": False}]
    paused = await executor.execute_workflow(json.dumps(flow) + "\n", run_id="r")
    assert (await executor.resume_workflow(paused_at(paused), "yes")).is_success
    newest = (await store.list_checkpoints(run_id="r", status="running"))[0].checkpoint_id
    with pytest.raises(ValueError, match=REFUSED.format("gate")):
        await executor.fork(newest, {"what": "new"})
    assert probe.started == ["ask", "x", "delete"]


@pytest.mark.parametrize("database", ["memory"])
async def test_a_guarded_command_runs_what_was_shown(store: CheckpointStore, tmp_path: Path) -> None:
    """Before the answer, the fork shows its own command; after it, there is no other one."""
    executor = WorkflowExecutor(store, library=open_library(Settings()))
    mark = tmp_path / "mark"
    paused = paused_at(await executor.execute_workflow("guarded-command", {"command": "echo safe"}, run_id="g"))
    other = await executor.fork(paused, {"command": f"touch {mark}"})
    assert other.prompt == f'Do you approve this? Run this command: "touch {mark}"'
    assert (await executor.resume_workflow(paused, "approve")).outputs["stdout"] == "safe\n"
    refused = 0
    for one in await store.list_checkpoints(run_id="g", status="running"):
        try:
            fork = await executor.fork(one.checkpoint_id, {"command": f"touch {mark}"})
        except ValueError:
            refused += 1
        else:
            assert fork.prompt == other.prompt
    assert refused
    assert not mark.exists()
