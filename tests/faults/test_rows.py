"""Every row of the table of faults, quickly; the long version is `python3 run.py faults`."""

import pytest

from tests.conftest import MEMORY
from tests.faults.row import Effort, Row
from tests.faults.rows import ROWS
from tests.faults.running import Servers, run_row

QUICK = Effort(is_quick=True)

SECONDS_AROUND = 60.0
"""For all that is done around a row: a server is started before, and its processes are asked where they hang."""


def _marks(row: Row) -> list[pytest.MarkDecorator]:
    """A row that hangs tells so itself, before pytest's time is over."""
    return [pytest.mark.timeout(row.seconds_for(QUICK) + SECONDS_AROUND)] + [pytest.mark.alone] * row.is_alone


CASES = [
    pytest.param(row, database, id=f"{row.fault}-{database}", marks=_marks(row))
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
        verdict = run_row(row, place, QUICK)
    assert not verdict.broken, "\n".join(verdict.broken)
    assert verdict.figures
