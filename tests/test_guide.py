"""The four tests that the checkpoint storage guide writes out, with the one store class in place of the guide's."""

import time
from pathlib import Path

from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointState
from workflows_mcp.engine.executor import WorkflowExecutor

WORKFLOW = """
name: test-workflow
blocks:
  - id: greet
    type: Shell
    inputs: {command: printf hello}
  - id: again
    type: Shell
    depends_on: [greet]
    inputs: {command: "printf '%s again' {{ blocks.greet.outputs.stdout | shquote }}"}
outputs:
  said: "{{ blocks.again.outputs.stdout }}"
"""


async def test_save_and_load(database_url: str) -> None:
    """What was saved is loaded."""
    store = SQLAlchemyCheckpointStore(database_url)
    state = CheckpointState(
        checkpoint_id="test_123",
        workflow_name="test",
        created_at=1000.0,
        runtime_inputs={},
        context={"key": "value"},
        completed_blocks=[],
        current_wave_index=0,
        execution_waves=[],
        block_definitions={},
        workflow_stack=[],
    )
    assert await store.save_checkpoint(state) == "test_123"
    loaded = await store.load_checkpoint("test_123")
    assert loaded is not None
    assert loaded.checkpoint_id == "test_123"
    assert loaded.context == {"key": "value"}
    await store.close()


async def test_survive_re_creation(database_url: str) -> None:
    """Another store on the same database has it too."""
    first = SQLAlchemyCheckpointStore(database_url)
    state = CheckpointState(
        checkpoint_id="persist_test",
        workflow_name="test",
        created_at=1000.0,
        runtime_inputs={},
        context={"data": "persisted"},
        completed_blocks=[],
        current_wave_index=0,
        execution_waves=[],
        block_definitions={},
        workflow_stack=[],
    )
    await first.save_checkpoint(state)
    await first.close()
    second = SQLAlchemyCheckpointStore(database_url)
    loaded = await second.load_checkpoint("persist_test")
    assert loaded is not None
    assert loaded.context["data"] == "persisted"
    await second.close()


async def test_cleanup_of_expired(database_url: str) -> None:
    """The old one goes, the new one stays."""
    store = SQLAlchemyCheckpointStore(database_url)
    for name, created_at in (("old", 1000.0), ("new", time.time())):
        await store.save_checkpoint(
            CheckpointState(
                checkpoint_id=name,
                workflow_name="test",
                created_at=created_at,
                runtime_inputs={},
                context={},
                completed_blocks=[],
                current_wave_index=0,
                execution_waves=[],
                block_definitions={},
                workflow_stack=[],
            )
        )
    assert await store.cleanup_expired(60) == 1
    assert await store.load_checkpoint("old") is None
    assert await store.load_checkpoint("new") is not None
    await store.close()


async def test_a_workflow_with_checkpoints(database_url: str, tmp_path: Path) -> None:
    """A workflow that is loaded by name runs, and leaves its checkpoints."""
    store = SQLAlchemyCheckpointStore(database_url)
    executor = WorkflowExecutor(checkpoint_store=store, checkpoint_config=CheckpointConfig(max_per_workflow=50))
    file = tmp_path / "test-workflow.yaml"
    file.write_text(WORKFLOW)
    executor.load_workflow(file)
    result = await executor.execute_workflow("test-workflow", {})
    assert result.is_success
    assert result.outputs == {"said": "hello again"}
    checkpoints = await store.list_checkpoints()
    assert [one.status.value for one in checkpoints] == ["completed", "running", "running", "running"]
    await store.close()
