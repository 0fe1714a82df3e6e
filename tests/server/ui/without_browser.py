"""A run of the tests without a browser says so, and fails where one is required; run by name, as `.ci/run` does."""

import os
import subprocess
import sys

from tests.documents.pieces import ROOT


def started(*words: str) -> subprocess.Popen[str]:
    """The tests of one module that needs a browser, on a machine that has none."""
    command = [sys.executable, "-m", "pytest", "-n1", *words, "tests/server/ui/browser/test_windows.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["WORKFLOWS_TEST_CHROMIUM"] = "/nowhere/chromium"
    out, err = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=out, stderr=err)


def test_what_was_missing_is_named_last_or_fails() -> None:
    """Below the summary, by the process that writes it; and with `--require-browser` before anything is run."""
    with started() as skipping, started("--require-browser") as requiring:
        told, refused = skipping.communicate(timeout=60)[0], requiring.communicate(timeout=60)[0]
    *before, last = told.splitlines()
    assert skipping.returncode == 0, told
    assert " 10 skipped in " in before[-1]
    assert last.startswith("not run: 10 tests in a browser, for want of ")
    assert "apt-get install --no-install-recommends chromium; WORKFLOWS_TEST_CHROMIUM=/nowhere/chromium is" in last
    assert requiring.returncode == 4, refused
    assert "--require-browser: there is no " in refused
    assert " in a browser" not in refused
