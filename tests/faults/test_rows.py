"""Every row of the table of faults, quickly; the long version is `python3 run.py faults`."""

import pytest

from tests.conftest import MEMORY
from tests.faults.row import Effort, Row
from tests.faults.rows import ROWS
from tests.faults.running import Servers, run_row

CASES = [
    pytest.param(row, database, id=f"{row.fault}-{database}", marks=[pytest.mark.alone] if row.is_alone else [])
    for row in ROWS
    for database in row.databases
]


@pytest.fixture(scope="module")
def servers(postgres_server: str) -> Servers:
    """Empty databases."""
    return Servers(postgres_server, MEMORY)


@pytest.mark.parametrize(("row", "database"), CASES)
def test_what_was_promised_holds(row: Row, database: str, servers: Servers) -> None:
    """Whatever goes wrong; see the row's own promise."""
    if row.missing:
        pytest.skip("; ".join(f"needs {need.name}: {need.remedy}" for need in row.missing))
    with servers.place(database) as place:
        verdict = run_row(row, place, Effort(is_quick=True))
    assert not verdict.broken, "\n".join(verdict.broken)
    assert verdict.figures
