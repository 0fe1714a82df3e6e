"""A small run of the comparison of sealed and plain stores."""

from pathlib import Path

import pytest

from benchmarks import encryption
from benchmarks.databases import SQLiteDatabases


def test_both_stores_do_all_the_work_and_the_table_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three kinds of work for each size, and nothing is left of the databases."""
    monkeypatch.setattr(encryption, "SIZES", {"1kb": 2**10, "20kb": 20 * 2**10})
    costs = encryption.measure(SQLiteDatabases(tmp_path), calls=8)
    assert [cost.what for cost in costs] == [
        f"{what}, {size}" for size in ("1 KB", "20 KB") for what in ("a save alone", "a save of 8 at once", "a load")
    ]
    assert all(cost.plain > 0 and cost.sealed > 0 for cost in costs)
    assert len(encryption.table(costs).splitlines()) == 7
    assert list(tmp_path.iterdir()) == []
