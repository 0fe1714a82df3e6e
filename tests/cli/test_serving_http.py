"""`serve --http` as an operator meets it."""

import asyncio
import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mcp import Client
from pydantic import SecretStr

from tests.cli.conftest import CLI, PASSWORD
from tests.server.http.served import TOKEN
from workflows_mcp import InMemoryCheckpointStore, WorkflowExecutor
from workflows_mcp.cli.serve import _told
from workflows_mcp.cli.serve_end import RunsToEnd
from workflows_mcp.server.http.doorway import open_doorway
from workflows_mcp.server.http.tokens import Tokens
from workflows_mcp.server.ui.paths import UiOptions
from workflows_mcp.settings import Settings

DATABASE = ("--database-url", "runs.db")


@contextmanager
def serving(cli: CLI, *words: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A server in a process of its own, which does not outlive its test."""
    with cli.start("serve", "--http", "--port", "0", *words, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_server_says_where_it_listens_and_ends_when_it_is_told_to(cli: CLI) -> None:
    """With one line, and exit code 0; meanwhile nobody else gets its port, and a second server says so."""
    with serving(cli, *DATABASE, "--ui-read-only", WORKFLOWS_HTTP_TOKEN=TOKEN) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"serving MCP at http://(127\.0\.0\.1:(\d+))/mcp, .*; runs are kept in .*\n", line)
        assert found is not None, line
        assert "/mcp, pages for people (read-only) at http" in line
        address, port = found.groups()
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=10) as answer:
            assert json.load(answer) == {"status": "ready"}
        taken = cli("serve", "--http", "--port", port, *DATABASE)
        assert (taken.code, f"port {port} of 127.0.0.1 is in use" in taken.error()) == (1, True)
        process.send_signal(signal.SIGTERM)
        outcome = cli.finish(process)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_ctrl_c_ends_a_server_in_peace(cli: CLI) -> None:
    """As it ends `recover --watch`; in a log of objects all lines are objects, the libraries' too.

    None shows the password, nor what a client sent, who cannot fill the log.
    """
    url = f"postgresql://somebody:{PASSWORD}@127.0.0.1:1/nothing"
    log = {"WORKFLOWS_LOG_FORMAT": "json", "WORKFLOWS_LOG_LEVEL": "debug"}
    about = {"name": "test", "version": "0"}
    begin: dict[str, object] = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": about}
    malformed: dict[str, object] = {"progressToken": ["canary"]}
    odd: dict[str, object] = {"jsonrpc": "2.0", "method": "notifications/progress", "params": malformed}
    with serving(cli, WORKFLOWS_DATABASE_URL=url, **log) as process:
        assert process.stderr is not None
        told = json.loads(process.stderr.readline())
        while not told["message"].startswith("serving MCP at"):
            told = json.loads(process.stderr.readline())
        assert "127.0.0.1:1" in told["message"]
        found = re.search(r"http://\S+/mcp", told["message"])
        assert found is not None
        session = post(found[0], {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": begin})
        for _ in range(3):
            post(found[0], odd, session)
        process.send_signal(signal.SIGINT)
        outcome = cli.finish(process)
    assert outcome.code == 0
    lines = [json.loads(line) for line in outcome.err.splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    assert [line["message"] for line in lines if line["logger"].startswith("mcp")] == ["dropped …: malformed params"]
    assert "canary" not in outcome.err


def test_of_runs_in_memory_it_is_said_that_they_end_with_the_server() -> None:
    """Nothing is kept anywhere."""
    with open_doorway("127.0.0.1", 0) as doorway:
        settings = Settings(database_url=SecretStr("memory://"))
        told = _told(doorway, Tokens(()), settings, "a store in memory", agents=True, ui=None)
    assert "; runs are kept in memory, and gone with this process; " in told


def test_an_address_that_stands_for_all_of_them_is_told_beside_one_that_can_be_called() -> None:
    """Nobody's browser can open http://0.0.0.0."""
    with open_doorway("0.0.0.0", 0) as doorway:
        settings = Settings(database_url=SecretStr("runs.db"), http_host="0.0.0.0")
        told = _told(doorway, Tokens(()), settings, "SQLite file runs.db", agents=True, ui=UiOptions())
        here = f"http://127.0.0.1:{doorway.port}"
    assert told.startswith(f"serving MCP at {here}/mcp, pages for people at {here}/ui (listening on 0.0.0.0), for ")


def post(url: str, message: dict[str, object], session: str = "") -> str:
    """Send a message as a client of an older protocol does; the session that it got, if any."""
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    headers |= {"mcp-session-id": session} if session else {}
    request = urllib.request.Request(url, json.dumps(message).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()
        return str(answer.headers.get("mcp-session-id") or "")


async def test_a_server_that_waits_for_runs_says_so(cli: CLI) -> None:
    """How long it waits, for how many, how not to wait, and what becomes of them."""
    text = "{name: long, blocks: [{id: a, type: Shell, inputs: {command: sleep 300}}]}"
    with serving(cli, *DATABASE, WORKFLOWS_HTTP_GRACE_SECONDS="0.3") as process:
        assert process.stderr is not None
        url = re.findall(r"http://\S+/mcp", process.stderr.readline())[0]
        async with Client(url) as client:
            await client.call_tool("execute_inline_workflow", {"workflow_yaml": text, "wait": False})
        process.send_signal(signal.SIGTERM)
        outcome = await asyncio.to_thread(cli.finish, process)
    assert outcome.code == 0
    assert outcome.err.splitlines() == [
        "stopping: waits up to 0.3 s for 1 run to save; Ctrl-C, or SIGTERM, stops it now",
        "stopped; 1 run goes on elsewhere, or at the next start",
    ]


@pytest.mark.parametrize(
    ("many", "told"),
    [
        (
            1,
            "stopped; 1 run waits for a server to go on with it, or for you: workflows-mcp recover --env-file x -- -r0",
        ),
        (2, "stopped; 2 runs wait for a server to go on with them, or for you: workflows-mcp recover --env-file x"),
    ],
)
async def test_pages_that_are_stopped_tell_how_their_runs_go_on(
    capsys: pytest.CaptureFixture[str], many: int, told: str
) -> None:
    """They look after no database: when they are started anew, they go on with nothing."""
    executor = WorkflowExecutor(InMemoryCheckpointStore())
    runs = RunsToEnd(executor, outlives=True, command=UiOptions(words=("--env-file", "x")).command)
    for number in range(many):
        await executor.start_workflow(LONG % "sleep 300", run_id=f"-r{number}")
    await runs.end(0)
    runs.tell()
    assert capsys.readouterr().err.splitlines() == [told]


LONG = """name: long
blocks:
  - {id: a, type: Shell, inputs: {command: "%s"}}
"""


@pytest.mark.parametrize(
    ("command", "outlives", "told"),
    [
        ("sleep 300", True, "stopped; 1 run goes on elsewhere, or at the next start"),
        ("sleep 300", False, "stopped; 1 run is gone with the memory of the server"),
        ("true", True, "stopped; every run has come to its end, or to a question"),
    ],
)
async def test_the_last_word_is_what_has_become_of_the_runs(
    capsys: pytest.CaptureFixture[str], command: str, *, outlives: bool, told: str
) -> None:
    """Where there were none, there is none."""
    executor = WorkflowExecutor(InMemoryCheckpointStore())
    runs = RunsToEnd(executor, outlives=outlives)
    runs.tell()
    assert capsys.readouterr().err == ""
    await executor.start_workflow(LONG % command)
    await runs.end(0 if "sleep" in command else 60)
    runs.tell()
    assert capsys.readouterr().err.splitlines()[-1] == told


@pytest.mark.parametrize(
    ("words", "environment", "code", "problem"),
    [
        (["--http", "--host", "0.0.0.0"], {}, 2, "set WORKFLOWS_HTTP_TOKEN or"),
        (["--http"], {"WORKFLOWS_HTTP_HOST": "::"}, 2, "set WORKFLOWS_HTTP_TOKEN or"),
        (["--http", "--host", "0.0.0.0"], {"WORKFLOWS_HTTP_TOKEN": "guess-me"}, 1, "has 8 characters"),
        (
            ["--http"],
            {"WORKFLOWS_HTTP_TOKEN_FILE": "missing"},
            1,
            "'missing' of WORKFLOWS_HTTP_TOKEN_FILE cannot be read",
        ),
        (["--http"], {"WORKFLOWS_HTTP_ALLOWED_HOSTS": "*"}, 1, "WORKFLOWS_HTTP_ALLOWED_HOSTS: "),
        (["--http", "--port", "70000"], {}, 2, "65535"),
        (["--host", "127.0.0.1"], {}, 2, "go together with --http"),
        (["--stateless"], {}, 2, "go together with --http"),
        (["--ui-read-only"], {}, 2, "go together with --http"),
    ],
)
def test_what_must_not_be_served_is_refused_at_the_start(
    cli: CLI, words: list[str], environment: dict[str, str], code: int, problem: str
) -> None:
    """In one line that says what to set, before a database is thought of: this one would be refused, too."""
    outcome = cli("serve", *words, "--database-url", "mysql://nobody/nothing", env=environment)
    assert (outcome.code, problem in outcome.error()) == (code, True), outcome.err
    assert "guess-me" not in outcome.err
