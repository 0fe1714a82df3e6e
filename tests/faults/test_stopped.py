"""A process that is stopped loses its runs to another one, and can do them no harm when it wakes up."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.conftest import OpenStore
from tests.faults.crew import Journal, join, start
from tests.faults.stop import begin, take_over

LAST_ITEM = {"one": True}, "was not saved"
FIRST_ITEM = {"one": True, "two": False}, "is not this owner's any more"


@pytest.mark.parametrize(("items", "message"), [LAST_ITEM, FIRST_ITEM], ids=["before a save", "between two items"])
async def test_a_stopped_process_does_nothing_more_once_its_run_was_taken_over(
    items: dict[str, bool], message: str, database_url: str, open_store: OpenStore, tmp_path: Path
) -> None:
    """It can save nothing, begins no block that the other process has finished, and leaves the run as that made it."""
    folder = tmp_path / "journal"
    folder.mkdir()
    first = start(begin, database_url, folder, items)
    assert first.pid is not None
    while [one.path for one in Journal(folder).starts("r")] != ["before", "held[one]"]:
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
    starts = [(one.path, one.pid) for one in Journal(folder).starts("r")]
    again = [(f"held[{key}]", second.pid) for key in items]
    assert starts == [("before", first.pid), ("held[one]", first.pid), *again, ("after", second.pid)]
    assert (folder / "lost").exists(), "what the stopped process saved was taken"
    assert message in (folder / "lost").read_text()
    assert (folder / "taken").read_text() == f"['success'] {second.pid}\n"
    assert await store.list_checkpoints(run_id="r") == saved
    assert [one.status for one in saved if not one.superseded] == ["completed"]
