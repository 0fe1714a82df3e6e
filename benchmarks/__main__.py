"""The command: `python3 run.py bench`."""

import asyncio
import contextlib
import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console

from benchmarks.chart import draw_chart
from benchmarks.contenders import MissingPackageError, check_installed, contenders_of
from benchmarks.databases import UnsafeServerError, open_databases
from benchmarks.history_command import history
from benchmarks.machine import describe_machine, describe_versions
from benchmarks.pages_command import pages
from benchmarks.process import WorkerError
from benchmarks.progress import Progress
from benchmarks.report import WIDTH, print_report, summarize, text_report, with_targets
from benchmarks.results import DatabaseResult, Results, read_results, write_results
from benchmarks.rounds import compare
from benchmarks.scale import grow
from benchmarks.workloads import WORKLOADS, Plan, workload_named

__all__ = ["app"]

Database = Literal["sqlite", "postgresql"]

app = App(
    name="bench",
    help="How fast the store is, beside its peers: the same work in one run, turn by turn.",
    help_format="plaintext",
)

app.command(history)
app.command(pages)


@app.default
def bench(
    *,
    quick: Annotated[bool, Parameter(negative="")] = False,
    database: Database | None = None,
    turns: int | None = None,
    only: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    without: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    scale: bool = True,
    folder: Path | None = None,
    save: Path | None = None,
) -> int:
    """Run the benchmark and print what it found; returns the exit code.

    Args:
        quick: End within two minutes: it shows that everything works, and little else.
        database: Only this one.
        turns: How many turns each contender has at each workload.
        only: Only these workloads.
        without: All contenders but these.
        scale: Whether to measure a million rows, too.
        folder: Where databases are put; by default the system's temporary folder. The filesystem counts.
        save: A folder for results.json, results.txt and chart.svg.
    """
    told = Console(stderr=True)
    plan = Plan.quick(turns) if quick else Plan.full(turns)
    databases: list[Database] = [database] if database else ["sqlite", "postgresql"]
    date = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        chosen = [workload_named(name) for name in only] if only else list(WORKLOADS)
        specs = {name: [spec for spec in contenders_of(name) if spec.name not in (without or [])] for name in databases}
        _check_names(without or [], databases)
        check_installed([spec for some in specs.values() for spec in some], draws=save is not None)
        found: dict[str, DatabaseResult] = {}
        with Progress(told) as progress:
            for name in databases:
                with open_databases(name, folder) as opened:
                    result = compare(opened, specs[name], chosen, plan, progress)
                    if scale:
                        smaller = plan if name == "sqlite" else plan.fifth()
                        result.scale.extend(grow(opened, name, smaller, progress))
                    found[name] = result
    except (MissingPackageError, UnsafeServerError, WorkerError, ValueError) as error:
        told.print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        told.print("stopped; its processes and databases are gone")
        return 130
    results = Results(
        command=f"python3 run.py bench {shlex.join(sys.argv[1:])}".strip(),
        date=date,
        is_quick=quick,
        plan=plan,
        machine=describe_machine(folder or Path(tempfile.gettempdir())),
        versions=describe_versions(),
        databases=found,
    )
    if save is None:
        # Tables that are cut off tell nothing: a narrow terminal had better wrap them.
        print_report(results, Console(width=max(WIDTH, Console().width)))
        return 0
    save.mkdir(parents=True, exist_ok=True)
    write_results(results, save / "results.json", summary=summarize(results))
    return render(save / "results.json")


@app.command
def render(path: Path) -> int:
    """Make results.txt and chart.svg anew out of a results.json, and the targets in the document of its folder.

    Args:
        path: The results.json.
    """
    results = read_results(path)
    check_installed([], draws=True)
    text = text_report(results)
    path.with_name("results.txt").write_text(text)
    draw_chart(results, path.with_name("chart.svg"))
    document = path.resolve().parent.with_suffix(".md")
    if document.is_file():
        document.write_text(with_targets(document.read_text(), results))
    sys.stdout.write(text)
    return 0


