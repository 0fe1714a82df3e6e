"""How much was saved when: the checkpoints that are stored, counted in equal steps of time."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from workflows_mcp.engine.checkpoint import CheckpointMetadata
from workflows_mcp.engine.filters import check_count, check_seconds

__all__ = ["MOST_STEPS", "SavedInStep", "Steps", "count_series"]

MOST_STEPS = 10_000
"""The most steps of one series."""

_SHORTEST_SECONDS = 0.001


@dataclass(frozen=True)
class SavedInStep:
    """What was saved in one step of time, as far as it is still stored.

    Attributes:
        since: When the step begins, in Unix seconds; it ends where the next one begins.
        checkpoints: How many were created in it.
        full_bytes: Their plain JSON.
        stored_bytes: Their payloads as stored.
    """

    since: float
    checkpoints: int
    full_bytes: int
    stored_bytes: int


@dataclass(frozen=True)
class Steps:
    """A span of time in equal steps.

    Attributes:
        since: When the first one begins, in Unix seconds.
        until: When the last one ends.
        count: How many there are.

    Raises:
        ValueError: They make no sense: see `CheckpointStore.take_series`.
    """

    since: float
    until: float
    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "since", check_seconds("since", self.since))
        object.__setattr__(self, "until", check_seconds("until", self.until))
        if check_count("steps", self.count, at_least=1) > MOST_STEPS:
            raise ValueError(f"steps must be at most {MOST_STEPS:,}")
        # What is counted from is one step earlier: see `index`.
        if not math.isfinite(self.until - self.since + self.seconds):
            raise ValueError("since and until are too far apart")
        if self.seconds < _SHORTEST_SECONDS:
            raise ValueError("until must be later than since, by at least a millisecond for each step")

    @property
    def seconds(self) -> float:
        """How long a step is."""
        return (self.until - self.since) / self.count

    def index(self, moment: float) -> int:
        """In which one a moment of the span is, the first one being 0; by rounding, it may be one too many.

        Counted from one step earlier: PostgreSQL refuses to divide what is next to nothing.
        """
        return int((moment - self.since + self.seconds) / self.seconds) - 1

    def filled(self, saved: Iterable[tuple[int, int, int, int]]) -> list[SavedInStep]:
        """The series.

        Args:
            saved: The index of a step, by `index`, and numbers to be added there, in the order of `SavedInStep`.
        """
        sums = [[0, 0, 0] for _ in range(self.count)]
        for index, *numbers in saved:
            those = sums[min(index, self.count - 1)]
            those[:] = [one + more for one, more in zip(those, numbers, strict=True)]
        return [SavedInStep(self.since + number * self.seconds, *those) for number, those in enumerate(sums)]


def count_series(listed: Iterable[CheckpointMetadata], steps: Steps) -> list[SavedInStep]:
    """Count those that are listed, all of which were created in the span, for stores that have no database to do it."""
    return steps.filled((steps.index(one.created_at), 1, one.full_bytes, one.stored_bytes) for one in listed)
