"""What docs/mcp.md lists is what there is, and what it shows to be copied can be read."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from mcp import Client

from tests.documents.pieces import ROOT, Block, blocks_of
from workflows_mcp.server.app import build_server
from workflows_mcp.server.authoring import authoring_guide
from workflows_mcp.settings import Settings
from workflows_mcp.wiring import open_library

DOCUMENT = ROOT / "docs" / "mcp.md"
SETTINGS = Settings(database_url="memory://")  # type: ignore[arg-type] # pydantic makes a secret of it


def names_in(head: str) -> list[str]:
    """The first column of a table that begins with a head."""
    [table] = re.findall(rf"\n\| {head} \|[^\n]*\n\|[-|]+\|\n(.*?)\n\n", DOCUMENT.read_text(), re.DOTALL)
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


async def test_the_tools_resources_and_prompts_are_those_that_a_client_sees() -> None:
    """No more, no fewer; the prompt about writing workflows names tools that there are."""
    async with Client(build_server(SETTINGS)) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert set(names_in("tool")) == tools
        templates = (await client.list_resource_templates()).resource_templates
        assert set(names_in("URI")) == {template.uri_template for template in templates}
        assert set(names_in("prompt")) == {prompt.name for prompt in (await client.list_prompts()).prompts}
    guide = authoring_guide("anything") + authoring_guide("anything", inline=False)
    named = set(re.findall(r"\b(?:list|get|execute|validate|reload|resume|cancel|fork|delete)_[a-z_]+", guide))
    assert len(named) > 5
    assert named <= tools


async def test_the_parameters_of_the_tools_are_those_that_a_client_sees() -> None:
    """All of them, in the tools' own order, and in bold type those without which a tool is not called."""
    async with Client(build_server(SETTINGS)) as client:
        schemas = {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\| \S", DOCUMENT.read_text().partition("\n## Tools")[2], re.MULTILINE)
    shown = {name: re.findall(r"(\*{0,2})`(\w+)`", cell) for name, cell in rows if name in schemas}
    assert shown == {
        name: [("**" if one in schema.get("required", ()) else "", one) for one in schema.get("properties", {})]
        for name, schema in schemas.items()
    }


def test_the_built_in_workflows_are_those_of_a_fresh_installation() -> None:
    """By their names."""
    assert sorted(names_in("workflow")) == open_library(SETTINGS).names()


def configurations() -> Iterator[tuple[Block, dict[str, Any]]]:
    """Every file that is shown for a client, and the servers in it."""
    for block in blocks_of(DOCUMENT):
        if block.language in {"json", "toml"}:
            whole = (json.loads if block.language == "json" else tomllib.loads)(block.code)
            [servers] = [
                whole[name] for name in ("mcpServers", "servers", "context_servers", "mcp_servers") if name in whole
            ]
            yield block, servers


def test_every_file_for_a_client_starts_the_program_that_is_installed() -> None:
    """Without words, with settings that there are; or names a server over HTTP, with its token."""
    [program] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    known = {f"WORKFLOWS_{name.upper()}" for name in Settings.model_fields}
    seen = [server for _, servers in configurations() for server in servers.values()]
    assert len(seen) > 12
    for server in seen:
        if server.get("command") == "npx":
            assert server["args"][:3] == ["-y", "mcp-remote", "https://mcp.example.org/mcp"]
        elif "command" in server:
            assert (server["command"], server.get("args", [])) == (program, [])
            assert set(server["env"]) <= known
        else:
            [url] = [server[name] for name in ("url", "httpUrl", "serverUrl") if name in server]
            assert url == "https://mcp.example.org/mcp"
            assert "bearer_token_env_var" in server or server["headers"]["Authorization"].startswith("Bearer ")
