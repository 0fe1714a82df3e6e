"""What size does to our store, and what deleting does to a saver beside it."""

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks import measure, scale_work
from benchmarks.contenders import OURS, ContenderSpec, contenders_of
from benchmarks.databases import Databases
from benchmarks.process import Bench, Worker
from benchmarks.progress import Progress
from benchmarks.results import Figure
from benchmarks.scale_work import Waits
from benchmarks.states import SIZES, Shape
from benchmarks.workloads import Plan

__all__ = ["QUERIES", "grow"]

QUERIES = {
    "newest": "newest 50",
    "newest_workflow": "newest 50 of a workflow",
    "newest_run": "newest 50 of a run",
    "newest_waiting": "newest 50 that wait",
}
"""Titles of the listings that must stay as quick as they are, by the name that figures bear."""

_FEW = 1_000
_ROWS_PER_WORKFLOW = 1_000
_STEP = 1.0
"""Seconds between two checkpoints of a filled database."""

_SAVE_ROUNDS = 3


@dataclass
class _Scale:
    databases: Databases
    spec: ContenderSpec
    plan: Plan
    progress: Progress
    figures: list[Figure] = field(default_factory=list)

    def note(self, key: str, title: str, value: float, unit: str) -> None:
        self.figures.append(Figure(key, title, value, unit))

    def begin(self, text: str) -> None:
        self.progress.begin(f"{self.spec.database}: {text}")
        self.progress.advance(text)


def grow(databases: Databases, database: str, plan: Plan, progress: Progress) -> list[Figure]:
    """Fill databases with our store and measure what changes.

    Args:
        databases: Where they are.
        database: `sqlite` or `postgresql`.
        plan: How many rows.
        progress: Is told.

    Raises:
        WorkerError: Something failed.
    """
    [spec] = [spec for spec in contenders_of(database) if spec.name == OURS]
    scale = _Scale(databases, spec, plan, progress)
    progress.expect(6)
    _many_small(scale)
    with Worker(spec) as worker:
        _others(scale, worker, "mixed", plan.scale_mixed, "of 1 to 20 KB", Shape(SIZES["1kb"], SIZES["20kb"]))
        _others(scale, worker, "large", plan.scale_large, "of 1 MB", Shape(SIZES["1mb"], SIZES["1mb"]))
    return scale.figures


