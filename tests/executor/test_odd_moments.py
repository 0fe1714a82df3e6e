"""Odd block types and awkward moments: nobody else pays for them, and nothing is kept that nobody works on."""

import asyncio
import copy
from typing import Any

import pytest

from tests.engine.probe import Probe, block, shell, text
from tests.executor.test_owners import eventually, hold, paused_at
from workflows_mcp import (
    CheckpointConfig,
    CheckpointState,
    CheckpointStore,
    InMemoryCheckpointStore,
    WorkflowDefinitionError,
    WorkflowExecutor,
)
from workflows_mcp.engine.blocks import BLOCK_TYPES, BlockFailedError, Pause, block_type
from workflows_mcp.engine.events import Event, RunStarted
from workflows_mcp.engine.scratch import scratch_folder
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.engine.state_json import decode_state, encode_state


@pytest.fixture(params=["memory"])
def database(request: pytest.FixtureRequest) -> str:
    """What is tested here is the same on every store."""
    return str(request.param)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Block types that a test registers are gone after it."""
    monkeypatch.setattr(BLOCK_TYPES, "_types", dict(BLOCK_TYPES._types))


def odd(**more: object) -> str:
    """A workflow of one block of the type `Odd`, whose failure is handled, and another one."""
    return text({"id": "odd", "type": "Odd", "continue_on_error": True, **more}, block("other"))


async def test_only_what_the_engine_noted_answers_a_question(store: CheckpointStore) -> None:
    """Whatever a block type writes into its metadata."""

    @block_type("Odd")
    async def ask() -> Pause:
        return Pause("deploy?", {"expires_at": 1.0, "default": "yes"})

    executor = WorkflowExecutor(store)
    result = await executor.execute_workflow(text({"id": "odd", "type": "Odd"}), run_id="r")
    assert await executor.recover() == []
    assert (await executor.recover("r")).is_paused
    state = await store.load_checkpoint(paused_at(result))
    assert state is not None
    assert state.pause_metadata == {"default": "yes", "pending": []}


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (None, "and no dict of outputs"),
        (Pause("?", {"timeout_seconds": 0.001, "default": "x"}), "its default is no answer that it takes: y or n"),
    ],
)
async def test_what_a_block_type_must_not_give_is_the_blocks_failure(
    store: CheckpointStore, probe: Probe, outcome: object, message: str
) -> None:
    """The others run, and the state can be saved."""

    class Odd(Probe):
        name = "Odd"

        async def run(self, inputs: Any, context: Any) -> Any:  # noqa: ARG002 - the contract's
            return outcome

        def answer(self, response: str, inputs: Any) -> dict[str, Any]:  # noqa: ARG002 - the contract's
            raise ValueError("y or n")

    BLOCK_TYPES["Odd"] = Odd()
    result = await WorkflowExecutor(store).execute_workflow(odd(), run_id="r")
    assert result.is_success
    assert probe.started == ["other"]
    assert result.checkpoint_id is not None
    state = await store.load_checkpoint(result.checkpoint_id)
    assert state is not None
    assert message in state.context["blocks"]["odd"]["message"]


async def test_errors_that_cannot_be_told_are_failures_too(store: CheckpointStore, probe: Probe) -> None:
    """As are outputs of a failure that no state can hold."""
    deep: list[Any] = []
    for _ in range(97):
        deep = [deep]

    class MuteError(Exception):
        def __str__(self) -> str:
            raise AttributeError

    @block_type("Odd")
    async def fail(kind: str) -> None:
        raise MuteError if kind == "mute" else BlockFailedError("no", {"deep": deep})

    for kind in ("mute", "deep"):
        result = await WorkflowExecutor(store).execute_workflow(odd(inputs={"kind": kind}))
        assert result.is_success
    assert probe.started == ["other", "other"]


async def test_what_a_block_gave_does_not_change_any_more(store: CheckpointStore, probe: Probe) -> None:
    """A block type may keep its list; the run goes on with what was saved."""
    kept: list[int] = [1]

    @block_type("Odd")
    async def give(*, more: bool = False) -> dict[str, Any]:
        if more:
            kept.append(2)
        return {"kept": kept}

    workflow = text(
        {"id": "a", "type": "Odd"},
        {"id": "b", "type": "Odd", "inputs": {"more": True}, "depends_on": ["a"]},
        outputs={"o": "{{ blocks.a.outputs.kept }}"},
    )
    assert (await WorkflowExecutor(store).execute_workflow(workflow)).outputs == {"o": [1]}
    assert probe.started == []


async def test_a_copy_of_a_state_is_saved_as_it_was_changed(probe: Probe) -> None:
    """Say, by a store that takes something out before it saves."""
    states: list[CheckpointState] = []

    class Redacting(InMemoryCheckpointStore):
        async def save_checkpoint(self, state: CheckpointState, **options: Any) -> str:
            changed = copy.deepcopy(state)
            for record in changed.context["blocks"].values():
                record.pop("outputs", None)
            states.append(changed)
            return await super().save_checkpoint(changed, **options)

    await WorkflowExecutor(Redacting()).execute_workflow(text(block("a", give="hunter2")))
    assert probe.started == ["a"]
    for state in states:
        data = encode_state(state)
        assert b"hunter2" not in data.replace(b'"give":"hunter2"', b"")
        assert decode_state(data, state.checkpoint_id) == state


@pytest.mark.parametrize("start", ["resume", "recover", "background"])
async def test_whoever_joined_a_run_is_not_cancelled_by_another_caller(
    store: CheckpointStore, probe: Probe, start: str
) -> None:
    """Only when all who wait are cancelled does the run stop."""
    workflow = text(block("ask", ask="?"), block("a", "ask"), name="w")
    executor = WorkflowExecutor(store, recover_every_seconds=0.02)
    executor.load_workflow(workflow)
    paused = paused_at(await executor.execute_workflow("w", run_id="r"))
    probe.hold("a", started=2)
    first: asyncio.Task[Any] = asyncio.create_task(executor.resume_workflow(paused, "yes"))
    await probe.all_started.wait()
    if start != "resume":
        first.cancel()
        await asyncio.wait([first])
        probe.hold("a", started=3)
        if start == "recover":
            first = asyncio.create_task(executor.recover())
        else:
            await executor.__aenter__()
        await probe.all_started.wait()
    joined = asyncio.create_task(executor.execute_workflow("w", run_id="r"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if start == "background":
        await executor.__aexit__(None, None, None)
    else:
        first.cancel()
        await asyncio.wait([first])
    probe.release()
    assert (await joined).is_success


async def test_a_run_can_be_cancelled_while_its_beginning_is_told(store: CheckpointStore, probe: Probe) -> None:
    """By the one who is told; nothing of it runs."""

    async def cancel(event: Event) -> None:
        if isinstance(event, RunStarted) and event.continued:
            await executor.cancel(event.run_id)

    executor = WorkflowExecutor(store, on_event=cancel)
    paused = paused_at(await executor.execute_workflow(text(block("ask", ask="?"), block("a", "ask"))))
    async with asyncio.timeout(10):
        assert (await executor.resume_workflow(paused, "yes")).status == "cancelled"
    assert probe.started == ["ask"]


async def test_a_caller_who_leaves_while_the_beginning_is_told_leaves_no_lease(
    store: CheckpointStore, probe: Probe
) -> None:
    """The next answer is taken at once."""
    told = asyncio.Event()

    async def dawdle(event: Event) -> None:
        if isinstance(event, RunStarted) and event.continued:
            told.set()
            await asyncio.Event().wait()

    paused = paused_at(await WorkflowExecutor(store).execute_workflow(text(block("ask", ask="?"))))
    leaving = asyncio.create_task(WorkflowExecutor(store, on_event=dawdle).resume_workflow(paused, "yes"))
    await told.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    assert (await WorkflowExecutor(store).resume_workflow(paused, "yes")).is_success
    assert probe.started == ["ask"]


async def test_a_run_that_is_stopped_in_a_slow_save_is_not_renewed_for_ever(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is released when the save is over, however long that takes."""
    monkeypatch.setattr("workflows_mcp.engine.saving._RELEASE_SECONDS", 0.02)

    class Slow(InMemoryCheckpointStore):
        is_slow = asyncio.Event()
        goes_on = asyncio.Event()
        renewals = 0

        async def save_checkpoint(self, state: CheckpointState, **options: Any) -> str:
            async def save() -> str:
                # The one that those share who ask while the first is under way.
                if state.context["blocks"].get("a2", {}).get("status") == "succeeded" and not self.goes_on.is_set():
                    self.is_slow.set()
                    await self.goes_on.wait()
                return await super(Slow, self).save_checkpoint(state, **options)

            return await asyncio.shield(asyncio.ensure_future(save()))

        async def renew_lease(self, *args: Any) -> None:
            self.renewals += 1
            await super().renew_lease(*args)

    store = Slow()
    config = CheckpointConfig(checkpoint_every="block")
    probe.hold("b", started=3)
    workflow = text(block("a"), block("a2"), block("b"))
    running = asyncio.create_task(
        WorkflowExecutor(store, config, lease_seconds=0.6).execute_workflow(workflow, run_id="r")
    )
    await store.is_slow.wait()
    running.cancel()
    asyncio.get_running_loop().call_later(0.1, store.goes_on.set)
    await asyncio.wait([running])
    probe.release()
    renewals = store.renewals

    async def is_recovered() -> bool:
        return bool(await WorkflowExecutor(store).recover())

    await eventually(is_recovered)
    assert store.renewals == renewals


