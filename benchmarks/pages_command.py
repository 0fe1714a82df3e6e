"""The command: `python3 run.py bench pages`."""

import dataclasses
import shlex
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

from benchmarks.databases import UnsafeServerError, open_databases
from benchmarks.machine import describe_machine, describe_versions
from benchmarks.pages_client import NotAPageError
from benchmarks.pages_report import check_place, markdown, with_pages
from benchmarks.pages_results import PagesResults, write_pages
from benchmarks.process import forget_settings
from benchmarks.progress import Progress
from benchmarks.served import ServerNotStartedError
from workflows_mcp import CheckpointStoreError

__all__ = ["pages"]


def pages(
    *,
    quick: Annotated[bool, Parameter(negative="")] = False,
    rows: Annotated[int | None, Parameter(validator=Number(gte=1000))] = None,
    turns: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    database: Literal["sqlite", "postgresql"] | None = None,
    only: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    folder: Path | None = None,
    save: Path | None = None,
) -> int:
    """Ask a server for the inspector's pages, with a million checkpoints behind them: its time, and the client's.

    Args:
        quick: Show that everything works, with few checkpoints; the figures mean little.
        rows: How many checkpoints there are, about; by default 1,000,000, and 20,000 when it is to be quick.
        turns: How often each page is asked for.
        database: Only this one.
        only: Only these pages; an unknown one is told which there are.
        folder: Where databases are put; by default the system's temporary folder. The filesystem counts.
        save: A folder for pages.json and pages.txt; the document of its name, beside it, gets the tables.
    """
    from benchmarks.pages import PagesPlan, measure

    forget_settings("WORKFLOWS_", "OTEL_")
    told = Console(stderr=True)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    plan = PagesPlan.quick() if quick else PagesPlan()
    plan = dataclasses.replace(plan, rows=rows or plan.rows, turns=turns or plan.turns, only=tuple(only or ()))
    found = []
    try:
        _check_keys(plan.only)
        document = None if save is None else save.resolve().with_suffix(".md")
        if document is not None and document.is_file():
            check_place(document.read_text())  # found out before anything is measured
        with Progress(told) as progress:
            for name in [database] if database else ["sqlite", "postgresql"]:
                with open_databases(name, folder) as opened:
                    found.append(measure(opened, name, plan, progress))
    except (
        UnsafeServerError,
        NotAPageError,
        ServerNotStartedError,
        CheckpointStoreError,
        OSError,
        ValueError,
    ) as error:
        told.print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        told.print("stopped; its servers and databases are gone")
        return 130
    results = PagesResults(
        command=f"python3 run.py bench {shlex.join(sys.argv[1:])}",
        date=date,
        is_quick=quick,
        machine=describe_machine(folder or Path(tempfile.gettempdir())),
        versions=describe_versions(),
        databases=found,
    )
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)
        write_pages(results, save / "pages.json")
        (save / "pages.txt").write_text(markdown(results))
        if document is not None and document.is_file():
            document.write_text(with_pages(document.read_text(), results))
    sys.stdout.write(markdown(results))
    return 0


def _check_keys(only: Sequence[str]) -> None:
    from benchmarks.pages_asked import KEYS

    for key in only:
        if key not in KEYS:
            raise ValueError(f"no page is called {key!r}; they are: {', '.join(KEYS)}")
