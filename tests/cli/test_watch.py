"""`watch`: what a run is doing, wherever it runs."""

import dataclasses
import io
import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from tests.cli.conftest import CLI
from workflows_mcp import WorkflowResult
from workflows_mcp.cli.live_table import LiveTable
from workflows_mcp.cli.options import Options
from workflows_mcp.cli.page import Page
from workflows_mcp.cli.views import JsonView, LineView, View
from workflows_mcp.engine.run_details import BlockDetails, RunDetails
from workflows_mcp.errors import StoreUnavailableError

DATABASE = ("--database-url", "runs.db")


def test_a_run_that_waits_is_shown_with_its_question_and_the_command_that_answers(
    cli: CLI, waiting: WorkflowResult
) -> None:
    """It is over for whoever watches; for programs as one object a line."""
    words = ("watch", waiting.run_id, *DATABASE)
    shown = cli(*words)
    assert (shown.code, shown.err) == (0, "")
    assert f"run {waiting.run_id} of asking: paused\n  ✓ greet (" in shown.out
    assert "  ? question paused\n" in shown.out
    assert "\nGo on, Ann?\n" in shown.out
    assert f"workflows-mcp resume {waiting.checkpoint_id} --response TEXT --database-url runs.db\n" in shown.out
    [line] = cli(*words, "--json").out.splitlines()
    told = json.loads(line)
    assert (told["run"]["status"], told["run"]["prompt"], told["waves"]) == ("paused", "Go on, Ann?", 3)
    assert {one["path"]: one["status"] for one in told["blocks"]} == {
        "greet": "succeeded",
        "question": "paused",
        "end": "not begun",
    }


def test_a_run_is_watched_through_its_pause_up_to_its_end(cli: CLI, waiting: WorkflowResult) -> None:
    """Each change is a line as soon as it is saved."""
    process = cli.start_quickly("watch", waiting.run_id, "--keep", *DATABASE)
    begin = read_until("--response TEXT", process)
    cli("resume", str(waiting.checkpoint_id), "--response", "yes", *DATABASE)
    rest = cli.finish(process)
    assert "Go on, Ann?" in begin
    assert (rest.code, rest.err) == (0, "")
    assert "  ✓ question (" in rest.out
    assert "✓ greet" not in rest.out
    assert rest.out.endswith("  greeting: hello Ann\n  answer: yes\n")


def test_programs_get_what_has_changed_and_nothing_when_nothing_has(capsys: pytest.CaptureFixture[str]) -> None:
    """A lease that was renewed is no news."""
    view = JsonView()
    blocks = BlockDetails("a", "may have begun", 0), BlockDetails("b", "not begun", 1)
    view.show(run_of(*blocks))
    view.show(run_of(*blocks, lease_expires_at=time.time() + 60))
    view.show(run_of(BlockDetails("a", "failed", 0), blocks[1], checkpoint_id="d", status="failure", error="why"))
    first, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["path"] for one in first["blocks"]] == ["a", "b"]
    assert [(one["path"], one["status"]) for one in last["blocks"]] == [("a", "failed")]
    assert (last["run"]["status"], last["error"]) == ("failure", "why")


def test_that_a_run_has_lost_its_process_is_told_when_it_has() -> None:
    """By time alone, once; with what goes on with it. That it goes on is told, too."""
    stream = io.StringIO()
    view = LineView(Page(stream), Options(database_url="runs.db"), keep=False)
    held = run_of(BlockDetails("a", "may have begun", 1), lease_expires_at=time.time() + 0.05)
    view.show(held)
    time.sleep(0.06)
    for _ in range(2):
        view.show(dataclasses.replace(held, blocks=(BlockDetails("a", "interrupted", 1),)))
    view.show(dataclasses.replace(held, lease_expires_at=time.time() + 60))
    recover = "workflows-mcp recover r --database-url runs.db"
    assert stream.getvalue().splitlines() == [
        "run r of w: running, wave 2 of 3: a",
        "  ! a interrupted",
        "run r of w: abandoned, wave 2 of 3",
        f"no process holds it any more; unless a server goes on with it, do so with: {recover}",
        "run r of w: running, wave 2 of 3: a",
    ]


