"""The MCP Inspector's command line speaks with the server; run by name, since it is fetched from npm and takes long."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.server.started import start_server
from workflows_mcp import upgrade_schema

INSPECTOR = ["npx", "-y", "@modelcontextprotocol/inspector@2.12.0", "--cli"]

WORKFLOW = """
name: greet
blocks:
  - {id: ask, type: Prompt, inputs: {prompt: "Who is there?"}}
  - {id: greet, type: Shell, depends_on: [ask], inputs: {command: "echo hello {{ blocks.ask.outputs.response }}"}}
outputs:
  said: "{{ blocks.greet.outputs.stdout | trim }}"
"""

pytestmark = [
    pytest.mark.skipif(shutil.which("npx") is None, reason="needs Node: the Inspector is run by npx"),
    pytest.mark.timeout(300),  # the first time, it is downloaded
]


class Inspector:
    """The Inspector, with a server as its target.

    Args:
        target: Its arguments that name the server.
        folder: Where it works, and keeps what it keeps.
    """

    def __init__(self, target: list[str], folder: Path) -> None:
        self._target = target
        self._folder = folder

    async def ask(self, method: str, *words: str) -> dict[str, Any]:
        """The answer to one call."""
        # It writes into the home folder; what npx has downloaded stays where it is.
        cache = os.environ.get("NPM_CONFIG_CACHE", str(Path.home() / ".npm"))
        process = await asyncio.create_subprocess_exec(
            *(*INSPECTOR, *self._target, "--method", method, *words),
            cwd=self._folder,
            env={**os.environ, "HOME": str(self._folder), "NPM_CONFIG_CACHE": cache},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, f"{out.decode()}\n{err.decode()}"
        answer: dict[str, Any] = json.loads(out)
        return answer

    async def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """What a tool says to programs."""
        answer = await self.ask("tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        assert not answer["isError"], answer
        told: dict[str, Any] = answer["structuredContent"]
        return told


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_the_inspector_runs_a_workflow_and_answers_it(transport: str, tmp_path: Path) -> None:
    """It lists the tools, and finds nothing in them that some client could not read; each call is a new client."""
    environment = {"WORKFLOWS_DATABASE_URL": str(tmp_path / "runs.db"), "WORKFLOWS_TEMPLATE_PATHS": str(tmp_path)}
    (tmp_path / "greet.yaml").write_text(WORKFLOW)
    await upgrade_schema(tmp_path / "runs.db")
    server = await start_server(tmp_path, environment) if transport == "http" else None
    if server is None:
        settings = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
        inspector = Inspector([*settings, sys.executable, "-m", "workflows_mcp"], tmp_path)
    else:
        inspector = Inspector([server.url], tmp_path)

    tools = (await inspector.ask("tools/list", "--strict"))["tools"]
    assert {"execute_workflow", "resume_workflow", "list_runs"} <= {tool["name"] for tool in tools}

    asked = await inspector.call("execute_workflow", workflow="greet", run_id="one")
    assert (asked["status"], asked["prompt"]) == ("paused", "Who is there?")
    ended = await inspector.call("resume_workflow", checkpoint_id=asked["checkpoint_id"], response="Ann")
    assert (ended["status"], ended["run_id"], ended["outputs"]) == ("success", "one", {"said": "hello Ann"})
    if server is not None:
        assert await server.stop() == 0
