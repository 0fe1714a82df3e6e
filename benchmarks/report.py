"""The results as tables."""

import statistics
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import OURS
from benchmarks.figures import Turn, median_rate, ratio_between
from benchmarks.results import DatabaseResult, Entry, Results
from benchmarks.targets import check_targets
from benchmarks.workloads import WORKLOADS, Workload

__all__ = ["WIDTH", "markdown_targets", "print_report", "summarize", "text_report", "with_targets"]

WIDTH = 120
"""Columns that the tables need."""

_NAMES = {"sqlite": "SQLite, synchronous=FULL", "postgresql": "PostgreSQL, synchronous_commit=on"}

_NOTES = """
Rates and times are medians of the turns; a ratio is the median of the ratios within each turn: above 1, we are faster.
Ours compresses what it stores and checks that it can give it back exactly; the peers do neither. Noise hardly shrinks.
Listings: the guide reads all rows with their payloads, LangGraph those it lists with theirs, the rest metadata only.
sqlite3 uses no event loop: 64 tasks are worked off one after the other. The guide's 64 tasks share one transaction, so
that the failure or cancellation of one can undo the saves of its neighbours.
Waves are those of runs of 20, one block each that does nothing; DBOS runs workflows of as many steps.
""".strip()

_BEGIN, _END = "<!-- targets -->", "<!-- /targets -->"


