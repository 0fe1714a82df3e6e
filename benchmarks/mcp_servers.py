"""The servers that `bench mcp` compares; as a command, one of them serves.

`bare` is the SDK's own server with one tool that gives back what it is given. `ours` is `workflows-mcp serve` as it is;
over HTTP it has a block type that does nothing. Over HTTP both are served by uvicorn, without a log of requests.
"""

import functools
import os
import sys
from pathlib import Path

__all__ = ["WORKFLOWS", "command_of", "environment_of", "register_nothing", "write_workflows"]

WORKFLOWS = {
    "nothing": "blocks: [{id: step, type: Nothing}]",
    # What a server runs that knows no block types but its own: the question is never asked.
    "skipped": """blocks: [{id: step, type: Prompt, condition: "{{ 1 > 2 }}", inputs: {prompt: "Why?"}}]""",
}
"""What our servers can run, by name."""


def write_workflows(folder: Path) -> None:
    """Put the workflows into a folder."""
    for name, text in WORKFLOWS.items():
        (folder / f"{name}.yaml").write_text(f"name: {name}\n{text}\n")


def command_of(whose: str, port: int | None = None) -> list[str]:
    """The command that serves over HTTP at a port of the loopback interface; without a port, over stdio."""
    if port is None and whose == "ours":
        return [sys.executable, "-m", "workflows_mcp"]
    return [sys.executable, "-m", "benchmarks.mcp_servers", whose, *([] if port is None else [str(port)])]


def environment_of(folder: Path, url: str) -> dict[str, str]:
    """All that stands in the environment of a server, with its workflows and its database."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "WORKFLOWS_DATABASE_URL": url,
        "WORKFLOWS_TEMPLATE_PATHS": str(folder),
        "WORKFLOWS_AUTO_CLEANUP": "false",
    }


@functools.cache
def register_nothing() -> None:
    """Make a block type that does nothing."""
    from workflows_mcp import block_type

    @block_type("Nothing")
    async def nothing() -> None:
        pass


def _serve_bare(port: int | None) -> None:
    from mcp.server import MCPServer

    server = MCPServer("bare", log_level="WARNING")

    @server.tool()
    async def echo(text: str) -> str:
        """Give back what it is given."""
        return text

    if port is None:
        server.run()
        return
    import uvicorn

    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=port, log_level="warning", access_log=False)


def _serve_ours(port: int) -> None:
    from workflows_mcp.cli.entry import run_command_line

    register_nothing()
    sys.exit(run_command_line(["serve", "--http", "--port", str(port)]))


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        _serve_bare(int(sys.argv[2]) if sys.argv[2:] else None)
    else:
        _serve_ours(int(sys.argv[2]))
