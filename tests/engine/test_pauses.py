"""Runs that ask, and go on with the answer."""

import asyncio
from dataclasses import replace

import pytest

from tests.engine.probe import Probe, block, text
from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.events import CheckpointSaved, Event, RunPaused
from workflows_mcp.engine.executor import MAX_RESPONSE_CHARACTERS, WorkflowExecutor
from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.errors import CheckpointAlreadyClaimedError, CheckpointNotFoundError, WorkflowDefinitionError


async def state_of(store: InMemoryCheckpointStore, result: WorkflowResult) -> CheckpointState:
    """The newest checkpoint of a run, which its result names."""
    (newest,) = await store.list_checkpoints(run_id=result.run_id, limit=1)
    assert newest.checkpoint_id == result.checkpoint_id
    state = await store.load_checkpoint(newest.checkpoint_id)
    assert state is not None
    return state


def paused_at(result: WorkflowResult) -> str:
    """The checkpoint to resume."""
    assert result.is_paused
    assert result.checkpoint_id is not None
    return result.checkpoint_id


async def test_a_prompt_pauses_and_its_answer_is_an_output() -> None:
    """The process that continues has never seen the workflow."""
    store = InMemoryCheckpointStore()
    workflow = """
name: ask
inputs: {what: {type: str}}
blocks:
  - id: ask
    type: Prompt
    inputs: {prompt: "Release {{ inputs.what }}?"}
  - id: act
    type: Shell
    depends_on: [ask]
    inputs: {command: "echo {{ blocks.ask.outputs.response | shquote }}"}
outputs: {said: "{{ blocks.act.outputs.stdout | trim }}"}
"""
    result = await WorkflowExecutor(store).execute_workflow(workflow, {"what": "it"})
    assert result.is_paused
    assert result.prompt == "Release it?"
    assert result.outputs == {}
    state = await state_of(store, result)
    assert state.is_paused
    assert (state.paused_block_id, state.pause_prompt) == ("ask", "Release it?")
    assert state.pause_metadata == {"pending": []}
    answered = await WorkflowExecutor(store).resume_workflow(paused_at(result), "yes, it's fine; $(reboot)")
    assert answered.outputs == {"said": "yes, it's fine; $(reboot)"}
    assert answered.run_id == result.run_id


async def test_a_sibling_of_a_prompt_never_runs_twice(store: InMemoryCheckpointStore, probe: Probe) -> None:
    """It finishes before the pause is saved, and is in its checkpoint."""
    probe.hold("slow", started=2)
    workflow = text(block("ask", ask="well?"), block("slow", give=1), block("after", "ask", "slow"))
    run = asyncio.create_task(WorkflowExecutor(store).execute_workflow(workflow))
    await probe.all_started.wait()
    assert not run.done()
    probe.release()
    result = await run
    state = await state_of(store, result)
    assert state.completed_blocks == ["slow"]
    assert state.current_wave_index == 0
    assert state.context["blocks"]["slow"]["outputs"] == {"value": 1}
    assert (await WorkflowExecutor(store).resume_workflow(paused_at(result), "yes")).is_success
    assert probe.started == ["ask", "slow", "after"]


