"""A version is released when it, the changelog and the calendar agree."""

import subprocess
import sys
import tomllib
from datetime import date

import pytest

from tests.packaging.conftest import ROOT
from tests.packaging.release import problems_of, sections_of

TODAY = date(2026, 11, 27)

CHANGELOG = """# Changelog

All that changes.

## 1.1.0 (2026-11-27)

### Added

- More.

## 1.1.0rc1 (2026-11-20)

- Nearly.

## 1.0.0 (2026-01-31)

The first version.
"""


def test_the_notes_are_the_newest_section() -> None:
    """As it stands there, up to the next version."""
    sections = sections_of(CHANGELOG)
    assert problems_of("1.1.0", sections, TODAY) == []
    assert sections[0].notes == "### Added\n\n- More."


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("## 1.1.0 (", "## 1.2.0 (", "pyproject.toml has version 1.1.0"),
        ("2026-11-27", "not released yet", "put the day there, (2026-11-27)"),
        ("2026-11-27", "2026-11-28", "has not come yet"),
        ("2026-01-31", "2026-31-01", "is no day"),
        ("### Added\n\n- More.", "", "is empty"),
        ("## 1.1.0rc1 ", "## 1.1.0-beta ", "is no version like"),
        ("## 1.0.0", "## 1.3.0", "do not fall"),
        (CHANGELOG, "# Changelog\n", "has no section"),
    ],
)
def test_what_does_not_agree_is_said(old: str, new: str, problem: str) -> None:
    """Each by itself."""
    [said] = problems_of("1.1.0", sections_of(CHANGELOG.replace(old, new, 1)), TODAY)
    assert problem in said


def test_the_command_says_whether_this_version_is_ready() -> None:
    """It prints the notes, or what keeps it; all but the day is in order at any time."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.packaging.release"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    [newest, *_] = sections_of((ROOT / "CHANGELOG.md").read_text())
    assert newest.version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    if newest.when == "not released yet":
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: the changelog says that {newest.version} is not released yet")
        assert done.stderr.count("\n") == 1
    else:
        assert (done.returncode, done.stdout) == (0, f"{newest.notes}\n")
