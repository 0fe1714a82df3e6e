"""What is printed on a terminal."""

import io
import json
import math
import sys
import time

import pytest

from tests.cli.test_watch import run_of
from workflows_mcp.cli.failures import CommandError, one_line
from workflows_mcp.cli.options import Options
from workflows_mcp.cli.page import Page, print_json
from workflows_mcp.cli.results import show_result, what_is_taken
from workflows_mcp.cli.telling import Teller
from workflows_mcp.cli.views import JsonView, result_of_view
from workflows_mcp.engine.events import RunStarted
from workflows_mcp.testing.values import nested

ID = "0123456789abcdef0123456789abcdef"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """See `io.IOBase.isatty`."""
        return True


@pytest.fixture(autouse=True)
def terminal_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that can do all that is needed."""
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(("width", "has_frame"), [(30, False), (80, True)])
def test_a_cell_is_never_broken(monkeypatch: pytest.MonkeyPatch, width: int, has_frame: bool) -> None:  # noqa: FBT001
    """An id can be copied from a narrow terminal too."""
    monkeypatch.setenv("COLUMNS", str(width))
    terminal = Terminal()
    Page(terminal).table(["created", "checkpoint"], [["2026-01-01 10:00:00", ID]])
    assert ID in terminal.getvalue()
    assert ("\u2500" in terminal.getvalue()) == has_frame


def test_names_cannot_move_the_cursor_of_a_terminal() -> None:
    """Neither a run id that was typed nor a workflow's name."""
    line = Teller().tell(RunStarted("r\x1b[2J", "w\x9b\n", (("a",),), 0, continued=False))
    assert line == "run r [2J of w : 1 blocks in 1 waves"


def test_json_on_a_terminal_has_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is the same JSON."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_json({"a": "\x1b\x7f\x9b ü"})
    assert "\\u009b ü" in terminal.getvalue()
    assert json.loads(terminal.getvalue()) == {"a": "\x1b\x7f\x9b ü"}
    assert terminal.getvalue().replace("\n", "").isprintable()


def test_what_is_nested_deeper_than_python_goes_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON it is an error, since no program could tell such words from data."""
    deep = nested(100_000)
    run = result_of_view(run_of(status="success", outputs={"deep": deep, "text": "x"}))
    show_result(run, None, Options())
    assert capsys.readouterr().out == "success: run r\n  deep: (nested too deeply to be shown)\n  text: x\n"
    assert what_is_taken({"choices": [deep]}) == "one of: (nested too deeply to be shown)"
    assert what_is_taken({"pattern": deep}) == "(nested too deeply to be shown)"
    for value in (deep, [deep, math.nan]):
        with pytest.raises(CommandError, match="nested too deeply for JSON"):
            print_json(value)
    with pytest.raises(CommandError, match="nested too deeply for JSON"):
        JsonView().show(run_of(status="success", outputs={"deep": deep}))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_no_text_moves_the_cursor_of_any_terminal(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Whatever it can do. In a file or a pipe a text is as it is."""
    monkeypatch.setenv("TERM", kind)
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        page = Page(stream)
        for tell in (page.line, page.prose, page.markdown, page.heading):
            tell("a\x1b]0;b\x07\x9b31m")
    assert not any(character in terminal.getvalue() for character in "\x07\x9b")
    assert "\x1b]" not in terminal.getvalue()
    assert file.getvalue().count("a\x1b]0;b\x07\x9b31m\n") == 4


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_a_cell_of_megabytes_is_cut_and_costs_no_time(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Since no id or name is that long; one that is as long as can be is whole."""
    monkeypatch.setenv("TERM", kind)
    terminal = Terminal()
    started = time.perf_counter()
    Page(terminal).table(["workflow", "run"], [["w" * 3_000_000, "r" * 512]])
    assert time.perf_counter() - started < 2
    assert "…" in terminal.getvalue()
    assert "r" * 512 in terminal.getvalue()
    assert len(terminal.getvalue()) < 10_000


@pytest.mark.parametrize(
    "text", ["://:" * 20_000, "@" + "://:" * 20_000, "://" * 20_000 + "@", "x" * 100_000, "password" * 20_000]
)
def test_passwords_are_looked_for_in_no_time(text: str) -> None:
    """Also in a text that was made to take long."""
    started = time.perf_counter()
    one_line(text)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to postgresql://u:hunter2@h/d.", "to postgresql://u:***@h/d."),
        ("postgresql://u:hun@ter2@h/d and x@y", "postgresql://u:***@h/d and x@y"),
        ("postgresql:/u:hunter2@h", "postgresql:/u:***@h"),
        ("postgresql://:hunter2@h", "postgresql://:***@h"),
        ("'postgresql://h/d?a=b&password=hunter2'", "'postgresql://h/d?a=b&password=***"),
        ("postgresql://h:1/x;password=hunter2 is", "postgresql://h:1/x;password=*** is"),
        ("'password=hunter2 sslpassword=hunter2 b'", "'password=*** sslpassword=*** b'"),
        ("mail x@y, see https://z:1/a", "mail x@y, see https://z:1/a"),
    ],
)
def test_a_line_shows_no_password(text: str, shown: str) -> None:
    """Wherever a URL that holds one was typed."""
    assert one_line(text) == shown
