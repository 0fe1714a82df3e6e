"""Prints the notes of a release, or what keeps it from being one: `python3 run.py python -m tests.packaging.release`.

The notes are the newest section of CHANGELOG.md; version and date must agree with pyproject.toml and the calendar.
"""

import re
import sys
import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from packaging.version import Version

__all__ = ["Section", "problems_of", "sections_of"]

ROOT = Path(__file__).parents[2]

_HEADING = re.compile(r"^## (\S+) \(([^)]*)\)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:rc\d+)?")
UNRELEASED = "not released yet"


@dataclass(frozen=True)
class Section:
    """What the changelog says of a version.

    Attributes:
        version: The version.
        when: The day of its release, as it stands there, or `UNRELEASED`.
        notes: What has changed.
    """

    version: str
    when: str
    notes: str


def sections_of(changelog: str) -> list[Section]:
    """The versions in a changelog, in its order."""
    return [Section(*(part.strip() for part in found.groups())) for found in _HEADING.finditer(changelog)]


def problems_of(version: str, sections: list[Section], today: date) -> list[str]:
    """What keeps a version from being released."""
    if not sections:
        return ["the changelog has no section; one begins with: ## 1.2.3 (2026-01-31)"]
    newest, *_ = sections
    problems = [f"{one.version} is no version like 1.2.3" for one in sections if not _VERSION.fullmatch(one.version)]
    if newest.version != version:
        problems.append(f"pyproject.toml has version {version}, and the changelog's newest section is {newest.version}")
    if not newest.notes:
        problems.append(f"the changelog's section {newest.version} is empty")
    problems += [problem for one in sections if (problem := _wrong_day(one, today))]
    if not problems:
        versions = [Version(one.version) for one in sections]
        if versions != sorted(set(versions), reverse=True):
            problems.append("the changelog's versions do not fall from its top to its end")
    return problems


def _wrong_day(section: Section, today: date) -> str | None:
    if section.when == UNRELEASED:
        return f"the changelog says that {section.version} is not released yet: put the day there, ({today})"
    try:
        is_past = date.fromisoformat(section.when) <= today
    except ValueError:
        return f"the changelog's day of {section.version} is no day like {today}"
    return None if is_past else f"the changelog's day of {section.version} has not come yet"


def main() -> int:
    """Print the notes; returns 1 when something keeps the version from being released, and 0 otherwise."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    sections = sections_of((ROOT / "CHANGELOG.md").read_text())
    problems = problems_of(version, sections, datetime.now(UTC).date())
    for problem in problems:
        sys.stderr.write(f"error: {problem}\n")
    if not problems:
        sys.stdout.write(f"{sections[0].notes}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
