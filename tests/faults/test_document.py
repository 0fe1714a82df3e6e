"""The table of faults has every row, and the document has the table."""

import ast
from pathlib import Path

import pytest

from tests.faults.report import Found
from tests.faults.row import Row, Verdict
from tests.faults.rows import ROWS

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "reliability.md"
PLACES = [pytest.param(row, database, id=f"{row.fault}-{database}") for row in ROWS for database in row.databases]


def has_row(path: Path) -> bool:
    """Whether a module has a row at its top."""
    return any(
        isinstance(name, ast.Name) and name.id == "ROW"
        for statement in ast.parse(path.read_text()).body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for name in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
    )


def test_every_module_with_a_row_is_in_the_table() -> None:
    """A harness that nobody runs finds nothing."""
    modules = {path.stem for path in HERE.glob("*.py") if has_row(path)}
    assert sorted(row.check.__module__.rpartition(".")[2] for row in ROWS) == sorted(modules)
    assert len({row.fault for row in ROWS}) == len(ROWS), "two have one name, and only the first can be asked for"


@pytest.mark.parametrize(("row", "database"), PLACES)
def test_the_document_tells_what_was_found(row: Row, database: str) -> None:
    """Each row stands in the table as it is now, once for each database, and holds."""
    lines = [line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    fault, name, *_ = Found(row, database, Verdict()).cells
    assert [row.fault, row.promise] in lines, "the document has another promise: run `python3 run.py faults --save`"
    verdicts = [line[3] for line in lines if len(line) == 5 and line[:2] == [fault, name]]
    assert verdicts == ["holds"]
