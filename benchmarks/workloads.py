"""The work that is measured."""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.states import SIZES, Shape

__all__ = ["WAVES", "WORKLOADS", "Action", "Plan", "Workload", "workload_named"]

WAVES = 20
"""Waves, or steps, of the workflow that is run, of one block each, which does nothing."""


class Action(StrEnum):
    """What is done again and again while the clock runs."""

    SAVE = "save"
    LOAD = "load"
    NEWEST = "newest"
    LIST_ALL = "list all"
    TRIM = "trim"
    CLEANUP = "cleanup"
    RUN = "run"
    RUN_UNSAVED = "run unsaved"


@dataclass(frozen=True)
class Workload:
    """A piece of work, the same for every contender.

    Attributes:
        name: As options and results have it.
        title: As tables have it.
        action: What is done.
        shape: What the states are like; None: it takes none.
        tasks: How many tasks do it at the same time.
        is_quick: Whether one is so quick that a rate tells more than a duration.
        parts: How many operations one call is: the waves of a run.
    """

    name: str
    title: str
    action: Action
    shape: Shape | None
    tasks: int = 1
    is_quick: bool = True
    parts: int = 1

    @property
    def needs_data(self) -> bool:
        """Whether the large data set must be there before it begins."""
        return self.action in (Action.NEWEST, Action.LIST_ALL) or self.consumes_data

    @property
    def runs(self) -> bool:
        """Whether workflows are run, rather than checkpoints kept."""
        return self.action in (Action.RUN, Action.RUN_UNSAVED)

    @property
    def consumes_data(self) -> bool:
        """Whether it deletes what it works on, so that each turn needs a fresh copy."""
        return self.action in (Action.TRIM, Action.CLEANUP)


def _of_size(size: str, *, compressible: bool = True) -> Shape:
    return Shape(SIZES[size], SIZES[size], compressible=compressible)


_DATA = _of_size("20kb")
_NOISE = _of_size("1mb", compressible=False)

WORKLOADS = (
    Workload("save_1kb", "save, one after the other, 1 KB", Action.SAVE, _of_size("1kb")),
    Workload("save_64_1kb", "save, 64 at a time, 1 KB", Action.SAVE, _of_size("1kb"), tasks=64),
    Workload("load_1kb", "load, one after the other, 1 KB", Action.LOAD, _of_size("1kb")),
    Workload("load_64_1kb", "load, 64 at a time, 1 KB", Action.LOAD, _of_size("1kb"), tasks=64),
    Workload("save_8_1mb", "save, 8 at a time, 1 MB", Action.SAVE, _of_size("1mb"), tasks=8),
    Workload("save_8_1mb_noise", "save, 8 at a time, 1 MB of noise", Action.SAVE, _NOISE, tasks=8),
    Workload("save_20kb", "save, one after the other, 20 KB", Action.SAVE, _of_size("20kb")),
    Workload("save_64_20kb", "save, 64 at a time, 20 KB", Action.SAVE, _of_size("20kb"), tasks=64),
    Workload("load_20kb", "load, one after the other, 20 KB", Action.LOAD, _of_size("20kb")),
    Workload("waves", "waves, one run after the other", Action.RUN, None, parts=WAVES),
    Workload("waves_32", "waves, 32 runs at a time", Action.RUN, None, tasks=32, parts=WAVES),
    Workload("waves_unsaved", "waves that are not saved", Action.RUN_UNSAVED, None, parts=WAVES),
    Workload("newest_50", "list the newest 50", Action.NEWEST, _DATA),
    Workload("list_all", "list all", Action.LIST_ALL, _DATA, is_quick=False),
    Workload("trim", "trim by count", Action.TRIM, _DATA, is_quick=False),
    Workload("cleanup", "clean up by age", Action.CLEANUP, _DATA, is_quick=False),
)
"""In the order in which they are done: those that share a shape follow one another, which saves building it again."""


def workload_named(name: str) -> Workload:
    """The workload of a name.

    Raises:
        ValueError: There is none.
    """
    for workload in WORKLOADS:
        if workload.name == name:
            return workload
    raise ValueError(f"no workload is called {name!r}; they are: {', '.join(one.name for one in WORKLOADS)}")


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        turns: How many turns each contender has at each workload.
        seconds: How long a turn lasts.
        data_rows: Rows of the large data set, which is listed, trimmed and cleaned up.
        data_turns: How many turns at the workloads of the large data set that take long.
        loaded_rows: Rows among which those to load are chosen.
        scale_rows: Rows of 1 KB in the part that shows what size does.
        scale_mixed: Rows of 1 to 20 KB in it.
        scale_large: Rows of 1 MB in it.
        scale_calls: How often a query is repeated in it.
        scale_saves: How many saves are timed at a number of rows, three times.
        trim_keep: How many of each of the data set's 20 workflows trim keeps: by default what retention keeps.
        settle: Whether what is still to be written is written before each turn.
    """

    turns: int
    seconds: float
    data_rows: int
    data_turns: int
    loaded_rows: int
    scale_rows: int
    scale_mixed: int
    scale_large: int
    scale_calls: int = 200
    scale_saves: int = 1_000
    trim_keep: int = 50
    settle: bool = True

    @classmethod
    def full(cls, turns: int | None = None) -> "Plan":
        """What the published figures are made with."""
        return cls(
            turns=turns or 5,
            seconds=1.0,
            data_rows=20_000,
            data_turns=3,
            loaded_rows=5_000,
            scale_rows=1_000_000,
            scale_mixed=100_000,
            scale_large=1_000,
        )

    def fifth(self) -> "Plan":
        """The same, with a fifth of the rows in the part about scale."""
        return dataclasses.replace(
            self,
            scale_rows=self.scale_rows // 5,
            scale_mixed=self.scale_mixed // 5,
            scale_large=self.scale_large // 5,
        )

    @classmethod
    def quick(cls, turns: int | None = None) -> "Plan":
        """Enough to see that everything works, within two minutes."""
        return cls(
            turns=turns or 3,
            seconds=0.05,
            data_rows=600,
            data_turns=1,
            loaded_rows=200,
            scale_rows=20_000,
            scale_mixed=2_000,
            scale_large=30,
            scale_calls=20,
            scale_saves=100,
            trim_keep=20,
            settle=False,
        )