async def test_several_prompts_of_a_wave_are_answered_one_after_the_other(
    store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """In the order of the definition, each by a process of its own; nothing runs between the answers."""
    probe.hold("first", started=3)
    blocks = [block("first", ask="1?"), block("other"), block("second", ask="2?"), block("third", ask="3?")]
    outputs = {name: f"{{{{ blocks.{name}.outputs.response }}}}" for name in ("first", "second", "third")}
    workflow = text(*blocks, block("end", "first", "second", "third"), outputs=outputs)
    run = asyncio.create_task(WorkflowExecutor(store).execute_workflow(workflow))
    await probe.all_started.wait()
    probe.release()  # the first to ask is not the first to have asked
    result = await run
    for prompt, asking, pending in (
        ("1?", "first", ["second", "third"]),
        ("2?", "second", ["third"]),
        ("3?", "third", []),
    ):
        assert result.prompt == prompt
        state = await state_of(store, result)
        assert state.paused_block_id == asking
        assert state.pause_metadata == {"pending": pending, "choices": ["yes", "no"]}
        assert "end" not in probe.started
        result = await WorkflowExecutor(store).resume_workflow(paused_at(result), f"answer {prompt}")
    assert result.outputs == {"first": "answer 1?", "second": "answer 2?", "third": "answer 3?"}
    assert sorted(probe.started) == ["end", "first", "other", "second", "third"]


async def test_a_run_with_a_failed_sibling_pauses_first_and_fails_at_its_end(
    store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """What can still run does."""
    executor = WorkflowExecutor(store)
    workflow = text(block("bad", fail="no"), block("ask", ask="?"), block("after", "ask"), block("never", "bad"))
    result = await executor.execute_workflow(workflow)
    result = await executor.resume_workflow(paused_at(result), "go")
    assert result.error == "block 'bad' failed: no"
    assert probe.started == ["bad", "ask", "after"]


async def test_an_answer_may_be_empty_or_hold_anything(store: InMemoryCheckpointStore, probe: Probe) -> None:
    """It is text, and is never evaluated."""
    assert probe is not None
    executor = WorkflowExecutor(store)
    workflow = text(block("ask", ask="?"), outputs={"o": "{{ blocks.ask.outputs.response }}"})
    for answer in ("", "{{ inputs.x }}", "a\0b\n", "ü" * 10_000):
        result = await executor.execute_workflow(workflow)
        assert (await executor.resume_workflow(paused_at(result), answer)).outputs == {"o": answer}


@pytest.mark.parametrize("answer", [None, 5, True, b"yes", ["yes"], "x" * (MAX_RESPONSE_CHARACTERS + 1), "\ud800"])
async def test_an_unfit_answer_is_refused_and_the_run_still_waits(
    store: InMemoryCheckpointStore, probe: Probe, answer: object
) -> None:
    """A right one is taken afterwards."""
    assert probe is not None
    executor = WorkflowExecutor(store)
    result = await executor.execute_workflow(text(block("ask", ask="?")))
    with pytest.raises(ValueError, match="an answer"):
        await executor.resume_workflow(paused_at(result), answer)  # type: ignore[arg-type]
    assert (await executor.resume_workflow(paused_at(result), "yes")).is_success


async def test_a_checkpoint_that_does_not_exist_or_wait_cannot_be_resumed(
    store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """Nothing runs."""
    executor = WorkflowExecutor(store)
    with pytest.raises(CheckpointNotFoundError, match="there is no checkpoint 'nope'"):
        await executor.resume_workflow("nope", "yes")
    result = await executor.execute_workflow(text(block("a")))
    for metadata in await store.list_checkpoints():
        with pytest.raises(ValueError, match=f"is {metadata.status} and does not wait"):
            await executor.resume_workflow(metadata.checkpoint_id, "yes")
    assert result.is_success
    assert probe.started == ["a"]


async def test_a_pause_that_was_answered_cannot_be_answered_again(store: InMemoryCheckpointStore, probe: Probe) -> None:
    """Neither once the run is over nor while it waits for the next answer."""
    executor = WorkflowExecutor(store)
    first = await executor.execute_workflow(text(block("a", ask="1?"), block("b", "a", ask="2?")))
    second = await executor.resume_workflow(paused_at(first), "one")
    with pytest.raises(CheckpointAlreadyClaimedError, match="its run has gone on"):
        await executor.resume_workflow(paused_at(first), "again")
    assert (await executor.resume_workflow(paused_at(second), "two")).is_success
    for result in (first, second):
        with pytest.raises(CheckpointAlreadyClaimedError):
            await WorkflowExecutor(store).resume_workflow(paused_at(result), "again")
    assert probe.started == ["a", "b"]


async def test_of_two_answers_at_once_one_is_taken(store: InMemoryCheckpointStore, probe: Probe) -> None:
    """Within one executor; the blocks after it run once."""
    executor = WorkflowExecutor(store)
    result = await executor.execute_workflow(text(block("ask", ask="?"), block("after", "ask")))
    found = await asyncio.gather(
        *(executor.resume_workflow(paused_at(result), f"{n}") for n in range(5)), return_exceptions=True
    )
    assert sum(isinstance(one, WorkflowResult) and one.is_success for one in found) == 1
    assert sum(isinstance(one, CheckpointAlreadyClaimedError) for one in found) == 4
    assert probe.started == ["ask", "after"]


@pytest.mark.parametrize("kind", [CheckpointSaved, RunPaused])
async def test_a_pause_can_be_answered_as_soon_as_its_event_comes(
    store: InMemoryCheckpointStore, probe: Probe, kind: type[Event]
) -> None:
    """Its run may still be at the end of the pause, say because a watcher is slow; the answer waits for that."""
    answers: list[asyncio.Task[WorkflowResult]] = []

    async def answer(event: Event) -> None:
        if isinstance(event, kind) and not answers and probe.started:
            checkpoint_id = getattr(event, "checkpoint_id")  # noqa: B009 - both kinds have one
            answers.append(asyncio.create_task(executor.resume_workflow(checkpoint_id, "yes")))
            await asyncio.sleep(0.02)

    executor = WorkflowExecutor(store, on_event=answer)
    result = await executor.execute_workflow(text(block("ask", ask="?"), block("after", "ask")))
    assert result.is_paused
    assert (await answers[0]).is_success
    assert probe.started == ["ask", "after"]


async def test_a_watcher_may_await_the_answer_to_its_own_run(store: InMemoryCheckpointStore, probe: Probe) -> None:
    """The pause is saved, and whoever claims it goes on; who waited for the pause is told of it."""
    answers: list[WorkflowResult] = []

    async def answer(event: Event) -> None:
        if isinstance(event, RunPaused):
            answers.append(await executor.resume_workflow(event.checkpoint_id, "yes"))

    executor = WorkflowExecutor(store, on_event=answer)
    assert (await executor.execute_workflow(text(block("ask", ask="?"), block("after", "ask")))).is_paused
    assert [one.status for one in answers] == ["success"]
    assert probe.started == ["ask", "after"]


async def test_asking_for_a_paused_run_does_not_stand_in_the_way_of_its_answer(
    store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """A look at the store is no claim."""
    assert probe is not None
    executor = WorkflowExecutor(store)
    workflow = text(block("ask", ask="?"))
    result = await executor.execute_workflow(workflow, run_id="r")
    again, looked, answered = await asyncio.gather(
        executor.execute_workflow(workflow, run_id="r"),
        executor.recover("r"),
        executor.resume_workflow(paused_at(result), "yes"),
    )
    assert again.is_paused or again.is_success
    assert looked.is_paused or looked.is_success
    assert answered.is_success


async def test_a_state_of_another_program_is_refused(store: InMemoryCheckpointStore) -> None:
    """It may be in the same table; whatever stands where ours has something else is no crash."""
    state = CheckpointState("c", "w", 1.0, {}, {}, [], 0, [["x"]], {}, [], paused_block_id="x", pause_prompt="?")
    frame, definitions = {"name": "w", "blocks": ["x"]}, {"x": {"id": "x", "type": "Prompt", "inputs": {}}}
    listed = {"blocks": ["x"], "started_at": 1.0}
    for one in (state, replace(state, workflow_stack=[frame], block_definitions=definitions, context=listed)):
        await store.save_checkpoint(one)
        with pytest.raises(WorkflowDefinitionError, match="checkpoint 'c' was not saved by this executor"):
            await WorkflowExecutor(store).resume_workflow("c", "yes")
