"""The command: `python3 run.py faults`."""

import shlex
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console

from tests.faults.report import WIDTH, Found, check_document, print_report, save_report
from tests.faults.row import Effort, Row
from tests.faults.rows import ROWS, row_named
from tests.faults.running import open_servers, run_row

__all__ = ["app"]

Database = Literal["sqlite", "postgresql", "all"]

app = App(
    name="faults",
    help="What goes wrong, done on purpose: kills, power cuts, full disks, frozen servers, hostile data.",
    help_format="plaintext",
)


@app.default
def faults(
    *,
    quick: Annotated[bool, Parameter(negative="")] = False,
    only: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    database: Database | None = None,
    seed: int = 7,
    require_all: Annotated[bool, Parameter(negative="")] = False,
    save: Path | None = None,
) -> int:
    """Provoke every fault and print what was found; returns 1 when a promise was broken, or nothing was run.

    Args:
        quick: End within three minutes instead of thirty.
        only: Only these faults.
        database: Only `sqlite`, `postgresql` or `all`, which compares the stores.
        seed: Of what happens at random.
        require_all: Also fail when the system lacks what a fault needs, instead of saying so.
        save: A document whose table is replaced by what is found; it holds all rows or none.
    """
    signal.signal(signal.SIGTERM, _end)
    told = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        rows = [row_named(name) for name in only] if only else list(ROWS)
        if save is not None:
            _check_save(save, is_whole=only is None and database is None)
    except (ValueError, OSError) as error:
        told.print(f"error: {error}")
        return 1
    jobs = [(row, name) for row in rows if not row.missing for name in row.databases if database in {None, name}]
    missing = [need for row in rows for need in row.missing]
    if not jobs and not missing:
        told.print(f"error: nothing was run: none of these faults is provoked on {database}")
        return 1
    found = _provoke(jobs, Effort(is_quick=quick, seed=seed), told)
    command = shlex.join(["python3", "run.py", "faults", *sys.argv[1:]])
    print_report(found, Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH))
    if save is not None:
        save_report(save, found, command, datetime.now(UTC).isoformat(timespec="minutes"))
    for row in rows:
        for need in row.missing:
            told.print(f"not run: {row.fault}, which needs {need.name} ({need.remedy})")
    return 1 if any(one.verdict.broken for one in found) or (require_all and missing) else 0


def _check_save(document: Path, *, is_whole: bool) -> None:
    """Refuse a document before it is too late: half an hour later.

    Raises:
        ValueError: Not all is to be run, or the document has no place for a table.
        OSError: It cannot be read.
    """
    if not is_whole:
        raise ValueError("--save keeps the whole table: leave out --only and --database")
    check_document(document.read_text())


def _end(*_: object) -> None:
    """Unwind at a signal, so that servers and a row that is under way end with this command."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would cut that short
    sys.exit(143)


def _provoke(jobs: Sequence[tuple[Row, str]], effort: Effort, told: Console) -> list[Found]:
    found: list[Found] = []
    if not jobs:
        return found
    with open_servers() as servers:
        for row, name in jobs:
            told.print(f"{row.fault} ({name}) …", end=" ")
            with servers.place(name) as place:
                verdict = run_row(row, place, effort)
            found.append(Found(row, name, verdict))
            told.print("BROKEN" if verdict.broken else "holds", f"{verdict.seconds:.1f} s: {verdict}")
            for line in verdict.broken:
                told.print(f"  {line}")
    return found


if __name__ == "__main__":
    sys.exit(app())
