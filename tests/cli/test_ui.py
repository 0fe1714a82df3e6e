"""`ui` as somebody meets it who starts it at a terminal."""

import asyncio
import os
import re
import shutil
import signal
import socket
import threading
import urllib.request
import webbrowser
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CLI
from workflows_mcp.cli.browser import open_browser
from workflows_mcp.cli.options import Options
from workflows_mcp.cli.page import say_through
from workflows_mcp.cli.ui import ui
from workflows_mcp.errors import SchemaOutOfDateError
from workflows_mcp.server.ui.paths import UiOptions
from workflows_mcp.settings import Settings

# Waited for by whatever opens it, as a browser in the terminal is.
BROWSER = """#!/bin/sh
echo "$1" > opened
read word < gate
exit 1
"""


@pytest.fixture
def runs_file(tmp_path: Path, sqlite_template: Path) -> Path:
    """A SQLite file with the schema, and no runs yet."""
    return Path(shutil.copy(sqlite_template, tmp_path / "runs.db"))


def test_pages_are_served_while_a_browser_that_is_waited_for_is_open(cli: CLI, runs_file: Path) -> None:
    """It may be one in the terminal, or look at the pages before it goes on; and when it fails, one line says so."""
    script, opened, gate = (cli.folder / name for name in ("browser", "opened", "gate"))
    script.write_text(BROWSER)
    script.chmod(0o755)
    for pipe in (opened, gate):
        os.mkfifo(pipe)
    holding = os.open(gate, os.O_RDWR)  # the browser stays for as long as this is open, and nothing was written
    words = ("ui", "--port", "0", "--open", "--database-url", runs_file)
    with cli.start_quickly(*words, env={"BROWSER": f"{script} %s"}) as process:
        try:
            assert process.stderr is not None
            told = process.stderr.readline()
            found = re.match(r"serving pages for people at ((http://127\.0\.0\.1:\d+)/ui), for everybody on", told)
            assert found is not None, told
            url, origin = found.groups()
            assert opened.read_text() == f"{url}\n"
            with urllib.request.urlopen(f"{origin}/healthz", timeout=10) as answer:
                assert answer.status == 200
            os.write(holding, b"go on\n")
            told = process.stderr.readline()
            assert told == f"no browser could be opened, or it failed; the pages are at {url}\n"
            process.send_signal(signal.SIGTERM)
            outcome = cli.finish(process)
        finally:
            os.close(holding)
            process.kill()
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


async def test_a_browser_that_cannot_be_opened_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the desktop's settings lead to; nothing is said of one that is open."""

    def fail(url: str) -> bool:
        if url.endswith("/error"):
            raise ValueError("No closing quotation")
        return url.endswith("/open")

    said: asyncio.Queue[str] = asyncio.Queue()
    monkeypatch.setattr(webbrowser, "open", fail)
    say_through(said.put_nowait)
    try:
        for page in ("open", "none", "error"):
            open_browser(f"http://h/{page}")
            if page != "open":
                async with asyncio.timeout(10):
                    told = await said.get()
                assert told == f"no browser could be opened, or it failed; the pages are at http://h/{page}"
        assert said.empty()
    finally:
        say_through(None)


async def test_of_a_browser_that_ends_together_with_the_server_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends both: that the browser failed is no news."""
    said: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    say_through(said.append)
    try:
        for ended, lines in ((signal.SIGINT, 0), (None, 1)):
            monkeypatch.setattr("workflows_mcp.cli.browser.first_signal", lambda ended=ended: ended)
            open_browser("http://h")
            for thread in threading.enumerate():
                if thread.name == "open a browser":
                    await asyncio.to_thread(thread.join)
            await asyncio.sleep(0)
            assert len(said) == lines
    finally:
        say_through(None)


@pytest.mark.parametrize(("given", "setting"), [(False, "false"), (True, "false"), (False, "true")])
async def test_what_is_served_is_what_was_asked_for(
    runs_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: bool,  # noqa: FBT001 - a parameter of the test
    setting: str,
) -> None:
    """Read-only by the option or for good; where it listens; and commands for the same database in any folder."""
    served: dict[str, Any] = {}

    async def serve(settings: Settings, **options: object) -> int:
        served.update(options, settings=settings)
        return 0

    monkeypatch.setattr("workflows_mcp.cli.ui.serve_http", serve)
    monkeypatch.setenv("WORKFLOWS_HTTP_UI_READ_ONLY", setting)
    options = Options(database_url=str(runs_file))
    assert await ui(host="localhost", port=1, read_only=given, open_=given, options=options) == 0
    pages: UiOptions = served["ui"]
    assert pages.read_only is (given or setting == "true")
    assert (served["agents"], served["opens"]) == (False, given)
    assert (served["settings"].http_host, served["settings"].http_port) == ("localhost", 1)
    assert pages.command("runs", "list") == f"workflows-mcp runs list --database-url {runs_file}"
    with pytest.raises(SchemaOutOfDateError, match="there is no SQLite database"):
        await ui(options=Options(database_url=str(runs_file.with_name("other.db"))))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_others_need_a_token(cli: CLI, runs_file: Path, host: str) -> None:
    """To listen where they can come in, without one, is refused."""
    outcome = cli("ui", "--host", host, "--port", "0", "--database-url", runs_file)
    assert outcome.code == 2
    assert f"others can reach {host}, so callers must show a token: set WORKFLOWS_HTTP_TOKEN or" in outcome.error()


def test_a_port_that_is_taken_is_told(cli: CLI, runs_file: Path) -> None:
    """With what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        outcome = cli("ui", "--port", str(port), "--database-url", runs_file)
    assert outcome.code == 1
    assert f"port {port} of 127.0.0.1 is in use" in outcome.error()
    assert "choose another port with --port, or 0 for any" in outcome.error()
