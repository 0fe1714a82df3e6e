"""A process that is stopped loses its runs to another one, and can do them no harm when it wakes up."""

import asyncio
import os
import signal
from pathlib import Path

from tests.conftest import OpenStore
from tests.faults.crew import Journal, join, start
from tests.faults.stop import begin, take_over


async def test_a_stopped_process_can_save_nothing_once_its_run_was_taken_over(
    database_url: str, open_store: OpenStore, tmp_path: Path
) -> None:
    """Its next save is refused, and the run is as the other process left it."""
    folder = tmp_path / "journal"
    folder.mkdir()
    first = start(begin, database_url, folder)
    assert first.pid is not None
    while [one.path for one in Journal(folder).starts("r")] != ["before", "held"]:
        await asyncio.sleep(0.01)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        (folder / "go").touch()
        second = start(take_over, database_url, folder)
        assert await join(second) == 0
        store = open_store()
        saved = await store.list_checkpoints(run_id="r")
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert await join(first) == 0
    assert (folder / "lost").exists(), "what the stopped process saved was taken"
    assert "was not saved" in (folder / "lost").read_text()
    assert (folder / "taken").read_text() == f"['success'] {second.pid}\n"
    assert await store.list_checkpoints(run_id="r") == saved
    heads = [one for one in saved if not one.superseded]
    assert [one.status for one in heads] == ["completed"]
    starts = [(one.path, one.pid) for one in Journal(folder).starts("r")]
    mine, theirs = first.pid, second.pid
    assert starts == [("before", mine), ("held", mine), ("held", theirs), ("after", theirs)]
