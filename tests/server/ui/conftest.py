"""A database of each test's own."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def runs_file(tmp_path: Path, sqlite_template: Path) -> Path:
    """A SQLite file with the schema, and no runs yet."""
    return Path(shutil.copy(sqlite_template, tmp_path / "runs.db"))