async def test_what_did_not_fit_into_the_end_of_a_run_is_done_again_in_a_fork(store: CheckpointStore) -> None:
    """It counts as lost, with all that needs it, and a question of its wave is asked again."""
    calls: list[str] = []

    @block_type("Odd")
    async def give(name: str) -> dict[str, str]:
        calls.append(name)
        return {"x": "y" * 5000 if calls.count(name) == 1 and name == "big" else name}

    executor = WorkflowExecutor(store, CheckpointConfig(max_checkpoint_size_mb=4 / 1024))
    workflow = text(
        {"id": "small", "type": "Odd", "inputs": {"name": "small"}},
        {"id": "big", "type": "Odd", "inputs": {"name": "big"}, "depends_on": ["small"]},
        {"id": "ask", "type": "Prompt", "inputs": {"prompt": "?"}, "depends_on": ["small"]},
        outputs={"o": "{{ blocks.big.outputs.x }}"},
    )
    failed = await executor.execute_workflow(workflow)
    assert failed.status == "failure"
    assert failed.checkpoint_id is not None
    fork = await executor.fork(failed.checkpoint_id)
    assert fork.prompt == "?"
    assert (await executor.resume_workflow(paused_at(fork), "yes")).outputs == {"o": "big"}
    assert calls == ["small", "big", "big"]


