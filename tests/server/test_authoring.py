"""What a model is told about writing workflows holds, and is all that there is to tell."""

import re
from pathlib import Path

import pytest

from workflows_mcp import WorkflowExecutor
from workflows_mcp.engine.blocks import BLOCK_TYPES
from workflows_mcp.engine.blocks.python import FunctionBlock
from workflows_mcp.engine.definition import (
    BlockDefinition,
    FileOutput,
    InputDefinition,
    OutputDefinition,
    RetryPolicy,
    WorkflowDefinition,
)
from workflows_mcp.server.authoring import authoring_guide
from workflows_mcp.settings import Settings
from workflows_mcp.wiring import open_library

MODELS = (WorkflowDefinition, BlockDefinition, InputDefinition, OutputDefinition, RetryPolicy, FileOutput)


def example_in(guide: str) -> str:
    """The workflow that a guide shows."""
    [example] = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    return str(example)


async def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    """And does what its description says, with names that a shell would take apart."""
    folders = [tmp_path / "a b", tmp_path / "$c"]
    for folder in folders:
        folder.mkdir()
        (folder / "file").touch()
    executor = WorkflowExecutor()
    inputs = {"folders": [str(folder) for folder in folders]}
    paused = await executor.execute_workflow(example_in(authoring_guide("tidy up")), inputs)
    assert (paused.prompt or "").endswith("? 1 files and more.")
    ended = await executor.resume_workflow(paused.checkpoint_id or "", "remove")
    assert ended.outputs == {"removed": True}
    assert not any(folder.exists() for folder in folders)


async def test_the_example_for_a_server_without_a_shell_needs_none() -> None:
    """It runs with what comes along; the Shell, and what could go wrong with it, are not spoken of."""
    guide = authoring_guide("plan a trip", disabled_blocks=["Shell"])
    assert not re.search("shell", guide.replace("shquote", ""), re.IGNORECASE)
    executor = WorkflowExecutor(library=open_library(Settings()))
    asked = await executor.execute_workflow(example_in(guide), {"people": ["Ann"]})
    approval = await executor.resume_workflow(asked.checkpoint_id or "", "rome")
    assert approval.prompt == "Ann: Do you approve this? Travel to Rome"
    ended = await executor.resume_workflow(approval.checkpoint_id or "", "approve")
    assert ended.outputs == {"place": "Rome", "approved": True}
    asked = await executor.execute_workflow(example_in(guide), {"people": ["Ann"]})
    ended = await executor.resume_workflow(asked.checkpoint_id or "", "home")
    assert ended.outputs == {"place": "home", "approved": False}


def test_every_key_and_every_block_type_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that other packages bring along, too."""

    async def send(address: str, text: str = "") -> None: ...

    monkeypatch.setitem(BLOCK_TYPES, "Send", FunctionBlock("Send", send))
    guide = authoring_guide("anything")
    keys = {name for model in MODELS for name in model.model_fields}
    keys |= {name for name, field in BLOCK_TYPES["Prompt"].inputs.model_fields.items()}
    assert [name for name in keys if not re.search(rf"\b{name}\*?( \(|;|\n)", guide)] == []
    assert "- Send: address*, text. Outputs: what it gives" in guide
    assert {f"- {name}: " in guide for name in BLOCK_TYPES} == {True}


def test_it_is_short_and_names_the_task() -> None:
    """A model reads it in a moment; a task of several lines stays in its place."""
    others = set(BLOCK_TYPES) - {"Prompt", "Shell", "Workflow"}  # which other tests have registered
    assert len(authoring_guide("Count the words of a file", disabled_blocks=others)) < 6000
    assert "\nThe task: # Other headings are no headings\n" in authoring_guide("\n# Other headings\nare no\n\nheadings")
    assert "ask what the workflow is to do" in authoring_guide(" ")


def test_a_server_that_takes_no_workflows_says_how_to_run_one() -> None:
    """By a file of the library."""
    guide = authoring_guide("anything", inline=False)
    assert "execute_inline_workflow" not in guide
    assert "execute_workflow" in guide
