"""Numbers out of numbers: percentiles, medians, and ratios between contenders."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Turn", "median_rate", "percentile", "ratio_between", "rotated"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Turn:
    """What one contender did in one turn.

    Attributes:
        operations: How many it finished.
        seconds: How long that took.
        p50_ms: Median duration of one, in milliseconds.
        p99_ms: The duration that 99 of 100 stay below.
        worst_ms: The longest duration.
        peak_bytes: The most memory that its process held meanwhile.
        rows: What was found or deleted by the last one; None: nothing to count.
    """

    operations: int
    seconds: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    peak_bytes: int = 0
    rows: int | None = None

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them do not exceed.

    Args:
        values: In any order; at least one.
        share: 0 to 1.
    """
    ordered = sorted(values)
    # Rounded, since 0.07 * 100 is 7.000000000000001.
    place = -int(-round(share * len(ordered), 9) // 1) - 1
    return ordered[max(place, 0)]


def median_rate(turns: Sequence[Turn]) -> float:
    """The median of the turns' rates."""
    return statistics.median(turn.rate for turn in turns)


def ratio_between(ours: Sequence[Turn], theirs: Sequence[Turn]) -> float:
    """How many times as fast the first is as the second: the median of the ratios within each turn.

    What slows the machine down for a while slows both down in the same turn, so the ratio stands firmer than the
    rates.
    """
    return statistics.median(one.rate / other.rate for one, other in zip(ours, theirs, strict=True))


def rotated(items: Sequence[_T], by: int) -> list[_T]:
    """The items in their order, begun so many places later: each is first, and last, in its turn."""
    start = by % len(items) if items else 0
    return [*items[start:], *items[:start]]