async def test_a_fork_counts_the_time_of_a_question_anew(store: CheckpointStore) -> None:
    """What was overdue in the other run is not in this one."""
    inputs = {"prompt": "?", "timeout_seconds": 3600, "default": "no"}
    executor = WorkflowExecutor(store)
    first = await executor.execute_workflow(text({"id": "ask", "type": "Prompt", "inputs": inputs}))
    fork = await executor.fork(paused_at(first))
    ends = []
    for result in (first, fork):
        state = await store.load_checkpoint(paused_at(result))
        assert state is not None
        assert state.pause_metadata is not None
        ends.append(state.pause_metadata["expires_at"])
    assert ends[1] > ends[0]


async def test_a_current_definition_may_have_new_blocks_before_the_one_that_waits(
    store: CheckpointStore, probe: Probe
) -> None:
    """They run, and the answer is taken."""
    executor = WorkflowExecutor(store)
    result = await executor.execute_workflow(text(block("a"), block("ask", "a", ask="?")))
    executor.load_workflow(text(block("a"), block("new"), block("ask", "a", ask="?")))
    assert (await executor.resume_workflow(paused_at(result), "yes", definition="current")).is_success
    assert probe.started == ["a", "ask", "new"]


async def test_a_cancelled_run_leaves_no_scratch_folder(store: CheckpointStore, probe: Probe) -> None:
    """Also one that waited."""
    executor = WorkflowExecutor(store)
    await executor.execute_workflow(text(block("ask", ask="?", give="{{ tmp }}")), run_id="r")
    folder = scratch_folder("r")
    assert folder.is_dir()
    await executor.cancel("r")
    assert not folder.exists()
    assert probe.started == ["ask"]


async def test_inputs_that_hold_a_secret_are_refused(store: CheckpointStore, probe: Probe) -> None:
    """They would be kept; nothing runs, and nothing of it is told."""
    executor = WorkflowExecutor(store, secrets=Secrets(lambda: {"KEY": "hunter2!"}))
    workflow = text(block("a"), inputs={"i": {"type": "dict"}})
    with pytest.raises(WorkflowDefinitionError, match="an input holds a secret") as caught:
        await executor.execute_workflow(workflow, {"i": {"x": "a hunter2! b"}})
    assert "hunter2" not in str(caught.value)
    assert await store.list_checkpoints() == []
    assert probe.started == []


async def test_bad_arguments_are_refused_at_the_door(store: CheckpointStore) -> None:
    """Typed, and before anything runs."""
    for seconds in (0, -1, float("nan"), 1e12):
        with pytest.raises(ValueError, match="lease_seconds"):
            WorkflowExecutor(store, lease_seconds=seconds)
    for inputs in ([1], "abc"):
        with pytest.raises(WorkflowDefinitionError, match="the inputs of a run are a mapping"):
            await WorkflowExecutor(store).execute_workflow(text(shell("a", "true")), inputs)  # type: ignore[arg-type]


async def test_a_run_without_saves_is_cancelled_by_its_own_executor(store: CheckpointStore, probe: Probe) -> None:
    """There is no checkpoint that says so, and its blocks are stopped all the same."""
    running = await hold(store, probe, checkpoint_config=CheckpointConfig(enabled=False))
    executor = WorkflowExecutor(store, CheckpointConfig(enabled=False))
    probe.hold("a", started=2)
    own = asyncio.create_task(executor.execute_workflow(text(block("a")), run_id="own"))
    await probe.all_started.wait()
    assert (await executor.cancel("own")).status == "cancelled"
    assert probe.finished == []
    for task in (running, own):
        task.cancel()
    await asyncio.wait([running, own])