def _many_small(scale: _Scale) -> None:
    """The million."""
    rows = scale.plan.scale_rows
    url = scale.databases.create("scale")
    start = time.time() - rows * _STEP
    scale.begin(f"{rows:,} checkpoints of 1 KB are saved")
    with Worker(scale.spec) as worker:
        worker.call(measure.open_database, url)
        worker.call(measure.use_shape, Shape(SIZES["1kb"], SIZES["1kb"], workflows=max(1, rows // _ROWS_PER_WORKFLOW)))
        worker.call(measure.fill, _FEW, start=start, step=_STEP)
        few = _query(scale, worker)
        few_rate = _save_rate(scale, worker)
        worker.call(scale_work.forget_saved)
        seconds = worker.call(measure.fill, rows - _FEW, start=start + _FEW * _STEP, step=_STEP)
        scale.note("fill_rate", f"saves a second until there are {rows:,} rows", (rows - _FEW) / seconds, "/s")
        many = _query(scale, worker)
        many_rate = _save_rate(scale, worker)
        worker.call(scale_work.forget_saved)
    for name, title in QUERIES.items():
        scale.note(f"{name}_few", f"{title}, {_FEW:,} rows", few[name], "ms")
        scale.note(f"{name}_many", f"{title}, {rows:,} rows", many[name], "ms")
        scale.note(f"{name}_ratio", f"{title}: times as long", many[name] / few[name], "x")
    scale.note("save_few", f"saves a second, one after the other, {_FEW:,} rows", few_rate, "/s")
    scale.note("save_many", f"saves a second, one after the other, {rows:,} rows", many_rate, "/s")
    scale.note("save_ratio", "a save: times as long", few_rate / many_rate, "x")
    _read_all(scale, url, rows)
    scale.note("file_bytes", "size of the database", scale.databases.size(url) / 2**20, "MB")
    with Worker(scale.spec) as worker, Worker(scale.spec) as other:
        for beside, saver in (("same", worker), ("other", other)):
            scale.begin(f"half of {rows:,} rows are trimmed, then half of the rest cleaned up, beside a saver")
            copy = scale.databases.copy(url, "scale_copy")
            _delete_beside_saver(scale, copy, beside, worker, saver, start + rows * _STEP * 3 / 4)
            scale.databases.drop(copy)
    scale.databases.drop(url)


def _read_all(scale: _Scale, url: str, rows: int) -> None:
    """Everything that reads each row, in a fresh process, so that its memory is its own."""
    scale.begin(f"all of {rows:,} rows are counted, streamed and listed")
    with Worker(scale.spec) as worker:
        worker.call(measure.open_database, url)
        scale.note("stats", "get_stats", worker.call(scale_work.time_stats), "ms")
        count, seconds, peak = worker.call(scale_work.iterate_all)
        scale.note("iterate_rate", f"iter_checkpoints over {count:,} rows: rows a second", count / seconds, "/s")
        scale.note("iterate_peak", "iter_checkpoints: peak memory of its process", peak / 2**20, "MB")
        scale.note(
            "list_all", "list_checkpoints of all rows, 10,000 a page", worker.call(scale_work.time_list_all), "s"
        )


def _query(scale: _Scale, worker: Worker) -> dict[str, float]:
    return worker.call(scale_work.time_listings, scale.plan.scale_calls)


def _save_rate(scale: _Scale, worker: Worker) -> float:
    return statistics.median(worker.call(scale_work.save_rate, scale.plan.scale_saves) for _ in range(_SAVE_ROUNDS))


def _delete_beside_saver(  # noqa: PLR0917 - as `_note_deletion`
    scale: _Scale, url: str, beside: str, worker: Worker, saver: Worker, cutoff: float
) -> None:
    """Trim and clean up, while the same or another process saves every few milliseconds."""
    where = "in the same process" if worker is saver else "in another process"
    for one in {worker, saver}:
        one.call(measure.open_database, url)
        one.call(measure.use_shape, Shape(SIZES["1kb"], SIZES["1kb"]))
    kept = _ROWS_PER_WORKFLOW // 2
    _note_deletion(scale, f"trim_{beside}", f"trim, saver {where}", worker, saver, scale_work.trim, kept)
    age = time.time() - cutoff
    _note_deletion(scale, f"cleanup_{beside}", f"cleanup, saver {where}", worker, saver, scale_work.cleanup, age)
    for one in {worker, saver}:
        one.call(measure.close)


def _note_deletion(  # noqa: PLR0917 - one call with all that it needs
    scale: _Scale,
    key: str,
    title: str,
    worker: Worker,
    saver: Worker,
    delete: Callable[[Bench, float], Awaitable[tuple[int, float]]],
    limit: float,
) -> None:
    saver.call(scale_work.start_saver)
    removed, seconds = worker.call(delete, limit)
    waits: Waits = saver.call(scale_work.stop_saver)
    scale.note(f"{key}_rows", f"{title}: rows removed", removed, "rows")
    scale.note(f"{key}_seconds", f"{title}: duration", seconds, "s")
    scale.note(f"{key}_saves", f"{title}: saves meanwhile", waits.saves, "rows")
    scale.note(f"{key}_p50", f"{title}: the saver's median wait", waits.p50_ms, "ms")
    scale.note(f"{key}_p99", f"{title}: the saver's 99th percentile", waits.p99_ms, "ms")
    scale.note(f"{key}_worst", f"{title}: the saver's worst wait", waits.worst_ms, "ms")


def _others(  # noqa: PLR0917 - as `_note_deletion`
    scale: _Scale, worker: Worker, name: str, rows: int, size: str, shape: Shape
) -> None:
    """Fewer rows that are larger."""
    title = f"{rows:,} checkpoints {size}"
    scale.begin(title)
    url = scale.databases.create(f"scale_{name}")
    start = time.time() - rows * _STEP
    worker.call(measure.open_database, url)
    worker.call(measure.use_shape, shape)
    seconds = worker.call(measure.fill, rows, start=start, step=_STEP)
    scale.note(f"{name}_fill", f"{title}: saves a second", rows / seconds, "/s")
    scale.note(f"{name}_newest", f"{title}: {QUERIES['newest']}", _query(scale, worker)["newest"], "ms")
    scale.note(f"{name}_stats", f"{title}: get_stats", worker.call(scale_work.time_stats), "ms")
    scale.note(f"{name}_file", f"{title}: size of the database", scale.databases.size(url) / 2**20, "MB")
    worker.call(measure.use_shape, Shape(SIZES["1kb"], SIZES["1kb"]))
    age = time.time() - (start + rows * _STEP / 2)
    cleanup = f"{title}: cleanup of half"
    _note_deletion(scale, f"{name}_cleanup", cleanup, worker, worker, scale_work.cleanup, age)
    worker.call(measure.close)
    scale.databases.drop(url)