@app.command
def probe(*, rows: int = 100_000, save: Path | None = None) -> int:
    """Measure what the parts of a save and a load cost on this machine, on SQLite: the reasons behind the ratios.

    Args:
        rows: How many checkpoints stats are counted of.
        save: A file to keep the result in.
    """
    from benchmarks.probe import report

    _tell(f"\n{report(rows)}", save)
    return 0


@app.command
def stores(
    *, turns: int = 5, rows: int = 10_000, seconds: float = 1.0, folder: Path | None = None, save: Path | None = None
) -> int:
    """Compare the three stores of this package with one another: in memory, a SQLite file, PostgreSQL.

    Args:
        turns: How many turns each has at each measurement; the median counts.
        rows: How many checkpoints of 1 KB each one holds.
        seconds: How long each measurement of a turn lasts.
        folder: Where databases are put; by default the system's temporary folder. The filesystem counts.
        save: A document with a place for the table.
    """
    from benchmarks.stores import compare_stores, with_table

    table = compare_stores(rows=rows, seconds=seconds, turns=turns, folder=folder)
    command = f"python3 run.py bench {shlex.join(sys.argv[1:])}"
    machine = ", ".join(f"{what} {it}" for what, it in describe_machine(folder or Path(tempfile.gettempdir())).items())
    date = datetime.now(UTC).date().isoformat()
    text = f"{table}\n\n`{command}`, {date}: {machine}"
    if save is not None:
        save.write_text(with_table(save.read_text(), text))
    sys.stdout.write(f"{text}\n")
    return 0


@app.command
def autovacuum(
    *, rows: int = 20_000, seconds: float = 60.0, rate: float = 400.0, naptime: int = 5, folder: Path | None = None
) -> int:
    """Measure how PostgreSQL's table grows under runs and retention, with some settings of autovacuum.

    Args:
        rows: How many checkpoints there are when it begins.
        seconds: How long each of the settings is looked at.
        rate: Checkpoints that are saved in a second.
        naptime: Seconds between two looks of autovacuum.
        folder: Where the server keeps its data; by default the system's temporary folder.
    """
    from benchmarks.autovacuum import Load, measure, report

    load = Load(rows, seconds, rate, naptime)
    try:
        found = measure(load, folder, Console(stderr=True))
    except ValueError as error:
        Console(stderr=True).print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; its server is gone")
        return 130
    Console(width=WIDTH).print(report(load, found))
    return 0


@app.command
def tidying(*, megabytes: int = 250, rows: int = 1_000_000, save: Path | None = None) -> int:
    """Measure what backups cost whoever saves meanwhile, and how long plans, pruning and a vacuum take, on SQLite.

    Args:
        megabytes: How large the file is that is copied, about; 0: nothing is.
        rows: How many checkpoints are planned and pruned.
        save: A file to keep the result in.
    """
    from benchmarks.tidying import report

    _tell(f"\n{report(megabytes, rows)}", save)
    return 0


@app.command
def watching(*, turns: int = 40, postgresql: bool = True, save: Path | None = None) -> int:
    """Measure what metrics and spans cost, and what it costs that there may be some.

    Args:
        turns: How many turns each way of being watched has at each piece of work.
        postgresql: Whether to measure on PostgreSQL, too.
        save: A file to keep the result in.
    """
    from benchmarks.watching import report, watching
    from workflows_mcp import upgrade_schema

    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        urls = {}
        if postgresql:
            urls["PostgreSQL"] = opened.enter_context(open_databases("postgresql", folder)).create("watching")
            asyncio.run(upgrade_schema(urls["PostgreSQL"]))
        costs = watching(folder, turns, urls)
    _tell(report(costs), save)
    return 0


