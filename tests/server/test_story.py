"""What all of this is for: a run waits for a human, longer than the server lives that it began on."""

from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.server.started import start_server

WORKFLOW = """
name: release
inputs:
  journal: {type: str}
blocks:
  - id: build
    type: Shell
    inputs: {command: "echo build >> {{ inputs.journal }}"}
  - id: approve
    type: Prompt
    depends_on: [build]
    inputs: {prompt: "Release it?", choices: ["yes", "no"]}
  - id: publish
    type: Shell
    depends_on: [approve]
    condition: "{{ blocks.approve.outputs.response == 'yes' }}"
    inputs: {command: "echo publish >> {{ inputs.journal }}"}
outputs:
  answer: "{{ blocks.approve.outputs.response }}"
"""


async def ask(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that must not fail; what it says to programs."""
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    assert isinstance(answer.structured_content, dict)
    return answer.structured_content


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_run_waits_for_its_answer_longer_than_its_server_lives(database_url: str, tmp_path: Path) -> None:
    """One client begins it, another one answers it, of another server, after the first server was killed."""
    journal = tmp_path / "journal"
    (tmp_path / "release.yaml").write_text(WORKFLOW)
    environment = {"WORKFLOWS_DATABASE_URL": database_url, "WORKFLOWS_TEMPLATE_PATHS": str(tmp_path)}

    first = await start_server(tmp_path, environment)
    async with Client(first.url) as agent:
        begun = await ask(agent, "execute_workflow", workflow="release", inputs={"journal": str(journal)})
    assert (begun["status"], begun["prompt"]) == ("paused", "Release it?")
    await first.kill()

    second = await start_server(tmp_path, environment)
    async with Client(second.url, mode="legacy") as colleague:
        [waiting] = (await ask(colleague, "list_runs", status="paused"))["runs"]
        assert (waiting["run_id"], waiting["workflow"]) == (begun["run_id"], "release")
        ended = await ask(colleague, "resume_workflow", checkpoint_id=waiting["checkpoint_id"], response="yes")
    assert await second.stop() == 0

    assert (ended["status"], ended["run_id"]) == ("success", begun["run_id"])
    assert ended["outputs"] == {"answer": "yes"}
    assert journal.read_text().splitlines() == ["build", "publish"], "each block ran once"