@pytest.mark.parametrize("make", [JsonView, lambda: LineView(Page(io.StringIO()), Options(), keep=False)])
def test_that_the_database_is_away_is_told_once_each_time(
    make: Callable[[], View], capsys: pytest.CaptureFixture[str]
) -> None:
    """However often it was asked meanwhile, and whether or not anything happened in between."""
    view = make()
    for trouble in ("away", "away again"):
        for _ in range(3):
            view.tell_trouble(StoreUnavailableError(trouble))
        view.end_trouble()
    assert [line.partition(";")[0] for line in capsys.readouterr().err.splitlines()] == ["away", "away again"]


def test_on_a_terminal_a_trouble_stands_there_while_there_is_one() -> None:
    """Also before the run has begun."""
    table = LiveTable(Console(file=io.StringIO()), Options(), keep=False)
    for run in (None, run_of(BlockDetails("a", "may have begun", 1))):
        if run is not None:
            table.show(run)
        table.tell_trouble(StoreUnavailableError("away"))
        assert "away; looking again" in text_of(table)
        table.end_trouble()
        assert "looking again" not in text_of(table)


def test_how_a_run_ended_is_the_exit_code(cli: CLI, waiting: WorkflowResult) -> None:
    """As for whoever ran it."""
    cli("runs", "cancel", waiting.run_id, *DATABASE)
    cancelled = cli("watch", waiting.run_id, "--json", *DATABASE)
    assert (cancelled.code, cancelled.json()["run"]["status"]) == (3, "cancelled")
    assert "was cancelled" in cancelled.error()


@pytest.mark.usefixtures("waiting")
def test_a_run_that_is_not_there_is_an_error_unless_it_is_waited_for(cli: CLI) -> None:
    """Whoever waits for it stops with one line, and nothing of the run is touched."""
    missing = cli("watch", "nope", *DATABASE)
    assert missing.code == 1
    assert "/runs.db': --wait waits until it begins; those that there are: workflows-mcp runs list " in missing.error()
    assert cli("watch", "", *DATABASE).code == 2
    ours, theirs = pty.openpty()
    process = cli.start_quickly("watch", "nope", "--wait", *DATABASE, stdout=theirs, env={"TERM": "xterm"})
    os.close(theirs)
    shown = b""
    while b"waiting for the run to begin" not in shown:
        shown += os.read(ours, 1000)
    process.send_signal(signal.SIGINT)
    stopped = cli.finish(process)
    os.close(ours)
    assert stopped.code == 130
    assert stopped.err == "interrupted; the run was only watched, and is as it was\n"


def drawn(run: RunDetails, *, height: int = 40, keep: bool = False) -> str:
    """What is on a terminal of so many lines."""
    console = Console(file=io.StringIO(), width=100, height=height, force_terminal=False)
    table = LiveTable(console, Options(database_url="runs.db"), keep=keep)
    table.show(run)
    return text_of(table)


def text_of(table: LiveTable, *, width: int = 100) -> str:
    """What a table shows."""
    screen = io.StringIO()
    Console(file=screen, width=width, force_terminal=False).print(table.render())
    return screen.getvalue()


def run_of(*blocks: BlockDetails, **fields: Any) -> RunDetails:
    """A run that is seen just now."""
    known: dict[str, Any] = {
        "run_id": "r", "workflow_name": "w", "status": "running", "wave": 1, "checkpoint_id": "c",
        "updated_at": time.time(), "prompt": None, "lease_expires_at": time.time() + 30, "parent_checkpoint_id": None,
        "cursor": "", "waves": 3, "blocks": blocks,
    }  # fmt: skip
    return RunDetails(**{**known, **fields})