@app.command
def encryption(
    *,
    quick: Annotated[bool, Parameter(negative="")] = False,
    database: Database | None = None,
    folder: Path | None = None,
    save: Path | None = None,
) -> int:
    """Measure what sealing costs: a store without keys and one with keys in turns, in one run.

    Args:
        quick: Show that it works, within some seconds.
        database: Only this one.
        folder: Where databases are put; by default the system's temporary folder.
        save: A file to keep the result in.
    """
    from benchmarks.encryption import measure, table

    calls = 64 if quick else 2048
    parts: list[str] = []
    databases: list[Database] = [database] if database else ["sqlite", "postgresql"]
    try:
        for name in databases:
            with open_databases(name, folder) as opened:
                parts.append(f"\n{name}\n{table(measure(opened, calls=calls))}\n")
    except UnsafeServerError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    _tell("".join(parts), save, folder)
    return 0


@app.command
def mcp(
    *,
    quick: Annotated[bool, Parameter(negative="")] = False,
    turns: int | None = None,
    start: bool = True,
    database: Database | None = None,
    folder: Path | None = None,
    save: Path | None = None,
) -> int:
    """Compare the MCP server with a bare one of the SDK's: start to first answer, and calls over HTTP.

    Args:
        quick: Show that it works, within half a minute.
        turns: How many turns each of them has; the median counts.
        start: Whether to measure starts, too.
        database: Only this one.
        folder: Where databases are put; by default the system's temporary folder.
        save: A file to keep the result in.
    """
    from benchmarks.mcp import report

    names = [database] if database else ["sqlite", "postgresql"]
    wanted = turns or (1 if quick else 9)
    try:
        found = report(names, folder, turns=wanted, calls=32 if quick else 160, starts=start)
    except UnsafeServerError as error:
        Console(stderr=True).print(f"error: {error}", highlight=False, markup=False, soft_wrap=True)
        return 1
    _tell(f"\n{found}\n", save, folder)
    return 0


@app.command
def chains(*, waves: int = 1000, megabytes: float = 2.4, save: Path | None = None) -> int:
    """Compare ways to choose what a state is stored as a delta of: what a run takes up, and what saves and loads cost.

    Args:
        waves: How many states the run has.
        megabytes: How much text there is in the last one.
        save: A file to keep the result in.
    """
    from benchmarks.chains import report
    from benchmarks.prose import NotEnoughTextError

    try:
        found = report(waves, round(megabytes * 1e6))
    except NotEnoughTextError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    _tell(f"\n{found}\n", save)
    return 0


@app.command
def transfer(*, rows: int = 1_000_000, folder: Path | None = None, save: Path | None = None) -> int:
    """Send checkpoints of 1 KB from SQLite to PostgreSQL and back, to a file and from it, by the commands for that.

    Args:
        rows: How many.
        folder: Where databases and files are put; by default the system's temporary folder.
        save: A file to keep the result in.

    Returns:
        0, or 1 when a digest on the way differs from another.
    """
    from benchmarks.transfer import report, travel

    told, agrees = report(travel(rows, folder))
    _tell(f"\n{told}", save, folder)
    return 0 if agrees else 1


def _tell(found: str, save: Path | None, folder: Path | None = None) -> None:
    """Print what was found beneath the command and the machine that it was found by, and keep it if asked to."""
    command = f"python3 run.py bench {shlex.join(sys.argv[1:])}"
    machine = ", ".join(describe_machine(folder or Path(tempfile.gettempdir())).values())
    text = f"{command}\n{machine}\n{found}"
    if save is not None:
        save.write_text(text)
    sys.stdout.write(text)


def _check_names(without: list[str], databases: list[Database]) -> None:
    known = {spec.name for name in databases for spec in contenders_of(name)}
    for name in without:
        if name not in known:
            raise ValueError(f"no contender is called {name!r}; they are: {', '.join(sorted(known))}")


if __name__ == "__main__":
    sys.exit(app())
