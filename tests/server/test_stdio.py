"""An MCP client starts `workflows-mcp` and speaks to it over stdin and stdout; it ends cleanly, however it ends."""

import asyncio
import itertools
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.server.conversation import Said, until, write_workflows
from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.server import stdio

PRINTING = """
import os, sys, warnings
from workflows_mcp.cli import main
from workflows_mcp.engine.blocks import block_type

@block_type
def Chatter() -> str:
    print("printed by Python", flush=True)
    os.write(1, b"written to file descriptor 1\\n")
    warnings.warn("a warning")
    os.system("echo said by a child")
    return repr(sys.stdin.read())

sys.argv[1:] = []
main()
"""
"""The bare command, in a process that has a block type which knows no manners."""


def environment(folder: Path, database: str | Path) -> dict[str, str]:
    """What the server's process has, and nothing else."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "WORKFLOWS_DATABASE_URL": str(database),
        "WORKFLOWS_TEMPLATE_PATHS": str(write_workflows(folder)),
        "WORKFLOWS_LEASE_SECONDS": "5",
    }


class Peer:
    """Speaks the older protocol with a server's process, line by line, and sees all that it writes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def send(self, line: bytes) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        await self.process.stdin.drain()

    async def ask(self, number: int, method: str, **params: object) -> dict[str, Any]:
        """Send it a request, and wait for the answer; whatever else comes must be of the protocol, too."""
        assert self.process.stdout is not None
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        await self.send(json.dumps(request).encode())
        while True:
            self.lines.append(json.loads(await self.process.stdout.readline()))
            if self.lines[-1].get("id") == number:
                return dict(self.lines[-1]["result"])

    async def greet(self) -> None:
        """Begin."""
        client = {"name": "test", "version": "1"}
        await self.ask(0, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        await self.send(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}')

    async def call(self, number: int, tool: str, **arguments: object) -> dict[str, Any]:
        """Call a tool; what it answers as data."""
        answer = await self.ask(number, "tools/call", name=tool, arguments=arguments)
        assert not answer.get("isError"), answer
        return dict(answer["structuredContent"])

    async def end(self) -> tuple[int, str]:
        """Wait for its end; its exit code, and what it wrote on stderr. Nothing more may stand on stdout."""
        out, err = await asyncio.wait_for(self.process.communicate(), 30)
        assert [json.loads(line)["jsonrpc"] for line in out.splitlines()] == ["2.0"] * len(out.splitlines())
        return self.process.returncode or 0, err.decode()


@asynccontextmanager
async def started(env: dict[str, str], *words: str, **streams: Any) -> AsyncIterator[Peer]:
    """A process of the server; killed at the latest with the block."""
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(sys.executable, *words, env=env, limit=2**24, **{**pipes, **streams})
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_run_is_begun_in_one_process_and_answered_in_another(tmp_path: Path) -> None:
    """By the SDK's client, as an agent's program starts the bare command; each process ends with its client."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "workflows_mcp"], env=environment(tmp_path, tmp_path / "runs.db")
    )
    async with Client(server) as client:
        paused = Said.of(await client.call_tool("execute_workflow", {"workflow": "approve"}))
        assert paused.data["prompt"] == "Deploy?"
        left = {"gate": str(tmp_path / "gate"), "mark": str(tmp_path / "mark")}
        arguments = {"workflow": "wait_for", "inputs": left, "run_id": "left", "wait": False}
        await client.call_tool("execute_workflow", arguments)
        await until((tmp_path / "mark").exists)
    (tmp_path / "gate").touch()
    async with Client(server, mode="legacy") as client:
        answer = {"checkpoint_id": paused.data["checkpoint_id"], "response": "yes"}
        ended = Said.of(await client.call_tool("resume_workflow", answer))
        assert ended.data["outputs"] == {"answer": "yes"}
        # The other run was stopped with its server, and this one has gone on with it at once.
        ended = Said.of(await client.call_tool("execute_workflow", {**arguments, "wait": True, "wait_seconds": 20}))
        assert ended.data["status"] == "success"
    assert (tmp_path / "mark").read_text() == "x\nx\n"


async def test_stdout_is_the_protocols_alone_and_sigterm_leaves_runs_to_be_recovered(tmp_path: Path) -> None:
    """Whatever blocks print, and whatever nonsense comes in; what was at work is let go of, and nothing is said."""
    database = tmp_path / "runs.db"
    async with started(environment(tmp_path, database), "-c", PRINTING) as peer:
        await peer.send(b"this is no JSON")
        await peer.send(b'{"jsonrpc": "2.0", "id": 77, "method": "no/such", "params": 5}')
        await peer.send(b"[" * 3_000_000)
        await peer.send(b"\xff\xfe\x00")
        await peer.greet()
        text = "{name: chat, blocks: [{id: a, type: Chatter}], outputs: {read: '{{ blocks.a.outputs.result }}'}}"
        chatted = await peer.call(1, "execute_inline_workflow", workflow_yaml=text)
        assert chatted["outputs"] == {"read": "''"}
        text = "{name: long, blocks: [{id: a, type: Shell, inputs: {command: sleep 300}}]}"
        begun = await peer.call(2, "execute_inline_workflow", workflow_yaml=text, wait=False)
        assert begun["status"] == "running"
        peer.process.send_signal(signal.SIGTERM)
        code, err = await peer.end()
    assert code == 0
    assert sorted(err.splitlines()) == sorted(
        ["printed by Python", "written to file descriptor 1", "said by a child", *warning_lines(err)]
    )
    async with SQLAlchemyCheckpointStore(str(database)) as store:
        [abandoned] = await store.list_abandoned()
    assert abandoned.run_id == begun["run_id"]


def warning_lines(err: str) -> list[str]:
    """What Python says of a warning: where, and which line it was."""
    lines = err.splitlines()
    index = next(number for number, line in enumerate(lines) if "a warning" in line)
    return [line for line in lines[index : index + 2] if "warn" in line]


async def test_what_cannot_be_written_as_utf_8_ends_no_server(tmp_path: Path) -> None:
    """A name of a file in another encoding; half of a character in an argument that is JSON within JSON."""
    odd = os.fsencode(write_workflows(tmp_path)) + b"/caf\xe9.yaml"
    with open(odd, "w") as file:  # noqa: ASYNC230, PTH123 - a path of text would be another one
        file.write("name: cafe\nblocks: [{id: a, type: Prompt, inputs: {prompt: Tea}}]\n")
    async with started(environment(tmp_path, "memory://"), "-m", "workflows_mcp") as peer:
        await peer.greet()
        rows = (await peer.call(1, "list_workflows"))["workflows"]
        assert {row["name"]: row["source"] for row in rows}["cafe"] == r"library/caf\udce9.yaml"
        answer = await peer.ask(2, "tools/call", name="list_workflows", arguments={"tags": r'["\ud800"]'})
        assert answer["content"] == [{"type": "text", "text": r"0 workflows with \ud800."}]
        answer = await peer.ask(3, "prompts/get", name="author_workflow", arguments={"task": "x"})
        assert answer["messages"]


async def test_at_a_terminal_it_says_what_it_is_and_ctrl_c_ends_it_in_one_line(tmp_path: Path) -> None:
    """A person who types the bare command learns where to go."""
    ours, theirs = pty.openpty()
    try:
        env = environment(tmp_path, "memory://")
        async with started(env, "-m", "workflows_mcp", stdin=theirs) as peer:
            assert peer.process.stderr is not None
            told = (await peer.process.stderr.readline()).decode()
            peer.process.send_signal(signal.SIGINT)
            code, err = await peer.end()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "this is an MCP server" in told
    assert "workflows-mcp --help" in told
    assert (code, err) == (130, "interrupted\n")


@contextmanager
def wire_and_client() -> Iterator[tuple[stdio._Wire, int]]:
    """The streams of a server, and the end of a pipe from which its client would read."""
    pipes = [os.pipe(), os.pipe()]
    wire = stdio._Wire(pipes[0][0], pipes[1][1])
    yield wire, pipes[1][0]
    wire.close()
    for one in itertools.chain(*pipes):
        os.close(one)


async def test_a_client_that_reads_slowly_is_sent_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much it is, and also when the server has been told to end."""
    monkeypatch.setattr(stdio, "_MILLISECONDS_FOR_THE_LAST", 20_000)
    text = "0123456789" * 50_000
    with wire_and_client() as (wire, client):
        writing = asyncio.create_task(asyncio.to_thread(print, text, end="", file=wire.stdout, flush=True))
        got = await asyncio.to_thread(os.read, client, 1000)
        wire.end()
        while len(got) < len(text):
            got += await asyncio.to_thread(os.read, client, 100_000)
        await writing
    assert got.decode() == text
    # Its number may be that of another file by now, to which nothing must be written.
    print("too late", file=wire.stdout, flush=True)


async def test_a_client_that_reads_nothing_keeps_no_server_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not take is dropped, once the server is to end."""
    monkeypatch.setattr(stdio, "_MILLISECONDS_FOR_THE_LAST", 10)
    with wire_and_client() as (wire, _):
        writing = asyncio.create_task(asyncio.to_thread(print, "x" * 1_000_000, file=wire.stdout, flush=True))
        reading = asyncio.create_task(asyncio.to_thread(wire.stdin.readline))
        done, _ = await asyncio.wait([writing, reading], timeout=0.1)
        assert not done
        wire.end()
        await asyncio.wait_for(writing, 20)
        assert await asyncio.wait_for(reading, 20) == ""


async def test_a_client_that_is_gone_is_an_end() -> None:
    """Without an error; what was meant for it is dropped."""
    with wire_and_client() as (wire, client):
        with open(os.devnull, "rb") as nothing:  # noqa: ASYNC230, PTH123 - a file descriptor is wanted
            os.dup2(nothing.fileno(), client)
        reading = asyncio.create_task(asyncio.to_thread(wire.stdin.readline))
        print("to nobody", file=wire.stdout, flush=True)
        assert await asyncio.wait_for(reading, 20) == ""
