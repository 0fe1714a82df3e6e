"""Runs workflows, and looks whether they do what is expected of them."""

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any

import pytest

from tests.workflows.corpus import Case
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.engine.workflow import WorkflowSource
from workflows_mcp.errors import WorkflowDefinitionError, WorkflowNotFoundError

__all__ = ["check", "play"]


async def play(
    workflow: WorkflowSource, case: Case, store: CheckpointStore, others: Iterable[WorkflowSource] = ()
) -> WorkflowResult:
    """Run a case to its end, each answer taken by a new executor that knows nothing but the store."""
    executor = WorkflowExecutor(store)
    for other in others:
        executor.load_workflow(other)
    result = await executor.execute_workflow(workflow, case.inputs)
    for asked in case.answers:
        assert (result.status, result.prompt) == ("paused", asked.prompt), result.error
        checkpoint_id = result.checkpoint_id or ""
        if asked.answer is None:
            result = await _overdue(store, result)
        elif asked.refused is None:
            result = await WorkflowExecutor(store).resume_workflow(checkpoint_id, asked.answer)
        else:
            with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
                await WorkflowExecutor(store).resume_workflow(checkpoint_id, asked.answer)
            assert str(caught.value) == asked.refused
    return result


async def _overdue(store: CheckpointStore, result: WorkflowResult) -> WorkflowResult:
    """What the run comes to when it is too late to answer."""
    state = await store.load_checkpoint(result.checkpoint_id or "")
    assert state is not None
    assert state.pause_metadata is not None
    await asyncio.sleep(max(state.pause_metadata["expires_at"] - time.time(), 0))
    return await WorkflowExecutor(store).recover(result.run_id)


async def check(
    workflow: WorkflowSource, case: Case, store: CheckpointStore, others: Iterable[WorkflowSource] = ()
) -> None:
    """Compare what a case comes to with what is expected, types included."""
    if case.refused is not None:
        with pytest.raises((WorkflowDefinitionError, WorkflowNotFoundError)) as caught:
            await play(workflow, case, store, others)
        assert case.refused in str(caught.value)
        return
    with pytest.MonkeyPatch.context() as patch:
        for secret, value in case.secrets.items():
            patch.setenv(f"WORKFLOW_SECRET_{secret}", value)
        result = await play(workflow, case, store, others)
    assert (result.status, result.error) == (case.status, case.error or result.error)
    assert (result.error is None) is (case.status == "success")
    assert (result.error or "").startswith(case.error_begins)
    assert (result.error or "").endswith(case.error_ends)
    assert _as_json(result.outputs) == _as_json(case.outputs)
    assert result.checkpoint_id is not None
    state = await store.load_checkpoint(result.checkpoint_id)
    assert state is not None
    for block_id, expected in case.blocks.items():
        assert _differences(expected, state.context["blocks"][block_id], block_id) == []
    assert not any(secret in _as_json(state.context) for secret in case.secrets.values())


def _as_json(value: object) -> str:
    """Tells 1, 1.0 and true apart."""
    return json.dumps(value, sort_keys=True)


def _differences(expected: Any, record: Any, where: str) -> list[str]:
    """Where a record is not as expected; a text stands for its status, `absent` for nothing at all."""
    if isinstance(expected, dict) and isinstance(record, dict):
        if where.endswith(".items") and list(expected) != list(record):
            return [f"{where}: {list(record)}"]
        return [
            one for key, value in expected.items() for one in _differences(value, record.get(key), f"{where}.{key}")
        ]
    if expected == "absent":
        return [] if record is None else [f"{where} is there"]
    found = record.get("status") if isinstance(record, dict) else record
    return [] if found == expected else [f"{where}: {found}"]
