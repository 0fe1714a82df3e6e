"""What the store is meant to reach, as data, and whether it does."""

from dataclasses import dataclass

from benchmarks.contenders import OURS
from benchmarks.figures import median_rate, ratio_between
from benchmarks.results import DatabaseResult, Results

__all__ = ["TARGETS", "CostTarget", "FigureTarget", "MemoryTarget", "Outcome", "RatioTarget", "Target", "check_targets"]


@dataclass(frozen=True)
class RatioTarget:
    """Our rate at a workload is at least so many times a peer's."""

    database: str
    workload: str
    peer: str
    at_least: float

    @property
    def text(self) -> str:
        """The target in words."""
        return f"{self.workload}: at least {self.at_least:g} × {self.peer}"

    def measure(self, result: DatabaseResult) -> float | None:
        """The ratio that was measured; None: it was not."""
        ours, theirs = result.turns(self.workload, OURS), result.turns(self.workload, self.peer)
        return ratio_between(ours, theirs) if ours and theirs else None

    def is_met(self, measured: float) -> bool:
        """Whether that is good enough."""
        return measured >= self.at_least


@dataclass(frozen=True)
class MemoryTarget:
    """The peak memory of our process at a workload stays below so many MB (2**20 bytes)."""

    database: str
    workload: str
    below: float

    @property
    def text(self) -> str:
        """The target in words."""
        return f"{self.workload}: peak memory below {self.below:g} MB"

    def measure(self, result: DatabaseResult) -> float | None:
        """The peak that was measured, in MB; None: it was not."""
        turns = result.turns(self.workload, OURS)
        return max(turn.peak_bytes for turn in turns) / 2**20 if turns else None

    def is_met(self, measured: float) -> bool:
        """Whether that is good enough."""
        return measured < self.below


@dataclass(frozen=True)
class FigureTarget:
    """A figure about scale is at most so large."""

    database: str
    key: str
    title: str
    at_most: float
    unit: str

    @property
    def text(self) -> str:
        """The target in words."""
        return f"{self.title}: at most {self.at_most:g} {self.unit}"

    def measure(self, result: DatabaseResult) -> float | None:
        """The figure; None: it was not measured."""
        return result.figure(self.key)

    def is_met(self, measured: float) -> bool:
        """Whether that is good enough."""
        return measured <= self.at_most


@dataclass(frozen=True)
class CostTarget:
    """One of our operations takes less than so many microseconds, at the median rate."""

    database: str
    workload: str
    below: float

    @property
    def text(self) -> str:
        """The target in words."""
        return f"{self.workload}: one takes less than {self.below:g} µs"

    def measure(self, result: DatabaseResult) -> float | None:
        """What one took, in µs; None: it was not measured."""
        turns = result.turns(self.workload, OURS)
        return 1e6 / median_rate(turns) if turns else None

    def is_met(self, measured: float) -> bool:
        """Whether that is good enough."""
        return measured < self.below


Target = RatioTarget | MemoryTarget | FigureTarget | CostTarget


def _ratios(database: str, workloads: str, **peers: float) -> list[Target]:
    return [
        RatioTarget(database, workload, peer.replace("_", "-"), least)
        for workload in workloads.split()
        for peer, least in peers.items()
    ]


_SAVER = "a saver's worst wait beside"

TARGETS: tuple[Target, ...] = (
    *_ratios("sqlite", "save_1kb save_20kb", guide_wal=1.1, langgraph=1.5, sqlite3=0.6),
    *_ratios("sqlite", "save_64_1kb", langgraph=10, sqlite3=4, guide=1.8, guide_wal=1.8),
    *_ratios("sqlite", "load_1kb load_20kb load_64_1kb", guide=4, guide_wal=4, langgraph=7),
    *_ratios("sqlite", "newest_50", guide=500, guide_wal=500),
    *_ratios("sqlite", "save_8_1mb save_8_1mb_noise", guide=1, guide_wal=1),
    *_ratios("sqlite", "waves", dbos=3),
    *_ratios("sqlite", "waves_32", dbos=10),
    CostTarget("sqlite", "waves_unsaved", 200),
    MemoryTarget("sqlite", "save_8_1mb", 200),
    MemoryTarget("sqlite", "save_8_1mb_noise", 200),
    FigureTarget("sqlite", "newest_ratio", "newest 50: with all rows, against 1,000 rows", 2, "x"),
    FigureTarget("sqlite", "save_ratio", "a save: with all rows, against 1,000 rows", 1.5, "x"),
    FigureTarget("sqlite", "iterate_peak", "iter_checkpoints over all rows: peak memory", 150, "MB"),
    FigureTarget("sqlite", "trim_same_worst", f"{_SAVER} trim, same process", 250, "ms"),
    FigureTarget("sqlite", "trim_other_worst", f"{_SAVER} trim, another process", 250, "ms"),
    FigureTarget("sqlite", "cleanup_same_worst", f"{_SAVER} cleanup, same process", 250, "ms"),
    FigureTarget("sqlite", "cleanup_other_worst", f"{_SAVER} cleanup, another process", 250, "ms"),
    *_ratios("postgresql", "save_1kb save_20kb", asyncpg_pool=1.2, langgraph=1.2, langgraph_pool=1.2),
    *_ratios("postgresql", "save_64_1kb", asyncpg_pool=2.5, langgraph=8, langgraph_pool=8),
    *_ratios("postgresql", "load_1kb load_20kb load_64_1kb", asyncpg_pool=2, langgraph=1.2, langgraph_pool=1.2),
    *_ratios("postgresql", "waves", dbos=3),
    *_ratios("postgresql", "waves_32", dbos=10),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a target.

    Attributes:
        target: Which one.
        measured: The value; None: it was not measured in this run.
    """

    target: Target
    measured: float | None

    @property
    def is_met(self) -> bool | None:
        """Whether it is reached; None: nobody knows."""
        return None if self.measured is None else self.target.is_met(self.measured)


def check_targets(results: Results) -> list[Outcome]:
    """All targets, with what was measured."""
    outcomes = []
    for target in TARGETS:
        result = results.databases.get(target.database)
        outcomes.append(Outcome(target, target.measure(result) if result else None))
    return outcomes
