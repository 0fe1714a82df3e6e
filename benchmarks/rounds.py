"""The comparison: every contender in its own process, one at a time, in turns whose order rotates."""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar

from benchmarks import measure
from benchmarks.contenders import ContenderSpec
from benchmarks.databases import Databases
from benchmarks.figures import Turn, rotated
from benchmarks.process import Bench, Worker, WorkerError
from benchmarks.progress import Progress
from benchmarks.results import ContenderResult, DatabaseResult, Entry
from benchmarks.workloads import Action, Plan, Workload

__all__ = ["compare"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_HOUR = 3600.0
_SAME_ROWS, _FEW_ROWS = 0.02, 20
"""Contenders must find and delete the same rows, but for what they count differently: the guide's trim lets those
that wait use up places."""


@dataclass
class _Comparison:
    databases: Databases
    workers: list[Worker]
    plan: Plan
    progress: Progress
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    memory: str = ""

    def taking_part(self, workload: Workload) -> list[Worker]:
        """The workers of those who do a workload."""
        return [worker for worker in self.workers if worker.spec.does(workload)]

    def begin(self, text: str) -> None:
        """A part begins."""
        self.progress.begin(f"{self.workers[0].spec.database}: {text}")


def compare(
    databases: Databases,
    specs: Sequence[ContenderSpec],
    workloads: Sequence[Workload],
    plan: Plan,
    progress: Progress,
) -> DatabaseResult:
    """Let contenders do workloads.

    Args:
        databases: Where they keep their data.
        specs: The contenders, all of one database.
        workloads: What they do.
        plan: How much of it.
        progress: Is told.

    Raises:
        WorkerError: A contender failed.
    """
    specs = [spec for spec in specs if any(spec.does(workload) for workload in workloads)]
    progress.expect(sum(_turns(plan, workload) for workload in workloads for spec in specs if spec.does(workload)))
    found: dict[str, dict[str, Entry]] = {}
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(spec)) for spec in specs]
        comparison = _Comparison(databases, workers, plan, progress)
        for workload in workloads:
            if not workload.needs_data and comparison.taking_part(workload):
                found[workload.name] = _run_afresh(comparison, workload)
        found |= _run_on_data(comparison, [workload for workload in workloads if workload.needs_data])
    return DatabaseResult(
        server=databases.settings,
        contenders={spec.name: ContenderResult(spec.title, comparison.settings.get(spec.name, {})) for spec in specs},
        workloads=found,
        memory=comparison.memory,
    )


def _turns(plan: Plan, workload: Workload) -> int:
    return plan.turns if workload.is_quick else plan.data_turns


def _run_afresh(comparison: _Comparison, workload: Workload) -> dict[str, Entry]:
    """A workload that begins with an empty database, and lives in it through all its turns."""
    comparison.begin(workload.title)
    workers = comparison.taking_part(workload)
    # Where something fails, what is left open ends with its process, and what is left over with the databases.
    urls = _open_everywhere(comparison, workers, workload.name)
    _everywhere(workers, measure.use_shape, workload.shape)
    if workload.action is Action.LOAD:
        _everywhere(workers, measure.fill, comparison.plan.loaded_rows)
    _everywhere(workers, measure.check_contents, workload)
    entries = _take_turns(comparison, workers, workload)
    _close_everywhere(comparison, workers, urls)
    return entries


def _run_on_data(comparison: _Comparison, workloads: Sequence[Workload]) -> dict[str, dict[str, Entry]]:
    """The workloads on the large data set, which each contender stores once."""
    workers = comparison.taking_part(workloads[0]) if workloads else []
    found: dict[str, dict[str, Entry]] = {}
    if not workers:
        return found
    comparison.begin(f"storing {comparison.plan.data_rows:,} checkpoints of 20 KB")
    urls = _open_everywhere(comparison, workers, "data")
    _everywhere(workers, measure.use_shape, workloads[0].shape)
    half = comparison.plan.data_rows // 2
    now = time.time()
    _everywhere(workers, measure.fill, half, start=now - 2 * measure.EXPIRED_SECONDS, step=1.0)
    _everywhere(workers, measure.fill, half, start=now - _HOUR, step=_HOUR / half)
    for workload in workloads:
        lacking = _everywhere(workers, measure.check_contents, workload)
        comparison.begin(workload.title)
        if workload.consumes_data:
            found[workload.name] = _take_turns_on_copies(comparison, workers, workload, urls, lacking)
        else:
            found[workload.name] = _take_turns(comparison, workers, workload)
    _close_everywhere(comparison, workers, urls)
    return found


