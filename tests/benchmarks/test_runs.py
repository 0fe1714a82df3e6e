"""Small runs of the real thing: contenders in their processes, tables and targets out of what they did."""

import io
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import measure, process
from benchmarks.__main__ import bench
from benchmarks.contenders import OURS, ContenderSpec, contenders_of
from benchmarks.databases import SQLiteDatabases
from benchmarks.figures import Turn
from benchmarks.process import Worker
from benchmarks.progress import Progress
from benchmarks.report import summarize, text_report
from benchmarks.results import ContenderResult, DatabaseResult, Entry, Figure, Results, read_results, write_results
from benchmarks.rounds import compare
from benchmarks.scale import grow
from benchmarks.states import SIZES, Shape
from benchmarks.targets import TARGETS, FigureTarget, RatioTarget, check_targets
from benchmarks.workloads import WAVES, Plan, workload_named
from tests.faults import crew

PLAN = Plan(
    turns=2,
    seconds=0.02,
    data_rows=1_200,
    data_turns=1,
    loaded_rows=40,
    scale_rows=2_000,
    scale_mixed=40,
    scale_large=4,
    scale_calls=2,
    scale_saves=5,
    settle=False,
)
SPECS = [spec for spec in contenders_of("sqlite") if spec.name in (OURS, "guide", "sqlite3")]


@pytest.fixture(autouse=True)
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that need not import everything anew: what they do counts here, and not how fast they do it."""
    monkeypatch.setattr(process, "_PROCESSES", crew._PROCESSES)


def told() -> Progress:
    """Progress that nobody sees."""
    return Progress(Console(file=io.StringIO()))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_what_a_worker_saves_is_in_the_database(spec: ContenderSpec, tmp_path: Path) -> None:
    """As many rows as it says that it saved; seen by another process, which this one is."""
    path = str(tmp_path / "one.db")
    save, load = workload_named("save_64_1kb"), workload_named("load_1kb")
    with Worker(spec) as worker:
        worker.call(measure.open_database, path)
        worker.call(measure.use_shape, Shape(SIZES["1kb"], SIZES["1kb"]))
        saved, _ = worker.call(measure.take_turn, save, PLAN)
        worker.call(measure.fill, 10)
        loaded, _ = worker.call(measure.take_turn, load, PLAN)
        with closing(sqlite3.connect(path)) as other:
            [(rows,)] = other.execute("SELECT count(*) FROM checkpoints").fetchall()
        worker.call(measure.close)
    assert rows == saved.operations + 10
    assert saved.operations >= 64
    assert loaded.operations > 0
    assert 0 < saved.p50_ms <= saved.p99_ms <= saved.worst_ms
    assert saved.peak_bytes > 10 * 2**20


def test_a_small_comparison(tmp_path: Path) -> None:
    """Every contender has its turns at every workload, and all of them delete the same."""
    chosen = [workload_named(name) for name in ("save_1kb", "load_64_1kb", "newest_50", "trim", "cleanup")]
    result = compare(SQLiteDatabases(tmp_path), SPECS, chosen, PLAN, told())
    for workload in chosen:
        for spec in SPECS:
            turns = result.turns(workload.name, spec.name)
            assert len(turns) == (2 if workload.is_quick else 1), (workload.name, spec.name)
            assert all(turn.operations > 0 for turn in turns)
    assert result.turns("newest_50", "guide")[0].rows == 50
    assert {result.turns("cleanup", spec.name)[0].rows for spec in SPECS} == {594}, "half of 1,200, but six wait"
    assert result.contenders["guide"].settings["synchronous"] == "FULL"
    assert list(tmp_path.iterdir()) == [], "all databases are gone"


def test_a_small_comparison_of_runs(tmp_path: Path) -> None:
    """Waves are counted, not runs; only those who run workflows take part."""
    chosen = [workload_named(name) for name in ("waves_32", "waves_unsaved")]
    result = compare(SQLiteDatabases(tmp_path), SPECS, chosen, PLAN, told())
    assert list(result.contenders) == [OURS]
    for workload in chosen:
        for turn in result.turns(workload.name, OURS):
            assert turn.operations >= WAVES * workload.tasks
            assert turn.operations % WAVES == 0
            assert turn.p50_ms < turn.seconds * 1000 / WAVES
    assert list(tmp_path.iterdir()) == [], "all databases are gone"


def test_a_small_run_about_scale_measures_what_targets_ask_for(tmp_path: Path) -> None:
    """Half of the rows are trimmed, half of the rest cleaned up, with a saver in either place."""
    figures = {figure.key: figure for figure in grow(SQLiteDatabases(tmp_path), "sqlite", PLAN, told())}
    assert len({figure.title for figure in figures.values()}) == len(figures)
    asked = {target.key for target in TARGETS if isinstance(target, FigureTarget)}
    assert asked <= figures.keys()
    for beside in ("same", "other"):
        assert figures[f"trim_{beside}_rows"].value > 900
        assert figures[f"cleanup_{beside}_rows"].value > 400
        assert figures[f"trim_{beside}_saves"].value > 0
        assert figures[f"trim_{beside}_worst"].value >= figures[f"trim_{beside}_p50"].value > 0
    assert figures["large_file"].value > 1
    assert list(tmp_path.iterdir()) == [], "all databases are gone"


def small_results() -> Results:
    """A run in which our rate is twice the guide's and twenty times that of DBOS."""
    turns = {
        name: Entry([Turn(round(rate), 1.0, 1.5, 2.5, 3.0, 50 * 2**20)])
        for name, rate in (("ours", 8400), ("guide", 4200))
    }
    turns["langgraph"] = Entry([], "has none of it")
    runs = {
        name: Entry([Turn(rate, 1.0, 1000 / rate, 2.5, 3.0, 50 * 2**20)])
        for name, rate in (("ours", 8000), ("dbos", 400))
    }
    runs_alone = {"ours": Entry([Turn(4000, 1.0, 0.25, 0.5, 0.7)])}
    workloads = {"load_1kb": turns, "waves": runs, "waves_unsaved": runs_alone}
    contenders = {name: ContenderResult(f"title of {name}", {"synchronous": "FULL"}) for name in (*turns, "dbos")}
    scale = [Figure("newest_ratio", "newest 50: times as long", 1.25, "x")]
    sqlite = DatabaseResult({}, contenders, workloads, scale, "a way")
    return Results(
        command="python3 run.py bench",
        date="2026-01-01",
        is_quick=False,
        plan=PLAN,
        machine={"cpu": "a cpu"},
        versions={"python": "3.11"},
        databases={"sqlite": sqlite},
    )


