"""The language, workflow by workflow: each of this folder does what is expected of it, on every store."""

import asyncio
import json
import time
from typing import Any

import pytest
from pydantic import BaseModel

from tests.workflows.block_types import block_types
from tests.workflows.corpus import FOLDER, NAMES, Case, cases_of, path_of
from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.engine.blocks import BLOCK_TYPES
from workflows_mcp.engine.checkpoint_store import CheckpointStore, InMemoryCheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.engine.workflow import read_workflow
from workflows_mcp.errors import WorkflowDefinitionError, WorkflowNotFoundError

DURABLE = [
    "each_dict",
    "each_sequential",
    "file_outputs",
    "kept_types",
    "nested",
    "prompt_default",
    "prompts_each",
    "prompts_in_a_wave",
    "prompts_sequential",
    "retried_prompt",
    "secrets",
    "tmp",
]
"""Those that run on the databases too: all that pause, and some whose values or order a database could spoil."""


@pytest.fixture(autouse=True)
def _known_block_types(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, block_type in block_types().items():
        monkeypatch.setitem(BLOCK_TYPES, name, block_type)


async def play(name: str, case: Case, store: CheckpointStore) -> WorkflowResult:
    """Run a case to its end, each answer taken by a new executor that knows nothing but the store."""
    executor = WorkflowExecutor(store)
    for used in case.uses:
        executor.load_workflow(path_of(used))
    result = await executor.execute_workflow(path_of(name), case.inputs)
    for asked in case.answers:
        assert (result.status, result.prompt) == ("paused", asked.prompt), result.error
        checkpoint_id = result.checkpoint_id or ""
        if asked.answer is None:
            result = await overdue(store, result)
        elif asked.refused is None:
            result = await WorkflowExecutor(store).resume_workflow(checkpoint_id, asked.answer)
        else:
            with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
                await WorkflowExecutor(store).resume_workflow(checkpoint_id, asked.answer)
            assert str(caught.value) == asked.refused
    return result


async def overdue(store: CheckpointStore, result: WorkflowResult) -> WorkflowResult:
    """What the run comes to when it is too late to answer."""
    state = await store.load_checkpoint(result.checkpoint_id or "")
    assert state is not None
    assert state.pause_metadata is not None
    await asyncio.sleep(max(state.pause_metadata["expires_at"] - time.time(), 0))
    return await WorkflowExecutor(store).recover(result.run_id)


async def check(name: str, case: Case, store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare what a case comes to with what is expected, types included."""
    for secret, value in case.secrets.items():
        monkeypatch.setenv(f"WORKFLOW_SECRET_{secret}", value)
    result = await play(name, case, store)
    assert (result.status, result.error) == (case.status, case.error or result.error)
    assert (result.error is None) is (case.status == "success")
    assert (result.error or "").startswith(case.error_begins)
    assert (result.error or "").endswith(case.error_ends)
    assert as_json(result.outputs) == as_json(case.outputs)
    assert result.checkpoint_id is not None
    state = await store.load_checkpoint(result.checkpoint_id)
    assert state is not None
    for block_id, expected in case.blocks.items():
        assert differences(expected, state.context["blocks"][block_id], block_id) == []
    assert not any(secret in as_json(state.context) for secret in case.secrets.values())


def as_json(value: object) -> str:
    """Tells 1, 1.0 and true apart."""
    return json.dumps(value, sort_keys=True)


def differences(expected: Any, record: Any, where: str) -> list[str]:
    """Where a record is not as expected; a text stands for its status, `absent` for nothing at all."""
    if isinstance(expected, dict) and isinstance(record, dict):
        if where.endswith(".items") and list(expected) != list(record):
            return [f"{where}: {list(record)}"]
        return [one for key, value in expected.items() for one in differences(value, record.get(key), f"{where}.{key}")]
    if expected == "absent":
        return [] if record is None else [f"{where} is there"]
    found = record.get("status") if isinstance(record, dict) else record
    return [] if found == expected else [f"{where}: {found}"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_workflow_does_what_is_expected_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands beside it, in every case."""
    for case in cases_of(name):
        with monkeypatch.context() as patch:
            if case.refused is None:
                await check(name, case, InMemoryCheckpointStore(), patch)
                continue
            with pytest.raises((WorkflowDefinitionError, WorkflowNotFoundError)) as caught:
                await play(name, case, InMemoryCheckpointStore())
            assert case.refused in str(caught.value)


@pytest.mark.parametrize("name", DURABLE)
async def test_it_does_so_on_a_database(
    name: str, store: SQLAlchemyCheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a new executor for every answer, as if each came to another server."""
    for case in cases_of(name):
        if case.refused is None:
            with monkeypatch.context() as patch:
                await check(name, case, store, patch)


def test_every_workflow_has_an_expectation() -> None:
    """And bears the name of its file."""
    files = sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.name.endswith(".expected.yaml"))
    assert files == NAMES
    assert [read_workflow(path_of(name)).name for name in NAMES] == NAMES


def keys_used(model: BaseModel) -> set[str]:
    """The keys that are written down somewhere in a definition, as `Model.key`."""
    used = {f"{type(model).__name__}.{key}" for key in model.model_fields_set}
    for key in model.model_fields_set:
        value = getattr(model, key)
        for one in [value, *(value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ())]:
            if isinstance(one, BaseModel):
                used |= keys_used(one)
    return used


def test_every_key_of_the_language_is_used_by_a_workflow() -> None:
    """A new one needs a workflow here that shows what it does."""
    from workflows_mcp.engine import definition

    models = [getattr(definition, name) for name in definition.__all__]
    known = {
        f"{model.__name__}.{key}"
        for model in models
        if isinstance(model, type) and issubclass(model, BaseModel)
        for key in model.model_fields
    }
    used = set().union(*(keys_used(read_workflow(path_of(name))) for name in NAMES))
    assert known - used == set(), "no workflow in tests/workflows uses these"


def test_every_input_of_the_block_types_is_used_by_a_workflow() -> None:
    """Of those that come along."""
    blocks = [block for name in NAMES for block in read_workflow(path_of(name)).blocks]
    for block_type in ("Prompt", "Shell", "Workflow"):
        used = {key for block in blocks if block.type == block_type for key in block.inputs}
        assert set(BLOCK_TYPES[block_type].inputs.model_fields) - used == set()
