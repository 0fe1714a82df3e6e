"""The history of a long run: real text, states as the executor's, a small run of all the work, and its report."""

import dataclasses
import io
import math
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from rich.console import Console

from benchmarks import prose
from benchmarks.contenders import OURS, ContenderSpec
from benchmarks.databases import PostgreSQLDatabases, SQLiteDatabases
from benchmarks.history import CONTENDERS, HistoryPlan, NotEqualError, heads_of, make_runs, measure
from benchmarks.history_command import _check_marks, _keep
from benchmarks.history_figures import with_figures
from benchmarks.history_report import markdown, with_history
from benchmarks.history_results import (
    Bound,
    Compared,
    HistoryOf,
    HistoryResults,
    Retained,
    Way,
    goals,
    read_history,
    write_history,
)
from benchmarks.history_work import check_contents, check_states, join_turns, opened, save_states
from benchmarks.long_run import LongRun
from benchmarks.progress import Progress
from benchmarks.states import plain_size
from tests.documents.pieces import ROOT
from workflows_mcp.engine.progress import Progress as RunProgress

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

PLAN = HistoryPlan(waves=12, megabytes=0.03, sizes=(20_000,), calls=2, heads=2, openings=1, kept=3)
RESULTS = ROOT / "docs" / "performance" / "history.json"


@pytest.fixture(scope="module")
def run() -> LongRun:
    """Forty waves, whose last state has 100 KB."""
    return LongRun(40, 100_000, prose.prose(100_000))


def told() -> Progress:
    """Progress that nobody sees."""
    return Progress(Console(file=io.StringIO()))


def test_the_text_shrinks_as_prose_does_and_is_the_same_each_time() -> None:
    """About threefold: as much as what people write, and less than a phrase that is repeated."""
    text = prose.prose(300_000)
    assert len(text) == 300_000
    assert prose.prose(200_000) == text[:200_000]
    assert 2.5 < len(text) / len(zstd.compress(text.encode(), level=3)) < 4.5


def test_text_is_never_repeated_to_fill_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is too little of it, somebody is told what to do."""
    pieces = ["a" * 100, "a" * 100, "too short", "b" * 100]
    monkeypatch.setattr(prose, "_pieces", lambda: iter(pieces))
    assert prose.prose(204) == f"{'a' * 100}\n\n{'b' * 100}\n\n"
    with pytest.raises(prose.NotEnoughTextError, match=r"204 characters of prose, and 205 are needed: .* --megabytes"):
        prose.prose(205)


def test_docstrings_and_comments_are_text_and_code_is_not() -> None:
    """Lines of one comment belong together."""
    source = '"""Module."""\n# one\n# two\nx = "no text"\n\n\ndef f():\n    """Function."""\n    # three\n'
    assert [*prose._docstrings(source), *prose._comments(source)] == ["Module.", "Function.", "one\ntwo", "three"]


def test_a_run_is_as_large_as_asked_for_and_grows_by_another_text_each_wave(run: LongRun) -> None:
    """Each state holds all that the one before it knew."""
    states = list(run.states())
    assert plain_size(states[-1]) == run.plain_bytes == pytest.approx(100_000, rel=0.01)
    blocks = states[-1].context["blocks"]
    assert len({record["outputs"]["stdout"] for record in blocks.values()}) == 40
    for wave, state in enumerate(states, start=1):
        assert state.completed_blocks == list(blocks)[:wave]
        assert state.context["blocks"] == {name: blocks[name] for name in state.completed_blocks}
    assert [state.created_at for state in states] == sorted(state.created_at for state in states)


def test_a_state_can_be_made_again(run: LongRun) -> None:
    """To the byte; another run has other ids."""
    [*_, last] = run.states(38)
    assert orjson.dumps(vars(run.state(40))) == orjson.dumps(vars(last))
    assert run.state(40, run=1).run_id != last.run_id
    assert run.state(40, run=1).checkpoint_id != last.checkpoint_id


def test_the_executor_could_go_on_from_a_state(run: LongRun) -> None:
    """They are those of a real run."""
    state = run.state(7)
    saved = dataclasses.replace(state, context=orjson.loads(orjson.dumps(state.context)))
    progress = RunProgress.from_state(saved, lambda _: None)
    assert progress.root.wave == ("step_007",)
    assert progress.root.completed == state.completed_blocks


@pytest.mark.parametrize(
    ("waves", "size", "complaint"),
    [(0, 9_000, "1 to 1,000 waves, and not 0"), (1001, 9_000, "not 1,001"), (40, 9_000, "choose more --megabytes")],
)
def test_a_run_that_cannot_be_is_refused(waves: int, size: int, complaint: str) -> None:
    """By a message that says why."""
    with pytest.raises(ValueError, match=complaint):
        LongRun(waves, size, "text " * 2_000)


@pytest.mark.parametrize(
    ("waves", "megabytes", "complaint"), [(1, None, "and not 1$"), (1001, None, "1,001"), (None, math.nan, "no size")]
)
def test_a_plan_that_cannot_be_is_refused(waves: int | None, megabytes: float | None, complaint: str) -> None:
    """Before anything is measured."""
    with pytest.raises(ValueError, match=complaint):
        HistoryPlan.chosen(quick=True, waves=waves, megabytes=megabytes)


def test_each_wave_adds_as_much_unless_somebody_wants_another_size() -> None:
    """2.6 KB of plain JSON."""
    assert HistoryPlan.chosen(quick=True, waves=None, megabytes=None).megabytes == 0.156
    assert HistoryPlan.chosen(quick=False, waves=500, megabytes=None).megabytes == 1.3
    assert HistoryPlan.chosen(quick=False, waves=500, megabytes=2).megabytes == 2
    assert HistoryPlan.chosen(quick=True, waves=4, megabytes=None).kept == 3


def specs_of(database: str) -> list[ContenderSpec]:
    """Those that need no packages besides ours."""
    return [spec for spec in CONTENDERS if spec.database == database and not spec.needs]


def test_a_small_run_does_all_the_work(tmp_path: Path) -> None:
    """Everything is saved, loaded, compared and deleted, and nothing is left of the databases."""
    found = measure(SQLiteDatabases(tmp_path), specs_of("sqlite"), PLAN, make_runs(PLAN), told())
    assert [way.name for way in found.ways] == [OURS, "self-contained", "guide"]
    assert all(way.stored_bytes > 10_000 and way.save_ms > 0 and way.seconds > 0 for way in found.ways)
    assert found.equal == (12, 12)
    assert len(found.compared) == 4
    assert all(one.deltas_ms > 0 and one.alone_ms > 0 and one.ratio > 0 for one in found.compared)
    assert [one.worst is not None for one in found.compared] == [False, False, True, True]
    assert 10_000 < (found.ways[0].rewritten_bytes or 0) <= found.ways[0].stored_bytes
    assert [(one.name, one.deleted, one.kept) for one in found.retained] == [(OURS, 9, 3), ("self-contained", 9, 3)]
    assert list(tmp_path.iterdir()) == []


def test_a_small_run_on_a_server_leaves_nothing_either(postgres_server: str) -> None:
    """What the tables take up is counted there, and not a server's own databases."""
    databases, plan = PostgreSQLDatabases(postgres_server), dataclasses.replace(PLAN, sizes=(), waves=4, megabytes=0.02)
    found = measure(databases, specs_of("postgresql")[:2], plan, make_runs(plan), told())
    assert found.equal == (4, 4)
    assert all(10_000 < way.stored_bytes < 1_000_000 for way in found.ways)
    assert 10_000 < (found.ways[0].rewritten_bytes or 0) <= found.ways[0].stored_bytes
    assert databases._made == []