def _take_turns(comparison: _Comparison, workers: Sequence[Worker], workload: Workload) -> dict[str, Entry]:
    turns: dict[str, list[Turn]] = {worker.spec.name: [] for worker in workers}
    for worker in workers:
        worker.call(measure.warm_up, workload, comparison.plan.seconds / 4)
    for number in range(_turns(comparison.plan, workload)):
        for worker in rotated(workers, number):
            turn, comparison.memory = worker.call(measure.take_turn, workload, comparison.plan)
            turns[worker.spec.name].append(turn)
            comparison.progress.advance(f"{worker.spec.database}: {workload.title}: {worker.spec.name}")
    return {name: Entry(taken) for name, taken in turns.items()}


def _take_turns_on_copies(
    comparison: _Comparison,
    workers: Sequence[Worker],
    workload: Workload,
    urls: dict[str, str],
    lacking: dict[str, str | None],
) -> dict[str, Entry]:
    """The turns of a workload that deletes, each on a copy of the data."""
    _everywhere(workers, measure.close)
    turns: dict[str, list[Turn]] = {worker.spec.name: [] for worker in workers}
    for number in range(_turns(comparison.plan, workload)):
        for worker in rotated(workers, number):
            name = worker.spec.name
            comparison.progress.advance(f"{worker.spec.database}: {workload.title}: {name}")
            if lacking[name]:
                continue
            copy = comparison.databases.copy(urls[name], f"{name}_copy")
            worker.call(measure.open_database, copy)
            turn, comparison.memory = worker.call(measure.take_turn, workload, comparison.plan)
            turns[name].append(turn)
            worker.call(measure.close)
            comparison.databases.drop(copy)
    _check_same_rows(workload, turns)
    for worker in workers:
        worker.call(measure.open_database, urls[worker.spec.name])
    return {name: Entry(taken, lacking[name]) for name, taken in turns.items()}


def _check_same_rows(workload: Workload, turns: dict[str, list[Turn]]) -> None:
    counts = {name: taken[0].rows or 0 for name, taken in turns.items() if taken}
    if counts and max(counts.values()) - min(counts.values()) > max(_SAME_ROWS * max(counts.values()), _FEW_ROWS):
        raise WorkerError(f"{workload.name}: not the same work: {counts}")


def _open_everywhere(comparison: _Comparison, workers: Sequence[Worker], purpose: str) -> dict[str, str]:
    """A fresh database for each contender, opened; returns the URLs by name."""
    urls = {}
    for worker in workers:
        name = worker.spec.name
        urls[name] = comparison.databases.create(f"{name}_{purpose}")
        worker.send(measure.open_database, urls[name])
    for worker in workers:
        comparison.settings[worker.spec.name] = worker.receive(measure.open_database)
    return urls


def _close_everywhere(comparison: _Comparison, workers: Sequence[Worker], urls: dict[str, str]) -> None:
    _everywhere(workers, measure.close)
    for url in urls.values():
        comparison.databases.drop(url)


def _everywhere(
    workers: Sequence[Worker],
    function: Callable[Concatenate[Bench, _P], Awaitable[_R]],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> dict[str, _R]:
    """Call a function in all workers at the same time, outside the clock; returns the results by contender."""
    for worker in workers:
        worker.send(function, *args, **kwargs)
    return {worker.spec.name: worker.receive(function) for worker in workers}