def text_report(results: Results) -> str:
    """The report as plain text."""
    console = Console(width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        print_report(results, console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def print_report(results: Results, console: Console) -> None:
    """Print all tables."""
    console.print(f"Benchmark of {results.date}: {results.command}", highlight=False, soft_wrap=True)
    if results.is_quick:
        console.print("A quick run: it shows that everything works; its figures mean little.", soft_wrap=True)
    plan = results.plan
    console.print(
        f"{plan.turns} turns of {plan.seconds:g} s for each contender and workload, in rotating order; "
        f"{plan.data_turns} where all of the {plan.data_rows:,} checkpoints of 20 KB are worked through, of which trim "
        f"keeps {plan.trim_keep} for each of 20 workflows, and cleaning up the newer half.",
        highlight=False,
    )
    for label, values in (("Machine", results.machine), ("Versions", results.versions)):
        _print_line(console, label, values)
    for name, result in results.databases.items():
        console.print()
        console.rule(_NAMES[name], characters="=", align="left")
        _print_database(console, result)
    console.print()
    console.print(_target_table(results))
    console.print(_NOTES, highlight=False)


def _print_line(console: Console, label: str, values: dict[str, str]) -> None:
    console.print(f"{label}: " + ", ".join(f"{name} {value}" for name, value in values.items()), highlight=False)


def _print_database(console: Console, result: DatabaseResult) -> None:
    if result.server:
        _print_line(console, "Server", result.server)
    for name, contender in result.contenders.items():
        settings = "".join(f", {key} {value}" for key, value in contender.settings.items())
        console.print(f"  {name}: {contender.title}{settings}", highlight=False)
    for runs in (False, True):
        workloads = [one for one in WORKLOADS if one.name in result.workloads and one.runs is runs]
        if workloads:
            _print_tables(console, result, workloads, "a wave's share of its run" if runs else "one operation")
    if result.workloads:
        missing = {
            (name, entry.missing)
            for entries in result.workloads.values()
            for name, entry in entries.items()
            if entry.missing
        }
        for name, reason in sorted(missing):
            console.print(f"- {name}: {reason}", highlight=False)
    if result.scale:
        console.print(_scale_table(result))


def _print_tables(console: Console, result: DatabaseResult, workloads: list[Workload], what: str) -> None:
    """The same workloads and contenders in each."""
    console.print(_table("Rate (a second) or duration", result, workloads, _speed, spread=True))
    console.print(_table("How many times as fast ours is", result, workloads, _ratio))
    console.print(_table(f"Duration of {what}: median / 99th percentile, ms", result, workloads, _latency))
    console.print(_table(f"Peak memory of the process, MB ({result.memory})", result, workloads, _memory))


_Cell = Callable[[Workload, list[Turn], list[Turn]], str]


def _table(
    title: str, result: DatabaseResult, workloads: list[Workload], cell: _Cell, *, spread: bool = False
) -> Table:
    """Workloads down, contenders across."""
    names = [name for name in result.contenders if any(name in result.workloads[one.name] for one in workloads)]
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("workload")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    if spread:
        table.add_column("spread of ours", justify="right", no_wrap=True)
    for workload in workloads:
        ours = result.turns(workload.name, OURS)
        found = [result.turns(workload.name, name) for name in names]
        cells = [cell(workload, ours, turns) if turns else "-" for turns in found]
        table.add_row(workload.title, *cells, *([_spread(ours)] if spread else []))
    return table


def _speed(workload: Workload, _: list[Turn], turns: list[Turn]) -> str:
    if workload.is_quick:
        return _number(median_rate(turns))
    return f"{_number(statistics.median(turn.p50_ms for turn in turns))} ms"


def _spread(turns: list[Turn]) -> str:
    """How far the turns lie apart."""
    rates = [turn.rate for turn in turns]
    if len(rates) < 2:
        return "-"
    middle = statistics.median(rates)
    return f"-{1 - min(rates) / middle:.0%} +{max(rates) / middle - 1:.0%}"


def _ratio(_: Workload, ours: list[Turn], turns: list[Turn]) -> str:
    return f"{_number(ratio_between(ours, turns))} ×" if ours else "-"


def _latency(_: Workload, __: list[Turn], turns: list[Turn]) -> str:
    middle = statistics.median(turn.p50_ms for turn in turns)
    high = statistics.median(turn.p99_ms for turn in turns)
    return f"{_number(middle)} / {_number(high)}"


def _memory(_: Workload, __: list[Turn], turns: list[Turn]) -> str:
    return f"{max(turn.peak_bytes for turn in turns) / 2**20:.0f}"


def _number(value: float) -> str:
    """A number with about three digits that mean something."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _scale_table(result: DatabaseResult) -> Table:
    table = Table(title="What size does to our store", title_justify="left", title_style="bold")
    table.add_column("figure")
    table.add_column("value", justify="right", no_wrap=True)
    for figure in result.scale:
        number = f"{figure.value:,.0f}" if figure.unit == "rows" else _number(figure.value)
        table.add_row(figure.title, f"{number} {figure.unit.replace('x', '×').replace('rows', '')}".rstrip())
    return table


def _target_table(results: Results) -> Table:
    outcomes = check_targets(results)
    open_ = sum(outcome.is_met is None for outcome in outcomes)
    table = Table(title="Targets", title_justify="left", title_style="bold", caption_justify="left")
    table.caption = f"{open_} more targets are about what this run did not measure" if open_ else None
    for title in ("database", "target", "measured", "met"):
        table.add_column(title, justify="right" if title == "measured" else "left", no_wrap=True)
    for outcome in outcomes:
        if outcome.measured is not None:
            met = "yes" if outcome.is_met else "NO"
            table.add_row(outcome.target.database, outcome.target.text, _number(outcome.measured), met)
    return table


def markdown_targets(results: Results) -> str:
    """The targets that were measured, as a table for a document."""
    lines = ["| database | target | measured | met |", "|---|---|---|---|"]
    for outcome in check_targets(results):
        if outcome.measured is not None:
            target = outcome.target
            met = "yes" if outcome.is_met else "**no**"
            lines.append(f"| {target.database} | {target.text} | {_number(outcome.measured)} | {met} |")
    return "\n".join(lines)


def with_targets(document: str, results: Results) -> str:
    """A document whose table of targets, between its marks, is that of some results."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    return f"{before}{begin}\n{markdown_targets(results)}\n{end}{after}"


def summarize(results: Results) -> dict[str, Any]:
    """Median rates, ratios and targets, for those who read the JSON."""
    databases = {}
    for name, result in results.databases.items():
        databases[name] = {
            workload: {contender: _summary(entries, contender) for contender in entries}
            for workload, entries in result.workloads.items()
        }
    targets = [
        {
            "database": outcome.target.database,
            "target": outcome.target.text,
            "measured": outcome.measured,
            "met": outcome.is_met,
        }
        for outcome in check_targets(results)
    ]
    return {"databases": databases, "targets": targets}


def _summary(entries: dict[str, Entry], contender: str) -> dict[str, float] | None:
    turns = entries[contender].turns
    if not turns:
        return None
    found = {
        "rate": median_rate(turns),
        "p50_ms": statistics.median(turn.p50_ms for turn in turns),
        "p99_ms": statistics.median(turn.p99_ms for turn in turns),
        "peak_mb": max(turn.peak_bytes for turn in turns) / 2**20,
    }
    ours = entries[OURS].turns if OURS in entries else []
    if ours and contender != OURS:
        found["ours_is_times_as_fast"] = ratio_between(ours, turns)
    return found