def test_on_a_terminal_blocks_are_a_tree_with_their_times() -> None:
    """A sign for each status; what is under way counts on; names cannot move the cursor."""
    shown = drawn(
        run_of(
            BlockDetails("deploy", "running", 0, started_at=time.time() - 65, items={"succeeded": 1, "failed": 1}),
            BlockDetails("deploy[eu]", "succeeded", 0, started_at=1.0, seconds=2.5, parent="deploy"),
            BlockDetails("deploy[us]", "failed", 0, message="it \x1b[2Jrefused", parent="deploy"),
            BlockDetails("deploy[us]/check", "failed", 0, parent="deploy[us]"),
            BlockDetails("deploy[us]/check[0]", "done", 0),
            BlockDetails("end", "not begun", 1),
        )
    )
    lines = [line.rstrip() for line in shown.splitlines()]
    assert lines[0].startswith("run r of w: running, wave 2 of 3, saved 0 s ago, held for ")
    tree = [line[:21].rstrip() for line in lines[1:]]
    assert tree == ["● deploy", "  ✓ [eu]", "  ✗ [us]", "    ✗ check", "✓ deploy[us]/check[0]", "○ end"]
    assert "65 s  1 succeeded, 1 failed" in lines[1]
    assert "\x1b" not in shown


def test_on_a_small_terminal_what_is_over_makes_room_first() -> None:
    """What is left out is counted: what is over above all, the rest below by what it is."""
    blocks = [BlockDetails(f"done{number}", "succeeded", 0) for number in range(50)]
    blocks += [BlockDetails("now", "may have begun", 1)]
    blocks += [BlockDetails(f"later{number}", "not begun", 2) for number in range(50)]
    lines = drawn(run_of(*blocks), height=20).splitlines()
    assert len(lines) < 20
    assert lines[1].rstrip() == "✓ 50 more that are over"
    assert lines[2].startswith("● now")
    assert lines[-1].rstrip() == "… 39 more: 39 not begun"


def test_on_a_small_terminal_what_is_at_work_is_shown_wherever_it_stands() -> None:
    """Behind what failed and among what is over; what it stands below may be left out, and is then named."""
    blocks = [BlockDetails("first", "failed", 0)]
    blocks += [BlockDetails(f"other{number}", "done", 0) for number in range(30)]
    blocks += [BlockDetails("each", "succeeded", 0)]
    blocks += [BlockDetails(f"each[{number}]", "succeeded", 0, parent="each") for number in range(10)]
    blocks += [BlockDetails("each[10]", "running", 0, parent="each")]
    blocks += [BlockDetails("each[10]/inner", "paused", 0, parent="each[10]")]
    blocks += [BlockDetails(f"maybe{number}", "may have begun", 1) for number in range(20)]
    lines = [line.rstrip() for line in drawn(run_of(*blocks), height=14).splitlines()]
    assert [line.split("  failed")[0].strip() for line in lines[1:3]] == ["✓ 41 more that are over", "✗ first"]
    assert lines[3].startswith("● each[10] ")
    assert lines[4].startswith("  ? inner ")
    assert lines[-1] == "… 17 more: 17 may have begun"
    crowd = [BlockDetails(f"b{number}", "running", 0) for number in range(30)]
    failed = [BlockDetails(f"f{number}", "failed", 0) for number in range(2)]
    assert drawn(run_of(*crowd, *failed), height=14).splitlines()[-1].rstrip() == "… 26 more: 24 running, 2 failed"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"lease_expires_at": time.time() - 1}, "no process holds it any more; unless a server goes on with it"),
        ({"status": "paused", "prompt": "Go on?"}, "answer with: workflows-mcp resume c --response TEXT"),
        ({"blocks": (), "flaw": "checkpoint 'c' was not saved by this executor"}, "was not saved by this executor"),
    ],
)
def test_what_can_be_done_is_shown_below_the_blocks(fields: dict[str, Any], text: str) -> None:
    """Of a run whose process is gone, of one that asks, and of one of another program what is wrong."""
    assert text in " ".join(drawn(run_of(**fields), keep=True).split())


def read_until(end: str, process: subprocess.Popen[str]) -> str:
    """What a command prints, up to its end."""
    assert process.stdout is not None
    shown = ""
    while not shown.endswith(end):
        assert process.poll() is None, shown
        shown += process.stdout.read(1)
    return shown