@pytest.mark.parametrize(("spec", "has_deltas"), [(CONTENDERS[0], True), (CONTENDERS[1], False)], ids=["ours", "alone"])
async def test_one_of_ours_stores_deltas_and_the_other_none(
    spec: ContenderSpec, run: LongRun, sqlite_path: Path, *, has_deltas: bool
) -> None:
    """A comparison of a store with itself would show nothing."""
    async with opened(spec, str(sqlite_path)) as ours:
        await save_states(ours, run.states(), told())
    with closing(sqlite3.connect(sqlite_path)) as file:
        [[count]] = file.execute("SELECT count(base_checkpoint_id) FROM checkpoints")
    assert count > 30 if has_deltas else count == 0


async def test_what_is_loaded_as_another_is_found_out(run: LongRun, sqlite_path: Path) -> None:
    """Whoever loses what was saved has no figures: the whole state of ours, the contents of all."""
    state = run.state(3)
    async with opened(CONTENDERS[0], str(sqlite_path)) as ours:
        await ours.save(state)
        assert await check_states(ours, [state], told()) == 1
        await check_contents(ours, [state])
        with pytest.raises(NotEqualError, match=state.checkpoint_id):
            await check_states(ours, [dataclasses.replace(state, workflow_name="another")], told())
        with pytest.raises(NotEqualError, match=state.checkpoint_id):
            await check_contents(ours, [dataclasses.replace(state, completed_blocks=[])])


def test_a_ratio_is_that_of_the_turns_and_not_that_of_the_medians() -> None:
    """What else the machine does in a turn slows down both sides of it; the slowest state is told of beside it."""
    calm, busy = [(1.0, 2.0), (1.0, 2.0)], [(50.0, 100.0), (9.0, 3.0), (50.0, 100.0)]
    found = join_turns("a load", [calm, busy, [(4.0, 2.0)]], Bound(1))
    assert (found.ratio, found.worst) == (0.5, 2.0)
    assert (found.deltas_ms, found.alone_ms) == (6.5, 2.5)


