"""The command: `python3 run.py bench history`."""

import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from benchmarks.contenders import MissingPackageError, check_installed
from benchmarks.databases import UnsafeServerError, open_databases
from benchmarks.history_chart import draw_history
from benchmarks.history_figures import check_figures, with_figures
from benchmarks.history_report import check_marks, markdown, with_history
from benchmarks.history_results import HistoryResults, write_history
from benchmarks.machine import describe_machine, describe_versions
from benchmarks.process import forget_settings
from benchmarks.progress import Progress
from benchmarks.states import plain_size
from workflows_mcp import CheckpointStoreError

__all__ = ["history"]


def history(
    *,
    quick: Annotated[bool, Parameter(negative="")] = False,
    waves: int | None = None,
    megabytes: float | None = None,
    postgresql: bool = True,
    folder: Path | None = None,
    save: Path | None = None,
) -> int:
    """Keep the whole history of a long run, beside other ways to keep it: its size, and what saves and loads cost.

    Args:
        quick: Show that everything works, with a short run; the figures mean little.
        waves: How many waves the run has; by default 1,000, and 60 when it is to be quick.
        megabytes: Plain JSON of its last state, in 10**6 bytes; by default 2.6 for 1,000 waves.
        postgresql: Whether to measure on PostgreSQL, too.
        folder: Where databases are put; by default the system's temporary folder. The filesystem counts.
        save: A folder for history.json and two charts; the document of its name, beside it, gets the tables, and the
            README.md above both the most important figures.
    """
    from benchmarks.history import CONTENDERS, HistoryPlan, NotEqualError, make_runs, measure

    forget_settings("WORKFLOWS_", "LANGGRAPH_", "LANGCHAIN_", "OTEL_")
    told = Console(stderr=True)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    databases = ["sqlite", "postgresql"] if postgresql else ["sqlite"]
    specs = {name: [spec for spec in CONTENDERS if spec.database == name] for name in databases}
    try:
        check_installed([spec for some in specs.values() for spec in some], draws=save is not None)
        if save is not None:
            _check_marks(save)
        plan = HistoryPlan.chosen(quick=quick, waves=waves, megabytes=megabytes)
        with Progress(told) as progress:
            progress.begin("making the states")
            runs = make_runs(plan)
            found = []
            for name in databases:
                with open_databases(name, folder) as opened:
                    found.append(measure(opened, specs[name], plan, runs, progress))
    except (MissingPackageError, UnsafeServerError, NotEqualError, CheckpointStoreError, OSError, ValueError) as error:
        told.print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        told.print("stopped; its databases are gone")
        return 130
    results = HistoryResults(
        command=f"python3 run.py bench {shlex.join(sys.argv[1:])}",
        date=date,
        is_quick=quick,
        machine=describe_machine(folder or Path(tempfile.gettempdir())),
        versions=describe_versions(),
        waves=runs.whole.waves,
        plain_bytes=runs.whole.plain_bytes,
        all_plain_bytes=sum(map(plain_size, runs.whole.states())),
        databases=found,
    )
    if save is not None:
        _keep(results, save)
    sys.stdout.write(markdown(results))
    return 0


def _document_of(folder: Path) -> Path:
    return folder.resolve().with_suffix(".md")


def _readme_of(folder: Path) -> Path:
    """Of the folder in which the document's is; a folder that has no document beside it leaves that alone."""
    return _document_of(folder).parents[1] / "README.md"


def _check_marks(folder: Path) -> None:
    """Find out before anything is measured, rather than after, that it cannot be kept."""
    document, readme = _document_of(folder), _readme_of(folder)
    if document.is_file():
        check_marks(document.read_text())
        if readme.is_file():
            check_figures(readme.read_text())


def _keep(results: HistoryResults, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_history(results, folder / "history.json")
    draw_history(results, folder)
    document, readme = _document_of(folder), _readme_of(folder)
    if document.is_file():
        document.write_text(with_history(document.read_text(), results))
        if readme.is_file():
            readme.write_text(with_figures(readme.read_text(), results))