def test_the_report_shows_rates_ratios_times_memory_and_targets() -> None:
    """Out of results alone."""
    lines = text_report(small_results()).splitlines()

    def cells(start: str, number: int) -> list[str]:
        found = [line for line in lines if line.startswith(f"│ {start}")][number]
        return [cell.strip() for cell in found.strip("│").split("│")]

    title = "load, one after the other, 1 KB"
    assert cells(title, 0)[1:4] == ["8,400", "4,200", "-"]
    assert cells(title, 1)[1:4] == ["1.00 ×", "2.00 ×", "-"]
    assert cells(title, 2)[1:4] == ["1.50 / 2.50", "1.50 / 2.50", "-"]
    assert cells(title, 3)[1:4] == ["50", "50", "-"]
    title = "waves, one run after the other"
    assert cells(title, 0)[1:3] == ["8,000", "400"]
    assert cells(title, 1)[1:3] == ["1.00 ×", "20.0 ×"]
    assert cells("waves that are not saved", 0)[1:3] == ["4,000", "-"]
    assert cells("newest 50: times as long", 0)[1] == "1.25 ×"
    targets = [cells("sqlite", number) for number in range(4)]
    assert ["sqlite", "load_1kb: at least 4 × guide", "2.00", "NO"] in targets
    assert ["sqlite", "waves: at least 3 × dbos", "20.0", "yes"] in targets
    assert ["sqlite", "waves_unsaved: one takes less than 200 µs", "250", "NO"] in targets
    assert any("langgraph: has none of it" in line for line in lines)
    assert max(map(len, lines)) <= 120


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    """So that the report can be made anew; the summary in the file is for readers."""
    path = tmp_path / "results.json"
    results = small_results()
    write_results(results, path, summary=summarize(results))
    assert read_results(path) == results
    assert text_report(read_results(path)) == text_report(results)
    assert '"ours_is_times_as_fast": 2.0' in path.read_text()


def test_targets_speak_of_workloads_and_contenders_that_exist() -> None:
    """And each is measured where its part of the results is there."""
    for target in TARGETS:
        if isinstance(target, RatioTarget):
            assert workload_named(target.workload).name == target.workload
            assert target.peer in {spec.name for spec in contenders_of(target.database)}
    outcomes = {one.target.text: one for one in check_targets(small_results()) if one.target.database == "sqlite"}
    assert outcomes["load_1kb: at least 4 × guide"].is_met is False
    assert outcomes["newest 50: with all rows, against 1,000 rows: at most 2 x"].is_met is True
    assert outcomes["waves: at least 3 × dbos"].is_met is True
    assert outcomes["waves_unsaved: one takes less than 200 µs"].is_met is False
    assert outcomes["load_20kb: at least 4 × guide"].is_met is None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"only": ["save_2kb"]}, "no workload is called 'save_2kb'"), ({"without": ["mysql"]}, "no contender is called")],
)
def test_a_wrong_name_is_refused(
    options: dict[str, list[str]], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured."""
    assert bench(quick=True, **options) == 1  # type: ignore[arg-type] # the options of one case
    assert complaint in capsys.readouterr().err
