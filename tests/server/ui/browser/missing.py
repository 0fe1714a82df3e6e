"""What tests in a real browser need; where it is missing they are skipped, and the run's last line says so.

`tests/conftest.py` makes it a plugin of every run: with several processes, the one that writes the last line loads no
tests.
"""

import functools
import importlib.util
import os
import shutil
from pathlib import Path

import pytest

__all__ = ["chromium", "missing"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FOLDER = Path(__file__).parent.relative_to(Path(__file__).parents[4]).as_posix()
_VARIABLE = "WORKFLOWS_TEST_CHROMIUM"


@functools.cache  # the tests' own environment has no such variable
def chromium() -> str | None:
    """The path of Chromium; None: there is none."""
    given = os.environ.get(_VARIABLE)
    found = map(shutil.which, [given] if given else _NAMES)
    return next((one for one in found if one is not None), None)


@functools.cache
def missing() -> tuple[str, ...]:
    """What is missing, each with how to get it."""
    needs = []
    if importlib.util.find_spec("playwright") is None or importlib.util.find_spec("axe_playwright_python") is None:
        needs.append("Playwright and axe-core (python3 run.py browser installs them, and runs these tests)")
    if chromium() is None:
        given = os.environ.get(_VARIABLE)
        wrong = f"; {_VARIABLE}={given} is no program" if given else f"; or name one in {_VARIABLE}"
        needs.append(f"Chromium (Debian, Ubuntu: apt-get install --no-install-recommends chromium{wrong})")
    return tuple(needs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let whoever must not go without ask for it."""
    parser.addoption(
        "--require-browser", action="store_true", help="fail where what tests in a real browser need is missing"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Look before the tests, which have an environment of their own, do.

    Raises:
        pytest.UsageError: Something is missing, and was required.
    """
    if missing() and config.getoption("--require-browser"):
        raise pytest.UsageError(f"--require-browser: there is no {' and no '.join(missing())}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Name what was missing, below everything else."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if not missing() or reporter is None or hasattr(config, "workerinput"):
        return
    skipped = [one for one in reporter.stats.get("skipped", ()) if one.nodeid.startswith(f"{_FOLDER}/")]
    if skipped:
        count = f"{len(skipped)} test{'s' if len(skipped) > 1 else ''} in a browser"
        reporter.write_line(f"not run: {count}, for want of {' and '.join(missing())}", yellow=True)
