"""What happens in a run, in lines."""

import io
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from rich.console import Console

from workflows_mcp.cli.live import LiveWatcher, PlainWatcher
from workflows_mcp.cli.page import Page
from workflows_mcp.cli.telling import Teller
from workflows_mcp.engine.checkpoint import CheckpointStatus
from workflows_mcp.engine.events import (
    BlockFinished,
    BlockSkipped,
    BlockStarted,
    CheckpointSaved,
    Event,
    RunEnded,
    RunPaused,
    RunStarted,
    WaveStarted,
)

RUN: dict[str, Any] = {"run_id": "r", "workflow_name": "w"}


def started(*waves: tuple[str, ...], continued: bool = False) -> RunStarted:
    """The beginning of a run."""
    return RunStarted(**RUN, waves=waves, wave=0, continued=continued)


def finished(path: str, message: str | None = None) -> BlockFinished:
    """The end of a block."""
    return BlockFinished(
        **RUN, block_id=path, wave=0, status="failed" if message else "succeeded", seconds=1.0, message=message
    )


def told(events: Iterable[Event]) -> list[str]:
    """The lines about events."""
    teller = Teller()
    return [line for event in events if (line := teller.tell(event)) is not None]


def test_a_nested_workflow_is_told_with_the_block_that_it_runs_for() -> None:
    """Its waves by the names that its blocks have within it, its blocks by their paths."""
    lines = told(
        [
            started(("deploy",), ("end",)),
            WaveStarted(**RUN, wave=0, block_ids=("deploy",)),
            WaveStarted(**RUN, wave=1, block_ids=("deploy[eu/1]/check", "deploy[eu/1]/build"), within="deploy[eu/1]"),
            finished("deploy[eu/1]/check"),
            BlockSkipped(**RUN, block_id="deploy[eu/1]/build", wave=1, reason="its condition is false"),
        ]
    )
    assert lines[1:] == [
        "wave 1 of 2: deploy",
        "  wave 2 in deploy[eu/1]: check, build",
        "  ✓ deploy[eu/1]/check (1.0 s)",
        "  - deploy[eu/1]/build skipped: its condition is false",
    ]


def items_of_a_block(count: int) -> Iterable[Event]:
    """What happens when a block runs a nested workflow for so many items, of which every tenth fails."""
    yield started(("deploy",))
    yield WaveStarted(**RUN, wave=0, block_ids=("deploy",))
    yield BlockStarted(**RUN, block_id="deploy", wave=0)
    for number in range(count):
        item = f"deploy[{number}]"
        yield BlockStarted(**RUN, block_id=item, wave=0)
        yield WaveStarted(**RUN, wave=0, block_ids=(f"{item}/check",), within=item)
        yield finished(f"{item}/check")
        yield CheckpointSaved(**RUN, checkpoint_id=str(number), status=CheckpointStatus.RUNNING, wave=0)
        yield finished(item, "no" if number % 10 == 0 else None)
    yield finished("deploy", "100 of 1000 items failed")


def test_a_thousand_items_are_told_in_few_lines_and_counted_in_the_last() -> None:
    """Ten of each kind, failures among them, and then one that says that there are more."""
    lines = told(items_of_a_block(1000))
    assert len(lines) < 70
    assert len([line for line in lines if line.startswith("  ✗ deploy[")]) == 10
    assert "  … more of failed deploy[]: counted, not shown" in lines
    assert lines[-1] == "  ✗ deploy (1.0 s): 1,000 items, 100 failed: 100 of 1000 items failed"


def test_a_wave_of_many_blocks_is_one_line_that_can_be_read() -> None:
    """It names the first of them."""
    line = told([started(("a",)), WaveStarted(**RUN, wave=0, block_ids=tuple(f"b{n}" for n in range(900)))])[1]
    assert line.endswith("b18, b19 and 880 more")


def test_only_what_a_run_goes_on_with_is_an_answer() -> None:
    """A block that ends later was not asked for, although this process did not see it start."""
    lines = told(
        [
            started(("deploy",), continued=True),
            finished("deploy[eu]/approve"),
            CheckpointSaved(**RUN, checkpoint_id="c", status=CheckpointStatus.RUNNING, wave=0),
            finished("deploy[eu]"),
        ]
    )
    assert lines[1] == "  ✓ deploy[eu]/approve: answered"
    assert lines[3] == "  ✓ deploy[eu] (1.0 s)"


async def test_of_many_runs_each_line_names_its_run_and_the_ends_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """What one run has come to is the command's result; of many, there is nothing else to tell it."""
    watcher = PlainWatcher(Page(sys.stdout), many=True)
    for event in (
        started(("a",)),
        finished("a"),
        RunEnded(**RUN, status="failure", error="no good", checkpoint_id="c"),
        RunPaused(**RUN, checkpoint_id="c", block_id="b", prompt="?"),
    ):
        await watcher(event)
    assert capsys.readouterr().out.splitlines() == [
        "run r of w: 1 blocks in 1 waves",
        "r   ✓ a (1.0 s)",
        "run r: failure: no good",
        "run r waits for an answer to checkpoint c",
    ]


async def test_a_terminal_shows_a_screen_of_what_is_at_work_whatever_the_keys_hold() -> None:
    """With how far a block has come with its items; a key is no markup."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    watcher = LiveWatcher(console)
    await watcher(BlockStarted(**RUN, block_id="deploy", wave=0))
    for number in range(64):
        await watcher(BlockStarted(**RUN, block_id=f"deploy[bold {number}]", wave=0))
    await watcher(finished("deploy[bold 0]"))
    with console.capture() as capture:
        console.print(watcher.render())
    shown = capture.get()
    assert "deploy 0 s, 1 done" in shown
    assert "deploy[bold 1] 0 s" in shown
    assert "and 52 more" in shown
    assert len(shown.splitlines()) == 13
