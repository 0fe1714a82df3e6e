"""What is printed on a terminal."""

import io
import json
import sys

import pytest

from workflows_mcp.cli.page import Page, print_json
from workflows_mcp.cli.telling import Teller
from workflows_mcp.engine.events import RunStarted

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
