"""The schema of the language takes what the program takes, and says what its docstrings say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.documents.pieces import DOCUMENTS, ROOT, blocks_of
from tests.workflows.corpus import NAMES, path_of
from workflows_mcp.engine.json_schema import schema_text, workflow_schema
from workflows_mcp.engine.plan import plan_workflow
from workflows_mcp.engine.workflow import read_workflow
from workflows_mcp.engine.yaml_text import parse_yaml
from workflows_mcp.errors import WorkflowDefinitionError

FILE = ROOT / "docs" / "workflow-schema.json"
SCHEMA = workflow_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def test_the_file_beside_the_documents_is_current() -> None:
    """Make it anew when the language changes."""
    assert FILE.read_text() == schema_text(), (
        f"run: python3 run.py python -m workflows_mcp.engine.json_schema > {FILE.relative_to(ROOT)}"
    )


def test_it_is_a_schema() -> None:
    """By the draft's own one."""
    Draft202012Validator.check_schema(SCHEMA)


def described(schema: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """All descriptions in a schema; an empty one where there is none."""
    for name, one in schema.get("properties", {}).items():
        yield f"{where}.{name}", one.get("description", "")
    for name, one in schema.get("$defs", {}).items():
        yield from described(one, f"{where}/{name}")
    for one in schema.get("anyOf", []):
        yield from described(one, where)


def test_every_key_is_described_by_the_docstring_of_its_model() -> None:
    """Down to the inputs of block types; in one line, and with YAML's null."""
    found = dict(described(SCHEMA, ""))
    assert found["/BlockDefinition.for_each"].startswith("A list or a dict, or an expression that gives one")
    assert found["/ShellInputs.working_dir"] == "Where; by default where the process of the executor is."
    assert found["/InputDefinition.required"].startswith("Whether the caller must give it; null: when")
    assert [name for name, text in found.items() if not text or "\n" in text] == []


@pytest.mark.parametrize("path", [*map(path_of, NAMES), *EXAMPLES], ids=lambda path: path.stem)
def test_it_takes_every_workflow_that_there_is(path: Path) -> None:
    """Also those whose expressions are refused later: of expressions it knows nothing."""
    VALIDATOR.validate(parse_yaml(path.read_text()))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_it_takes_the_workflows_that_documents_show(path: Path) -> None:
    """An example may leave out its name."""
    for block in blocks_of(path):
        if block.language == "yaml":
            VALIDATOR.validate({"name": "example", **parse_yaml(block.code)})


ONE = "blocks: [{id: a, type: Shell, inputs: {command: x}}]"
WRONG = [
    "blocks: []",
    "name: x",
    "name: x\nblocks: []",
    f"name: 5\n{ONE}",
    f"name: x\ntitle: y\n{ONE}",
    f"name: x\ntags: [1]\n{ONE}",
    f"name: x\nauthor: 5\n{ONE}",
    f"name: x\ninputs: {{a: {{type: int}}}}\n{ONE}",
    f"name: x\ninputs: {{a: text}}\n{ONE}",
    f"name: x\ninputs: {{a-b: {{}}}}\n{ONE}",
    f"name: x\ninputs: {{a: {{required: yes}}}}\n{ONE}",
    f"name: x\noutputs: {{a: {{expression: b}}}}\n{ONE}",
    f"name: x\noutputs: {{a: {{value: b, type: float}}}}\n{ONE}",
    f"name: x\noutputs: {{1a: b}}\n{ONE}",
    "name: x\nblocks: {a: {type: Shell}}",
    "name: x\nblocks: [{type: Mine}]",
    "name: x\nblocks: [{id: a}]",
    "name: x\nblocks: [{id: 1a, type: Mine}]",
    "name: x\nblocks: [{id: a, type: Mine, needs: [b]}]",
    "name: x\nblocks: [{id: a, type: Mine, depends_on: b}]",
    "name: x\nblocks: [{id: a, type: Mine, depends_on: [{required: false}]}]",
    "name: x\nblocks: [{id: a, type: Mine, depends_on: [{block: b, required: no}]}]",
    "name: x\nblocks: [{id: a, type: Mine, condition: 1}]",
    "name: x\nblocks: [{id: a, type: Mine, for_each: 3}]",
    "name: x\nblocks: [{id: a, type: Mine, for_each: [1], for_each_mode: serial}]",
    "name: x\nblocks: [{id: a, type: Mine, for_each: [1], max_parallel: 0}]",
    "name: x\nblocks: [{id: a, type: Shell, inputs: {command: x}, max_parallel: 2}]",
    "name: x\nblocks: [{id: a, type: Shell, inputs: {command: x}, for_each_mode: sequential}]",
    "name: x\nblocks: [{id: a, type: Mine, continue_on_error: on}]",
    "name: x\nblocks: [{id: a, type: Mine, timeout_seconds: 0}]",
    "name: x\nblocks: [{id: a, type: Mine, retries: -1}]",
    "name: x\nblocks: [{id: a, type: Mine, retries: {delay_seconds: 1}}]",
    "name: x\nblocks: [{id: a, type: Mine, retries: {times: 1, backoff: 0.5}}]",
    "name: x\nblocks: [{id: a, type: Mine, outputs: {b: file.txt}}]",
    "name: x\nblocks: [{id: a, type: Mine, outputs: {b: {type: str}}}]",
    "name: x\nblocks: [{id: a, type: Shell}]",
    "name: x\nblocks: [{id: a, type: Shell, inputs: {comand: x}}]",
    "name: x\nblocks: [{id: a, type: Shell, inputs: {command: [x]}}]",
    "name: x\nblocks: [{id: a, type: Shell, inputs: {command: x, env: [x]}}]",
    "name: x\nblocks: [{id: a, type: Shell, inputs: {command: x, timeout_seconds: soon}}]",
    "name: x\nblocks: [{id: a, type: Prompt, inputs: {text: x}}]",
    "name: x\nblocks: [{id: a, type: Prompt, inputs: {prompt: x, choices: []}}]",
    "name: x\nblocks: [{id: a, type: Prompt, inputs: {prompt: x, choices: [[a]]}}]",
    "name: x\nblocks: [{id: a, type: Workflow, inputs: {inputs: {}}}]",
    "name: x\nblocks: [{id: a, type: Workflow, inputs: {workflow: x, inputs: [1]}}]",
]


@pytest.mark.parametrize("text", WRONG)
def test_it_refuses_what_the_program_refuses(text: str) -> None:
    """As far as it can be known without the rest of the workflow."""
    assert not VALIDATOR.is_valid(parse_yaml(text))
    with pytest.raises(WorkflowDefinitionError):
        plan_workflow(read_workflow(f"{text}\n"))


@pytest.mark.parametrize(
    "block",
    [
        {"type": "Mine", "inputs": {"anything": [1, {"a": None}]}},
        {"type": "Shell", "inputs": {"command": 5, "env": {"A": 1, "B": True}, "timeout_seconds": "{{ inputs.n }}"}},
        {"type": "Shell", "inputs": {"command": "x", "env": "{{ inputs.env }}", "working_dir": None}},
        {"type": "Prompt", "inputs": {"prompt": "x", "choices": ["{{ inputs.a }}", 2, False]}},
        {
            "type": "Prompt",
            "inputs": {"prompt": "x", "choices": "{{ inputs.all }}", "default": 1, "timeout_seconds": 9},
        },
        {"type": "Workflow", "inputs": {"workflow": "{{ inputs.w }}", "inputs": "{{ inputs.all }}"}},
        {"type": "Shell", "inputs": {"command": "x"}, "retries": 2, "depends_on": ["b", {"block": "c"}]},
    ],
    ids=json.dumps,
)
def test_an_expression_may_stand_for_any_input(block: dict[str, Any]) -> None:
    """And a number or a bool for a text."""
    VALIDATOR.validate({"name": "x", "version": 1.2, "blocks": [{"id": "a", **block}]})
