"""A server and the SDK's real client of it, in this process, and what they say to each other."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mcp import Client
from mcp_types import CallToolResult, TextContent, TextResourceContents

from workflows_mcp.server.app import build_server
from workflows_mcp.server.http.tokens import load_tokens
from workflows_mcp.server.services import Services, open_services
from workflows_mcp.settings import Settings, load_settings

__all__ = ["MODES", "WORKFLOWS", "Conversation", "Mode", "Said", "settings_of", "talking", "until", "write_workflows"]

Mode = Literal["auto", "legacy"]

MODES: tuple[Mode, ...] = ("auto", "legacy")
"""The protocol of today, and the one before."""

WORKFLOWS = {
    "greet": """
inputs:
  who: {type: str}
blocks:
  - {id: hello, type: Shell, inputs: {command: "echo hello {{ inputs.who | shquote }}"}}
outputs:
  said: "{{ blocks.hello.outputs.stdout | trim }}"
""",
    "approve": """
blocks:
  - {id: build, type: Shell, inputs: {command: "true"}}
  - {id: ask, type: Prompt, depends_on: [build], inputs: {prompt: "Deploy?", choices: ["yes", "no"]}}
  - {id: deploy, type: Shell, depends_on: [ask], inputs: {command: "echo {{ blocks.ask.outputs.response }}"}}
outputs:
  answer: "{{ blocks.deploy.outputs.stdout | trim }}"
""",
    "ticket": r"""
blocks:
  - {id: ask, type: Prompt, inputs: {prompt: "Which ticket?", pattern: '[A-Z]+-\d+'}}
outputs:
  ticket: "{{ blocks.ask.outputs.response }}"
""",
    "anything": """
blocks:
  - {id: ask, type: Prompt, inputs: {prompt: "What is it?"}}
outputs:
  said: "{{ blocks.ask.outputs.response }}"
""",
    "wait_for": """
inputs:
  gate: {type: str}
  mark: {type: str}
blocks:
  - id: wait
    type: Shell
    inputs: {command: "echo x >> {{ inputs.mark }}; while [ ! -e {{ inputs.gate }} ]; do sleep 0.02; done"}
outputs:
  done: true
""",
    "fail": """
blocks:
  - {id: broken, type: Shell, inputs: {command: "echo no such host >&2; exit 3"}}
""",
    "call_missing": """
blocks:
  - {id: call, type: Workflow, inputs: {workflow: not_there}}
""",
}
"""What the servers of these tests have, by name, without the line that names each."""


def write_workflows(folder: Path) -> Path:
    """A folder with the workflows."""
    library = folder / "library"
    library.mkdir(exist_ok=True)
    for name, text in WORKFLOWS.items():
        (library / f"{name}.yaml").write_text(f"name: {name}\n{text}")
    return library


def settings_of(folder: Path, url: str = "memory://", **others: Any) -> Settings:
    """Settings with the workflows, and with a database."""
    return load_settings(database_url=url, template_paths=(write_workflows(folder),), **others)


@dataclass(frozen=True)
class Said:
    """What a tool answered.

    Attributes:
        text: What a model reads.
        data: What a program reads.
        is_error: Whether it says what went wrong.
    """

    text: str
    data: dict[str, Any]
    is_error: bool

    @classmethod
    def of(cls, result: CallToolResult) -> "Said":
        """An answer."""
        [content] = result.content
        assert isinstance(content, TextContent)
        return cls(content.text, result.structured_content or {}, bool(result.is_error))


@dataclass(frozen=True)
class Conversation:
    """A client, and the server that it speaks with.

    Attributes:
        client: The SDK's.
        services: What the server works with.
    """

    client: Client
    services: Services

    async def __call__(self, tool: str, **arguments: object) -> Said:
        """Call a tool, whatever comes of it."""
        return Said.of(await self.client.call_tool(tool, arguments))

    async def ok(self, tool: str, **arguments: object) -> Said:
        """Call a tool that is to succeed."""
        said = await self(tool, **arguments)
        assert not said.is_error, said.text
        return said

    async def refused(self, tool: str, **arguments: object) -> str:
        """Call a tool that is not to succeed; what it says about that."""
        said = await self(tool, **arguments)
        assert said.is_error, said.text
        assert not said.data
        return said.text

    async def read(self, uri: str) -> str:
        """What a resource holds."""
        [content] = (await self.client.read_resource(uri)).contents
        assert isinstance(content, TextResourceContents)
        return content.text


@asynccontextmanager
async def talking(settings: Settings, mode: Mode = "auto", **options: Any) -> AsyncIterator[Conversation]:
    """Speak with a server of these settings."""
    async with (
        open_services(settings, grace_seconds=0) as services,
        Client(build_server(services, tokens=load_tokens(settings)), mode=mode, **options) as client,
    ):
        yield Conversation(client, services)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    while not is_so():  # noqa: ASYNC110 - it is so outside of this process
        await asyncio.sleep(0.01)
