"""What is shown of a run that is watched, whatever it holds."""

import asyncio
import dataclasses
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.cli.test_watch import drawn, run_of
from workflows_mcp import CheckpointMetadata, CheckpointNotFoundError, InMemoryCheckpointStore
from workflows_mcp.cli.options import Options
from workflows_mcp.cli.page import Page
from workflows_mcp.cli.views import JsonView, LineView
from workflows_mcp.cli.watch import watch
from workflows_mcp.engine.run_details import BlockDetails
from workflows_mcp.errors import StoreUnavailableError
from workflows_mcp.testing import make_state

ODD = "\x1b[2J\x9b"


def test_nothing_that_a_run_holds_moves_the_cursor() -> None:
    """On a terminal or not; of many names the first are told, and a flaw once."""
    stream = io.StringIO()
    view = LineView(Page(stream), Options(), keep=False)
    blocks = [BlockDetails(f"b{number}{ODD}", "may have begun", 1) for number in range(22)]
    odd = run_of(*blocks, run_id=f"r{ODD}", workflow_name=f"w{ODD}", flaw=f"it is bad{ODD}")
    view.show(odd)
    view.show(dataclasses.replace(odd, checkpoint_id=f"d{ODD}"))
    told = stream.getvalue()
    assert ODD[0] not in told
    assert ODD[-1] not in told
    begun = told.splitlines()[0]
    assert ("b19" in begun, "b20" in begun, begun.endswith(" and 2 more")) == (True, False, True)
    assert told.count("it is bad") == 1
    assert "\n  ● checkpoint d [2J saved (running)\n" in told
    shown = drawn(dataclasses.replace(odd, status="paused", prompt=f"Go on?{ODD}"), keep=True)
    assert all(text in shown for text in ("b0", "it is bad", "Go on?"))
    assert ODD[0] not in shown
    assert ODD[-1] not in shown


def test_that_a_run_has_lost_its_process_is_news_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Though nothing but the time has changed."""
    view = JsonView()
    held = run_of(lease_expires_at=time.time() + 0.05)
    view.show(held)
    while not held.is_abandoned:
        time.sleep(0.005)
    for _ in range(2):
        view.show(held)
    told = [json.loads(line)["run"] for line in capsys.readouterr().out.splitlines()]
    assert [one["abandoned"] for one in told] == [False, True]


def test_a_table_fits_where_there_is_hardly_room() -> None:
    """The blocks whose turn is next stay the longest; a clock that goes wrong makes no time less than none."""
    blocks = [BlockDetails(f"b{number}", "not begun", number) for number in range(9)]
    now = BlockDetails("now", "running", 0, started_at=time.time() + 100)
    lines = [line.rstrip() for line in drawn(run_of(now, *blocks), height=3).splitlines()]
    assert [line.split()[1] for line in lines[1:-1]] == ["now", "b0", "b1", "b2", "b3"]
    assert lines[1].endswith(" 0 s")
    assert lines[-1] == "… 5 more: 5 not begun"


def test_a_question_is_shown_in_the_table_only_where_nothing_else_shows_it() -> None:
    """Without `--keep`, the command ends, and says it below."""
    asks = run_of(status="paused", prompt="Go on?")
    assert ["Go on?" in drawn(asks, keep=keep) for keep in (True, False)] == [True, False]


class _Leaving(InMemoryCheckpointStore):
    """Is away for a moment, and then has lost the run."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    async def list_checkpoints(self, *args: Any, **options: Any) -> list[CheckpointMetadata]:
        """See `CheckpointStore.list_checkpoints`."""
        self.looks += 1
        if self.looks == 2:
            raise StoreUnavailableError("the database is away")
        if self.looks == 3:
            await self.delete_run("r")
        return await super().list_checkpoints(*args, **options)


def test_a_database_that_is_away_is_told_and_a_run_that_was_deleted_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was there: nobody is told how to wait until it begins."""

    @asynccontextmanager
    async def opened(_: Options) -> AsyncIterator[InMemoryCheckpointStore]:
        store = _Leaving()
        await store.save_checkpoint(make_state("c", run_id="r"), owner="me", lease_seconds=60)
        yield store

    monkeypatch.setattr("workflows_mcp.cli.watch.open_store", opened)
    with pytest.raises(CheckpointNotFoundError, match="run 'r' is gone"):
        asyncio.run(watch("r"))
    assert "the database is away; looking again every second" in capsys.readouterr().err
