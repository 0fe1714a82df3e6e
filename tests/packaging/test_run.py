"""`run.py` hands on what it is told, and gives back how it ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

TASK = """
import signal, sys, time
signal.signal(signal.SIG{name}, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(30)
"""


def with_uv(uv: str) -> dict[str, str]:
    """An environment in which it finds uv, and installs none."""
    return {**os.environ, "PATH": f"{Path(uv).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_a_signal_to_it_alone_reaches_the_task(uv: str, name: str) -> None:
    """Through uv, which stands between the two; and the task's exit code comes back."""
    command = [sys.executable, str(ROOT / "run.py"), "python", "-c", TASK.format(name=name)]
    with subprocess.Popen(command, env=with_uv(uv), stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        started.send_signal(getattr(signal, f"SIG{name}"))
        assert started.wait(timeout=20) == 7


def test_ctrl_c_is_waited_for(uv: str) -> None:
    """A terminal sends it to all of them at once; the task has time to put things in order."""
    tidy = TASK.format(name="INT").replace("sys.exit(7)", "(time.sleep(0.5), sys.exit(7))")
    command = [sys.executable, str(ROOT / "run.py"), "python", "-c", tidy]
    with subprocess.Popen(
        command, env=with_uv(uv), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        os.killpg(started.pid, signal.SIGINT)
        assert started.wait(timeout=20) == 7
