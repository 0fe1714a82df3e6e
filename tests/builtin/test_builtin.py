"""The workflows that come along: each does what its description says, alone and with the others."""

from pathlib import Path

import pytest

from tests.workflows.corpus import Case
from tests.workflows.playing import check
from workflows_mcp import WorkflowExecutor
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.definition import WorkflowDefinition
from workflows_mcp.engine.finding import PlanFinder
from workflows_mcp.engine.library import BUILT_IN
from workflows_mcp.engine.nested import NestedWorkflows
from workflows_mcp.engine.workflow import read_workflow
from workflows_mcp.engine.yaml_text import parse_yaml
from workflows_mcp.settings import Settings
from workflows_mcp.wiring import open_library

FILES = sorted(BUILT_IN.glob("*.yaml"))
EXPECTED = {path.name.removesuffix(".expected.yaml"): path for path in Path(__file__).parent.glob("*.expected.yaml")}

NEEDS_NO_SHELL = {"approval-gate", "ask-human", "checklist", "group-approval", "questionnaire"}
"""Those that a server which offers no Shell can run."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_a_built_in_workflow_does_what_is_expected_of_it(path: Path) -> None:
    """In every case, with each answer taken by an executor that knows nothing but the store."""
    for case in parse_yaml(EXPECTED[path.stem].read_text()):
        await check(path, Case.model_validate(case), InMemoryCheckpointStore(), FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_described_for_those_who_have_never_seen_it(path: Path) -> None:
    """The name is that of its file; all that a caller sees has a description, and it has tags to be found by."""
    definition = read_workflow(path)
    assert definition.name == path.stem
    assert definition.tags
    assert 80 < len(definition.description) < 400
    parts = {**definition.inputs, **definition.outputs, **{block.id: block for block in definition.blocks}}
    assert [name for name, part in parts.items() if not part.model_dump()["description"]] == []


def block_types_of(definition: WorkflowDefinition) -> set[str]:
    """The types of all blocks that a run of it may come to."""
    finder = PlanFinder(open_library(Settings()))
    called = NestedWorkflows.of(finder.register(definition), finder.find_named).definitions.values()
    return {block.type for block in definition.blocks} | {block["type"] for one in called for block in one["blocks"]}


def test_most_of_them_need_no_shell() -> None:
    """So that a server which does not offer it has something to offer."""
    assert {path.stem for path in FILES if "Shell" not in block_types_of(read_workflow(path))} == NEEDS_NO_SHELL


async def test_a_folder_overrides_one_of_them_by_its_name(tmp_path: Path) -> None:
    """Also where another of them calls it."""
    (tmp_path / "gate.yaml").write_text(
        "name: approval-gate\n"
        "inputs: {action: {}, context: {}, approver: {}}\n"
        "blocks: [{id: ours, type: Prompt, inputs: {prompt: 'Ours: {{ inputs.action }}?'}}]\n"
        "outputs: {approved: false, reason: ours}\n"
    )
    library = open_library(Settings(template_paths=(tmp_path,)))
    assert (library.is_built_in("approval-gate"), library.is_built_in("ask-human")) == (False, True)
    executor = WorkflowExecutor(library=library)
    paused = await executor.execute_workflow("guarded-command", {"command": "exit 1"})
    assert paused.prompt == 'Ours: Run this command: "exit 1"?'
    ended = await executor.resume_workflow(paused.checkpoint_id or "", "no")
    assert (ended.status, ended.outputs["reason"]) == ("success", "ours")
