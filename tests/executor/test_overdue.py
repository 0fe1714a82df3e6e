"""Questions with a default answer, which whoever recovers takes when nobody has answered in time."""

import asyncio
import json

from tests.engine.probe import Probe, block, text
from tests.executor.test_owners import eventually, paused_at, until_recovered
from workflows_mcp import CheckpointStore, WorkflowExecutor, WorkflowResult


def asking(seconds: float, **prompt: object) -> str:
    """A workflow that asks `Go?`, and goes on with `no` after so many seconds."""
    inputs = {"prompt": "Go?", "timeout_seconds": seconds, "default": "no", "choices": ["yes", "no"]}
    ask = {"id": "ask", "type": "Prompt", "inputs": inputs, **prompt}
    return text(ask, block("after", "ask"), outputs={"said": "{{ blocks.ask.outputs.response }}"})


async def test_a_default_answer_is_taken_by_whoever_recovers(store: CheckpointStore, probe: Probe) -> None:
    """Once the time is over, and once however many recover."""
    result = await WorkflowExecutor(store).execute_workflow(asking(0.2), run_id="r")
    paused_at(result)
    executors = [WorkflowExecutor(store) for _ in range(4)]
    found: list[WorkflowResult] = []

    async def is_answered() -> bool:
        for results in await asyncio.gather(*(one.recover() for one in executors)):
            found.extend(results)
        return bool(found)

    await eventually(is_answered)
    assert [one.outputs for one in found] == [{"said": "no"}]
    assert probe.started == ["after"]


async def test_a_question_that_has_time_left_waits(store: CheckpointStore, probe: Probe) -> None:
    """And a human's answer is taken, also when the time is over and nobody has looked yet."""
    executor = WorkflowExecutor(store)
    in_time = await executor.execute_workflow(asking(3600), run_id="in time")
    assert await executor.recover() == []
    assert await executor.recover("in time") == in_time
    late = paused_at(await executor.execute_workflow(asking(0.001)))
    assert (await executor.resume_workflow(paused_at(in_time), "yes")).outputs == {"said": "yes"}
    assert (await executor.resume_workflow(late, "yes")).outputs == {"said": "yes"}
    assert await executor.recover() == []
    assert probe.started == ["after", "after"]


async def test_a_question_without_a_default_waits_for_ever(store: CheckpointStore, probe: Probe) -> None:
    """Beside one that does not: that one's answer is taken, and the other one asks on."""
    overdue = {"id": "b", "type": "Prompt", "inputs": {"prompt": "b?", "timeout_seconds": 0.001, "default": "no"}}
    executor = WorkflowExecutor(store)
    workflow = text({"id": "a", "type": "Prompt", "inputs": {"prompt": "a?"}}, overdue, block("after", "a", "b"))
    await executor.execute_workflow(workflow, run_id="r")
    result = await until_recovered(store)
    assert result.prompt == "a?"
    assert await executor.recover() == []
    state = await store.load_checkpoint(paused_at(result))
    assert state is not None
    assert state.pause_metadata == {"pending": []}
    assert (await executor.resume_workflow(paused_at(result), "yes")).is_success
    assert probe.started == ["after"]


async def test_a_default_answer_is_taken_in_an_item_of_a_nested_workflow(store: CheckpointStore, probe: Probe) -> None:
    """In the background of any executor; the items after it run."""
    inner = json.loads(asking(0.05))
    executor = WorkflowExecutor(store, recover_every_seconds=0.05)
    executor.load_workflow(json.dumps({**inner, "name": "inner"}) + "\n")
    each = {"id": "each", "type": "Workflow", "for_each": [1, 2], "for_each_mode": "sequential"}
    outer = text({**each, "inputs": {"workflow": "inner"}}, outputs={"second": "{{ blocks.each['1'].outputs.said }}"})
    result = await executor.execute_workflow(outer, run_id="r")
    assert result.is_paused

    async def is_over() -> bool:
        return (await executor.list_runs())[0].status == "success"

    async with executor:
        await eventually(is_over)
    assert (await executor.wait_for_run("r", 0)).outputs == {"second": "no"}
    assert probe.started == ["after", "after"]
