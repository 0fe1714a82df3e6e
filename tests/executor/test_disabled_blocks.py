"""Servers that do not offer every block type leave what needs one to others."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.probe import Probe, block, shell, text
from tests.executor.test_owners import ASK, eventually, hold, paused_at
from workflows_mcp import (
    BlockTypeDisabledError,
    CheckpointMetadata,
    CheckpointState,
    InMemoryCheckpointStore,
    StoreConfigurationError,
    WorkflowDefinitionError,
    WorkflowExecutor,
    WorkflowLibrary,
)
from workflows_mcp.engine import background
from workflows_mcp.engine.events import Event, RunStopped
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.settings import load_settings

SAYS = "the block type 'Probe' is switched off on this server"
OUTER = text({"id": "n", "type": "Workflow", "inputs": {"workflow": "inner"}}, name="outer")
INNER = text(block("x", ask="?"), name="inner")


@pytest.fixture
def memory() -> InMemoryCheckpointStore:
    """An empty store; what is tested here is the same on every one."""
    return InMemoryCheckpointStore()


@pytest.fixture
def closed(memory: InMemoryCheckpointStore, probe: Probe) -> WorkflowExecutor:
    """An executor that does not offer `Probe`."""
    assert probe.name == "Probe"
    return WorkflowExecutor(memory, disabled_blocks=["Probe"], recover_every_seconds=0.02)


async def test_a_workflow_is_refused_before_anything_is_saved(
    memory: InMemoryCheckpointStore, closed: WorkflowExecutor, probe: Probe, tmp_path: Path
) -> None:
    """Wherever it comes from, and also for a workflow that it names."""
    (tmp_path / "inner.yaml").write_text(INNER)
    (tmp_path / "outer.yaml").write_text(OUTER)
    library = WorkflowLibrary([tmp_path])
    with_library = WorkflowExecutor(memory, library=library, disabled_blocks=("Shell", "Probe"))
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: closed.execute_workflow(ASK),
        lambda: closed.start_workflow(ASK, run_id="r"),
        lambda: with_library.execute_workflow("inner"),
        lambda: with_library.execute_workflow("outer"),
        lambda: with_library.start_workflow(str(tmp_path / "inner.yaml")),
    ]
    for call in calls:
        with pytest.raises(WorkflowDefinitionError, match=SAYS):
            await call()
    with pytest.raises(WorkflowDefinitionError, match=SAYS):
        closed.load_workflow(ASK)
    assert await memory.list_checkpoints() == []
    assert probe.started == []


LATE = {"id": "n", "type": "Workflow", "inputs": {"workflow": "{{ inputs.name }}"}}


@pytest.mark.parametrize("is_each", [True, False], ids=["items", "once"])
@pytest.mark.parametrize("handles", [True, False])
async def test_a_workflow_that_is_named_late_is_left_to_others(
    memory: InMemoryCheckpointStore, probe: Probe, tmp_path: Path, *, is_each: bool, handles: bool
) -> None:
    """It is no failure of the block; what is under way ends, is saved, and the rest is done where it can be."""
    (tmp_path / "inner.yaml").write_text(text(block("x"), name="inner"))
    library = WorkflowLibrary([tmp_path])
    told: list[Event] = []

    async def note(event: Event) -> None:
        told.append(event)

    closed = WorkflowExecutor(memory, library=library, disabled_blocks=["Probe"], on_event=note)
    beside = shell("beside", f"echo once >> {tmp_path}/beside")
    late = {**LATE, "for_each": [1, 2]} if is_each else LATE
    last = {**shell("z", "true", "n"), "depends_on": [{"block": "n", "required": not handles}]}
    workflow = text(beside, late, last, inputs={"name": {"type": "str"}})
    with pytest.raises(BlockTypeDisabledError, match=rf"^run 'r' is left to other servers: .*{SAYS}"):
        await closed.execute_workflow(workflow, {"name": "inner"}, run_id="r")
    assert probe.started == []
    assert told[-1] == RunStopped("r", "flow", reason="failed", error="BlockTypeDisabledError")
    [head] = await memory.list_abandoned()
    assert head.run_id == "r"
    # By what is saved with it, it is known before anything is claimed, also where the library does not have it.
    for executor in (closed, WorkflowExecutor(memory, disabled_blocks=["Probe"])):
        with pytest.raises(BlockTypeDisabledError, match=SAYS):
            await executor.recover("r")
        assert await executor.recover() == []
    assert [one.checkpoint_id for one in await memory.list_abandoned()] == [head.checkpoint_id]
    assert (await WorkflowExecutor(memory).recover("r")).is_success
    assert probe.started == ["x"] * (1 + is_each)
    assert (tmp_path / "beside").read_text() == "once\n"


async def test_an_answer_is_kept_though_what_comes_after_it_is_left_to_others(
    memory: InMemoryCheckpointStore, probe: Probe, tmp_path: Path
) -> None:
    """Nobody is asked again."""
    (tmp_path / "inner.yaml").write_text(text(block("x"), name="inner"))
    library = WorkflowLibrary([tmp_path])
    ask = {"id": "ask", "type": "Prompt", "inputs": {"prompt": "Which?"}}
    named = {"workflow": "{{ blocks.ask.outputs.response }}"}
    late = {"id": "n", "type": "Workflow", "depends_on": ["ask"], "inputs": named}
    closed = WorkflowExecutor(memory, library=library, disabled_blocks=["Probe"], recover_every_seconds=0.02)
    paused = paused_at(await closed.execute_workflow(text(ask, late), run_id="r"))
    with pytest.raises(BlockTypeDisabledError, match=SAYS):
        await closed.resume_workflow(paused, "inner")
    async with closed:
        await asyncio.sleep(0.1)
    assert len(await memory.list_abandoned()) == 1
    assert (await WorkflowExecutor(memory).recover("r")).is_success
    assert probe.started == ["x"]


async def test_a_secret_that_is_too_short_is_told_once_and_claims_nothing(
    probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    """It is so at every look, and other servers may do better."""

    class Counting(InMemoryCheckpointStore):
        claims = looks = 0

        async def claim_checkpoint(self, *args: Any) -> CheckpointState:
            self.claims += 1
            return await super().claim_checkpoint(*args)

        async def list_abandoned(self, *args: Any) -> list[CheckpointMetadata]:
            self.looks += 1
            return await super().list_abandoned(*args)

    store = Counting()
    running = await hold(store, probe)
    running.cancel()
    await asyncio.wait([running])
    probe.release()
    caplog.set_level(logging.WARNING)
    async with WorkflowExecutor(store, secrets=Secrets(lambda: {"X": "short"}), recover_every_seconds=0.01):

        async def has_looked() -> bool:
            return store.looks >= 5

        await eventually(has_looked)
    assert store.claims == 0
    [record] = caplog.records
    assert "WORKFLOW_SECRET_X" in record.getMessage()
    assert (await WorkflowExecutor(store).recover("r")).is_success


@pytest.mark.parametrize("workflow", [ASK, OUTER], ids=["its own block", "a nested workflow's"])
async def test_a_run_is_not_gone_on_with_where_a_block_is_switched_off(
    memory: InMemoryCheckpointStore, closed: WorkflowExecutor, probe: Probe, workflow: str
) -> None:
    """By the definition that is saved with it; whoever offers the block has it at once."""
    opened = WorkflowExecutor(memory)
    opened.load_workflow(INNER)
    paused = paused_at(await opened.execute_workflow(workflow, run_id="r"))
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: closed.resume_workflow(paused, "yes"),
        lambda: closed.start_resume(paused, "yes"),
        lambda: closed.fork(paused),
        lambda: closed.start_fork(paused, run_id="f"),
    ]
    for call in calls:
        with pytest.raises(WorkflowDefinitionError, match=SAYS):
            await call()
    assert [one.lease_expires_at for one in await memory.list_checkpoints(heads_only=True)] == [None]
    assert (await opened.resume_workflow(paused, "yes")).is_success
    assert "ask" in probe.started or "x" in probe.started


@pytest.mark.parametrize("is_read_once", [True, False])
async def test_what_a_server_cannot_recover_is_left_to_others_and_in_nobodys_way(
    probe: Probe,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    is_read_once: bool,
) -> None:
    """However many there are, each is told of once, and read again but seldom; explicitly asked for, it is refused."""

    class Counting(InMemoryCheckpointStore):
        loads = 0

        async def load_checkpoint(self, checkpoint_id: str) -> CheckpointState | None:
            self.loads += 1
            return await super().load_checkpoint(checkpoint_id)

    store = Counting()
    monkeypatch.setattr(background, "_CLAIMS_AT_ONCE", 2)
    monkeypatch.setattr(background, "_REFUSED_SECONDS", 60.0 if is_read_once else 0.0)
    for number in range(3):
        running = await hold(store, probe, f"r{number}")
        running.cancel()
        await asyncio.wait([running])
    async with WorkflowExecutor(store) as opened:
        await opened.start_workflow(text(shell("s", f"test -e {tmp_path}/go || exec sleep 1000")), run_id="fine")
    (tmp_path / "go").touch()
    probe.release()
    caplog.set_level(logging.WARNING)
    closed = WorkflowExecutor(store, disabled_blocks=["Probe"], recover_every_seconds=0.02)
    async with closed:

        async def is_over() -> bool:
            return [one.run_id for one in await store.list_checkpoints(status="completed")] == ["fine"]

        await eventually(is_over)
        await asyncio.sleep(0.1)
    assert [SAYS in record.getMessage() for record in caplog.records] == [True] * 3
    assert (store.loads == 4) is is_read_once
    with pytest.raises(WorkflowDefinitionError, match=SAYS):
        await WorkflowExecutor(store, disabled_blocks=["Probe"]).recover("r0")
    assert len(await store.list_abandoned()) == 3
    assert len(await WorkflowExecutor(store).recover()) == 3


async def test_a_default_answer_is_left_to_others(
    memory: InMemoryCheckpointStore, closed: WorkflowExecutor, probe: Probe
) -> None:
    """Where what comes after it may run."""
    ask = {"id": "ask", "type": "Prompt", "inputs": {"prompt": "?", "timeout_seconds": 0.001, "default": "yes"}}
    workflow = text(ask, block("a", "ask"))
    await WorkflowExecutor(memory).execute_workflow(workflow, run_id="r")
    await asyncio.sleep(0.01)
    assert await closed.recover() == []
    assert probe.started == []
    [result] = await WorkflowExecutor(memory).recover()
    assert result.is_success


def test_a_block_type_that_is_not_there_cannot_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing mistake would offer what must not be offered."""
    for wrong in (["Shel"], "Shel", ["Shell", "shell"]):
        with pytest.raises(StoreConfigurationError, match=r"no block type '[sS]hel+'; there are .*Prompt, Shell, "):
            WorkflowExecutor(disabled_blocks=wrong)
    monkeypatch.setenv("WORKFLOWS_DISABLED_BLOCKS", " Shell, ,Prompt ")
    assert load_settings().disabled_blocks == ("Shell", "Prompt")
    WorkflowExecutor(disabled_blocks=load_settings().disabled_blocks)
