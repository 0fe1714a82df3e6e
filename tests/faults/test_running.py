"""However a harness ends, it is a verdict, and nothing of it is left."""

import asyncio
import functools
import os
import re
import signal
import subprocess
import threading
import time
from multiprocessing import util
from pathlib import Path

import pytest

from tests.faults.report import Found, save_report
from tests.faults.row import Check, Effort, Place, Row, Verdict
from tests.faults.running import run_row

QUICK = Effort(is_quick=True)


async def find(_place: Place, effort: Effort) -> Verdict:
    """A promise is broken, and one is kept."""
    verdict = Verdict({"lost": effort.of(2, 1)})
    verdict.require(not verdict.figures["lost"], "one is lost")
    verdict.require(verdict.figures, "there are figures")
    return verdict


async def fail(_place: Place, _effort: Effort) -> Verdict:
    """An error that nobody expected."""
    raise LookupError("nothing is there")


async def wait_for_ever() -> None:
    """What a task does that hangs."""
    await never()


async def never() -> None:
    """Where it hangs."""
    await asyncio.Event().wait()


async def hang(place: Place, _effort: Effort) -> Verdict:
    """Neither this process nor its child ever ends, and no event loop can do anything about it."""
    child = subprocess.Popen(["sleep", "600"])  # noqa: ASYNC220 - its event loop is to be blocked
    (place.folder / "child").write_text(str(child.pid))
    waiting = asyncio.create_task(wait_for_ever(), name="one that waits")
    await asyncio.sleep(0)
    time.sleep(600)  # noqa: ASYNC251 - that is the point
    await waiting
    return Verdict()


async def crash(_place: Place, _effort: Effort) -> Verdict:
    """The process is gone."""
    os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(600)
    return Verdict()


async def never_end(_place: Place, _effort: Effort) -> Verdict:
    """A thread is left that the interpreter waits for."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    return Verdict({"lost": 0})


async def crash_at_exit(_place: Place, _effort: Effort) -> Verdict:
    """All is well until the interpreter tidies up."""
    util.Finalize(None, functools.partial(os._exit, 11), exitpriority=1)
    return Verdict({"lost": 0})


def run(check: Check, folder: Path, seconds: float = 60.0, seconds_to_end: float = 5.0) -> Verdict:
    """What is found by a harness that has so many seconds, and how many to end."""
    row = Row("a fault", "a promise", check, seconds=seconds * 5)
    return run_row(row, Place("sqlite", str(folder / "checkpoints.db"), folder), QUICK, seconds_to_end=seconds_to_end)


def test_what_is_found_comes_back(tmp_path: Path) -> None:
    """Figures, broken promises, and how long it took."""
    verdict = run(find, tmp_path)
    assert verdict.figures == {"lost": 1}
    assert verdict.broken == ["one is lost"]
    assert verdict.seconds > 0


@pytest.mark.parametrize(
    ("check", "what"), [(fail, "LookupError: nothing is there"), (crash, "its process ended with exit code -9")]
)
def test_an_error_and_a_crash_are_broken_promises(check: Check, what: str, tmp_path: Path) -> None:
    """And not the end of the whole table."""
    [line] = run(check, tmp_path).broken
    assert what in line


@pytest.mark.parametrize(
    ("check", "how", "seconds"), [(never_end, "not at all", 0.5), (crash_at_exit, "with exit code 11", 20.0)]
)
def test_a_harness_whose_process_does_not_end_well_is_a_broken_promise(
    check: Check, how: str, seconds: float, tmp_path: Path
) -> None:
    """It would hide a thread that is left, or a crash in what tidies up."""
    verdict = run(check, tmp_path, seconds_to_end=seconds)
    assert verdict.broken[0] == f"its process ended {how} once it had found what it says"
    assert verdict.figures == {"lost": 0}


def test_one_that_hangs_tells_where_and_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """Its threads, and its tasks down to the innermost call; then its time is over, and so are its children."""
    began = time.monotonic()
    what, where = run(hang, tmp_path, seconds=1.5).broken
    assert what == "it hung: nothing was found within 1.5 s"
    assert re.search(r'File ".*test_running.py", line \d+ in hang\n', where)
    assert re.search(r"Task one that waits .*\n.* in wait_for_ever\n.* in never\n.* in Event.wait\n", where)
    assert time.monotonic() - began < 20
    child = int((tmp_path / "child").read_text())
    while is_alive(child):
        assert time.monotonic() - began < 20, "a child was left behind"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that nobody has waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_table_in_a_document_is_replaced(tmp_path: Path) -> None:
    """And nothing else in it; a document without a place for one is refused."""
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- faults -->\nold\n<!-- /faults -->\nafter\n")
    found = [Found(Row("a fault", "a promise", find), "sqlite", Verdict({"lost": 0, "torn": 1}, ["torn"], 1.6))]
    save_report(document, found, "python3 run.py faults", "2026-11-27")
    text = document.read_text()
    assert text.startswith("before\n<!-- faults -->\n| fault | what holds |\n| --- | --- |\n| a fault | a promise |\n")
    assert "\n`python3 run.py faults`, 2026-11-27: " in text
    assert text.endswith("| a fault | SQLite | lost 0, torn 1 | broken | 2 |\n<!-- /faults -->\nafter\n")
    document.write_text("nothing")
    with pytest.raises(ValueError, match="lacks"):
        save_report(document, found, "python3 run.py faults", "2026-11-27")
