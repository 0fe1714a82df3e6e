"""A test that has the machine for itself, and the others."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from tests.documents.pieces import ROOT
from tests.turns import turn

_MOMENT = 0.05
"""Seconds in which somebody who is not held up would be done."""


def test_who_is_alone_waits_for_the_others_and_they_wait_for_him(tmp_path: Path) -> None:
    """Those who are many do not wait for one another, but they do once somebody wants to be alone."""
    told: list[str] = []

    def take(name: str, *, is_alone: bool) -> None:
        with turn(tmp_path, is_alone=is_alone):
            told.append(f"{name} in")
            time.sleep(_MOMENT)
            told.append(f"{name} out")

    alone, later = (
        Thread(target=take, args=(name,), kwargs={"is_alone": is_alone}, daemon=True)
        for name, is_alone in (("alone", True), ("later", False))
    )
    with turn(tmp_path, is_alone=False):
        take("another", is_alone=False)
        alone.start()
        until_waiting(tmp_path)
        later.start()
        later.join(4 * _MOMENT)
        told.append("one out")
    alone.join(10)
    later.join(10)
    assert told == ["another in", "another out", "one out", "alone in", "alone out", "later in", "later out"]


def until_waiting(folder: Path) -> None:
    """Wait until somebody wants to be alone."""
    end = time.monotonic() + 10
    with (folder / "gate").open("w") as gate:
        while time.monotonic() < end:
            try:
                fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(gate, fcntl.LOCK_UN)
            time.sleep(0.001)
    raise AssertionError("nobody waits")


FORKING = """
import os, sys, time
from pathlib import Path
from tests.turns import turn
folder = Path(sys.argv[1])
with turn(folder, is_alone=False):
    lives, dies = os.pipe()
    if os.fork() == 0:
        os.close(dies)
        os.read(lives, 1)
        os._exit(0)
with turn(folder, is_alone=True):
    print("alone")
"""


def test_what_was_forked_meanwhile_holds_nobody_up(tmp_path: Path) -> None:
    """A server that a test leaves to the next ones has its files open, too."""
    command = [sys.executable, "-c", FORKING, str(tmp_path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout
    assert told == "alone\n"


def test_a_turn_is_waited_for_outside_of_the_time_that_a_test_has(pytestconfig: pytest.Config) -> None:
    """Else whoever waits for long tests would fail for it. The last one that is listed is called first."""
    around = pytestconfig.hook.pytest_runtest_protocol.get_hookimpls()
    names = [one.plugin_name.rpartition("/")[2] for one in around]
    assert names.index("conftest.py") > names.index("timeout")


def test_one_of_several_processes_has_taken_a_turn(tmp_path_factory: pytest.TempPathFactory) -> None:
    """As one of many: nobody can be alone now. A process that is the only one waits for nobody."""
    folder = tmp_path_factory.getbasetemp().parent
    if "PYTEST_XDIST_WORKER" not in os.environ:
        assert not (folder / "inside").exists()
        return
    with (folder / "inside").open("w") as inside, pytest.raises(BlockingIOError):
        fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