@pytest.mark.parametrize(("waves", "count", "last"), [(1000, 16, 936), (60, 16, 1), (2, 1, 1)])
def test_the_newest_are_spread_over_the_last_waves_of_a_run_that_goes_on(waves: int, count: int, last: int) -> None:
    """All residues among them, since the lengths of chains follow from these; and never the end of the run."""
    heads = heads_of(HistoryPlan(), waves)
    assert (len(heads), heads[0], heads[-1]) == (count, last, waves - 1)
    assert heads == sorted(heads)
    assert waves < 1000 or {head % 8 for head in heads} == set(range(8))


def results(stored: float = 1.5, ratio: float = 1.2, left: int = 1_600_000) -> HistoryResults:
    """Those of a run whose figures are such multiples."""
    ways = [Way(OURS, "this", round(stored * 1_000_000), 1.5, 2.0), Way("guide", "that", 500_000_000, 20.0, 30.0)]
    found = HistoryOf(
        "sqlite",
        {},
        ways,
        (1000, 1000),
        [
            Compared("a save of 20 KB", 3.0, 2.0, ratio, Bound(1.2)),
            Compared("a save of 100 KB", 9.0, 1.0, 9.0),
            Compared("a save of 500 KB", 3.0, 2.0, ratio - 0.21, Bound(1, is_excluded=True), 3.0),
        ],
        [Retained(OURS, 990, 10, 0.5, 2_000_000, 2_000_000, left)],
    )
    return HistoryResults(
        command="a command",
        date="2026-01-01",
        is_quick=False,
        machine={"cpu": "a cpu"},
        versions={},
        waves=1000,
        plain_bytes=1_000_000,
        all_plain_bytes=500_000_000,
        databases=[found],
    )


def test_a_goal_is_met_up_to_its_bound_and_missed_beyond() -> None:
    """And stands in the report either way."""
    assert [goal.is_met for goal in goals(results())] == [True, True, True, True]
    assert [goal.is_met for goal in goals(results(1.51, 1.21, 1_600_001))] == [False, False, False, False]
    assert "| a save of 20 KB, × self-contained | ≤ 1.2 | 1.21 | **no** |" in markdown(results(1.51, 1.21))
    assert "| a save of 500 KB, × self-contained | < 1 | 1.00 | **no** |" in markdown(results(1.51, 1.21))
    assert "| SQLite | that | 500 MB | 500 | 20.0 ms | 30.0 s |" in markdown(results())
    assert "| a save of 500 KB | 3.00 ms | 2.00 ms | 0.99 × | 3.00 × |" in markdown(results())


def test_what_packing_gives_back_is_shown_beside_what_saving_left() -> None:
    """And the goal is about what saving left."""
    found = results(1.51)
    packed = dataclasses.replace(found.databases[0].ways[0], rewritten_bytes=1_200_000)
    shown = dataclasses.replace(found, databases=[dataclasses.replace(found.databases[0], ways=[packed])])
    assert "| SQLite | — a copy of that after `VACUUM` | 1.20 MB | 1.20 |  |  |" in markdown(shown)
    assert not next(iter(goals(shown))).is_met


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    """So that the document can be compared with them."""
    write_history(results(), tmp_path / "history.json")
    assert read_history(tmp_path / "history.json") == results()


def test_a_document_without_a_place_for_the_tables_is_refused() -> None:
    """What is around that place stays."""
    assert with_history("a<!-- history -->old<!-- /history -->z", results()).startswith("a<!-- history -->\n")
    assert with_history("a<!-- history -->old<!-- /history -->z", results()).endswith("<!-- /history -->z")
    with pytest.raises(ValueError, match="no <!-- history -->"):
        with_history("nothing", results())


def test_the_tables_in_the_document_are_those_of_the_results() -> None:
    """`python3 run.py bench history --save docs/performance` makes both."""
    text = (ROOT / "docs" / "performance.md").read_text()
    found = read_history(RESULTS)
    assert with_history(text, found) == text
    assert not found.is_quick


def test_the_figures_in_the_readme_are_those_of_the_results() -> None:
    """The same command makes them."""
    text = (ROOT / "README.md").read_text()
    assert with_figures(text, read_history(RESULTS)) == text


def test_figures_are_kept_where_there_is_a_place_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That there is none is found out before anything is measured."""
    monkeypatch.setattr("benchmarks.history_command.draw_history", lambda *_: None)
    readme, document = tmp_path / "README.md", tmp_path / "docs" / "performance.md"
    document.parent.mkdir()
    readme.write_text("nothing")
    _check_marks(tmp_path / "docs" / "performance")
    document.write_text("<!-- history --><!-- /history -->")
    with pytest.raises(ValueError, match="no <!-- history figures -->"):
        _check_marks(tmp_path / "docs" / "performance")
    readme.write_text("a<!-- history figures -->NN<!-- /history figures -->z")
    _check_marks(tmp_path / "docs" / "performance")
    _keep(results(), tmp_path / "docs" / "performance")
    assert "\n1.50 MB on SQLite (1.50 times that state). Compressed" in readme.read_text()
    assert "| a save of 20 KB | 1.20 × |" in readme.read_text()
    assert "NN" not in readme.read_text()
    assert "The goals:" in document.read_text()
