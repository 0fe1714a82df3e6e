"""What the server offers says what it is, to a model that has never seen it."""

from pathlib import Path

import jsonschema
import pytest
from mcp_types import Tool

from tests.server.conversation import MODES, Mode, settings_of, talking

READ_ONLY = {
    "list_workflows",
    "get_workflow_info",
    "get_workflow_schema",
    "validate_workflow_yaml",
    "list_runs",
    "get_run",
    "list_checkpoints",
    "get_checkpoint_info",
    "get_checkpoint_stats",
}
DESTRUCTIVE = {
    "execute_workflow",
    "execute_inline_workflow",
    "resume_workflow",
    "fork_run",
    "cancel_run",
    "delete_checkpoint",
}
OPEN_WORLD = {"execute_workflow", "execute_inline_workflow", "resume_workflow", "fork_run"}
PARAMETERS = {
    "execute_workflow": ["workflow", "inputs"],
    "execute_inline_workflow": ["workflow_yaml", "inputs"],
    "resume_workflow": ["checkpoint_id", "response"],
    "list_workflows": ["tags"],
    "get_workflow_info": ["workflow"],
    "get_workflow_schema": [],
    "validate_workflow_yaml": ["yaml_content"],
    "reload_workflows": [],
    "list_runs": ["status"],
    "get_run": ["run_id"],
    "cancel_run": ["run_id"],
    "fork_run": ["checkpoint_id"],
    "list_checkpoints": ["workflow_name", "status", "limit", "before"],
    "get_checkpoint_info": ["checkpoint_id"],
    "delete_checkpoint": ["checkpoint_id"],
    "get_checkpoint_stats": [],
}
"""Every tool, and the parameters that callers count on."""

_SHORTEST_DESCRIPTION = 60


def flaws_of(tool: Tool) -> list[str]:
    """What a tool does not say of itself."""
    notes = tool.annotations
    parameters = tool.input_schema.get("properties", {})
    said = {
        "a title": bool(tool.title),
        "a description": len(tool.description or "") >= _SHORTEST_DESCRIPTION and "." in str(tool.description),
        "its parameters": set(PARAMETERS[tool.name]) <= set(parameters),
        "the schema of what it gives": tool.output_schema is not None and tool.output_schema["type"] == "object",
        "whether it reads only": notes is not None and notes.read_only_hint is (tool.name in READ_ONLY),
        "whether it reaches out": notes is not None and notes.open_world_hint is (tool.name in OPEN_WORLD),
    }
    if tool.name not in READ_ONLY:
        said["whether it destroys"] = notes is not None and notes.destructive_hint is (tool.name in DESTRUCTIVE)
    said |= {f"what {name} is": "description" in one for name, one in parameters.items()}
    return [what for what, is_said in said.items() if not is_said]


@pytest.mark.parametrize("mode", MODES)
async def test_every_tool_says_what_it_is(tmp_path: Path, mode: Mode) -> None:
    """Its title, a sentence at least, each parameter, what it gives, and what a client may assume of it."""
    async with talking(settings_of(tmp_path), mode) as call:
        tools = (await call.client.list_tools()).tools
    assert {tool.name for tool in tools} == PARAMETERS.keys()
    assert {tool.name: flaws for tool in tools if (flaws := flaws_of(tool))} == {}
    for tool in tools:
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        jsonschema.Draft202012Validator.check_schema(tool.output_schema or {})


async def test_what_every_tool_gives_fits_the_schema_that_it_publishes(tmp_path: Path) -> None:
    """Of a run that has all there is to tell: blocks, a question, history."""
    async with talking(settings_of(tmp_path)) as call:
        tools = {tool.name: tool for tool in (await call.client.list_tools()).tools}
        asked = await call.ok("execute_workflow", workflow="approve", run_id="one")
        history = await call.ok("list_checkpoints", run_id="one")
        old = history.data["checkpoints"][-1]["checkpoint_id"]
        arguments: dict[str, dict[str, object]] = {
            "list_workflows": {},
            "get_workflow_info": {"workflow": "approve", "include_yaml": True},
            "get_workflow_schema": {},
            "validate_workflow_yaml": {"yaml_content": "name: x"},
            "reload_workflows": {},
            "list_runs": {},
            "get_run": {"run_id": "one"},
            "list_checkpoints": {},
            "get_checkpoint_info": {"checkpoint_id": asked.data["checkpoint_id"]},
            "get_checkpoint_stats": {},
            "fork_run": {"checkpoint_id": asked.data["checkpoint_id"]},
            "execute_inline_workflow": {
                "workflow_yaml": "{name: x, blocks: [{id: a, type: Shell, inputs: {command: 'true'}}]}"
            },
            "resume_workflow": {"checkpoint_id": asked.data["checkpoint_id"], "response": "yes"},
            "execute_workflow": {"workflow": "greet", "inputs": {"who": "Ann"}},
            "cancel_run": {"run_id": "one"},
            "delete_checkpoint": {"checkpoint_id": old},
        }
        assert arguments.keys() == tools.keys()
        for name, given in arguments.items():
            said = await call.ok(name, **given)
            assert said.text
            schema = tools[name].output_schema or {}
            jsonschema.Draft202012Validator(schema).validate(said.data)
            # Nothing is given that the schema does not know.
            assert said.data.keys() <= schema["properties"].keys()


async def test_nothing_is_told_of_what_a_server_does_not_offer(tmp_path: Path) -> None:
    """No tool, and no block type, that is switched off."""
    async with talking(settings_of(tmp_path, disabled_blocks=("Shell",), inline_workflows=False)) as call:
        tools = (await call.client.list_tools()).tools
        told = "".join(tool.model_dump_json() for tool in tools)
        schema = await call.ok("get_workflow_schema")
    for word in ("execute_inline_workflow", "Shell", "shell"):
        assert word not in told
    assert "Shell" not in schema.text
    jsonschema.validate({"name": "a", "blocks": [{"id": "a", "type": "Theirs"}]}, schema.data["json_schema"])


@pytest.mark.parametrize("workflow", ["guarded-command", "group-approval", "checklist", "ask-human", "run-command"])
async def test_a_workflow_that_asks_by_another_one_is_said_to_ask(tmp_path: Path, workflow: str) -> None:
    """However deep in it."""
    async with talking(settings_of(tmp_path)) as call:
        page = await call.ok("get_workflow_info", workflow=workflow)
    assert page.data["asks_a_human"] is (workflow != "run-command")
    assert ("It asks a human" in page.text) is page.data["asks_a_human"]
