"""Medians, ratios and the order of turns."""

import pytest

from benchmarks.figures import Turn, median_rate, percentile, ratio_between, rotated


def turn(rate: float) -> Turn:
    """A turn of two seconds at a rate."""
    return Turn(operations=round(rate * 2), seconds=2.0, p50_ms=1.0, p99_ms=2.0, worst_ms=3.0)


def test_a_ratio_is_the_median_of_those_within_each_turn() -> None:
    """Not the ratio of the medians: here the machine was slow for everybody in the second turn."""
    ours, theirs = [turn(300), turn(10), turn(400)], [turn(100), turn(5), turn(100)]
    assert ratio_between(ours, theirs) == 3.0
    assert median_rate(ours) == 300.0
    assert median_rate(ours) / median_rate(theirs) == 3.0
    assert ratio_between([turn(300), turn(10), turn(20)], [turn(100), turn(5), turn(40)]) == 2.0


def test_a_ratio_needs_the_same_turns() -> None:
    """One turn more of the one than of the other means that something was lost."""
    with pytest.raises(ValueError, match="zip"):
        ratio_between([turn(1), turn(2)], [turn(1)])


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.01, 1), (0.07, 7), (0.5, 50), (0.501, 51), (0.99, 99), (1.0, 100)]
)
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    """The smallest that so many do not exceed, whatever the order."""
    assert percentile([float(number) for number in range(100, 0, -1)], share) == expected


def test_everybody_is_first_once() -> None:
    """And nobody is left out of a turn."""
    orders = [rotated("abc", number) for number in range(4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
