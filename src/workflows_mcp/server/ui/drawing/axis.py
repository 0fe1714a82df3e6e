"""An axis of time on which nothing is too small to be seen: long stretches in which nothing works are cut short."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workflows_mcp.server.ui.drawing.words import mark, span

__all__ = ["Axis", "Stretch", "Tick", "make_axis", "nice_step"]

_CUT_WIDTH = 56.0
_MOST_CUT = 6
_BETWEEN_TICKS = 90.0
_LEAST_BETWEEN = 60.0

_NICE_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True)
class Tick:
    """A moment that is marked on the axis.

    Attributes:
        x: Where.
        label: When, from the beginning of the axis; with a `+` from the end of what was cut short before it.
    """

    x: float
    label: str


@dataclass(frozen=True)
class Stretch:
    """A part of the axis on which time goes evenly.

    Attributes:
        start: Where it begins, in seconds.
        end: Where it ends.
        x: The same on the axis.
        width: How much of the axis it takes up.
        is_cut: Whether it is cut short.
        label: How long it is.
    """

    start: float
    end: float
    x: float
    width: float
    is_cut: bool

    @property
    def label(self) -> str:
        """How long it is, in words."""
        return span(self.end - self.start)


@dataclass(frozen=True)
class Axis:
    """Where each moment is.

    Attributes:
        stretches: Its parts, one after the other.
        ticks: What is marked on it.
    """

    stretches: tuple[Stretch, ...]
    ticks: tuple[Tick, ...]

    def place(self, moment: float) -> float:
        """Where a moment is; one that is not on the axis is at its nearest end."""
        for one in self.stretches:
            if moment <= one.end or one is self.stretches[-1]:
                length = one.end - one.start
                share = (moment - one.start) / length if length > 0 else 0.0
                return one.x + one.width * min(max(share, 0.0), 1.0)
        return 0.0


def make_axis(busy: Iterable[tuple[float, float]], start: float, end: float, *, x: float, width: float) -> Axis:
    """An axis from one moment to another.

    Args:
        busy: When something works: beginnings and ends. What lies between is cut short where it is longer than all
            of that together.
        start: Where it begins, in seconds.
        end: Where it ends.
        x: Where it begins in the picture.
        width: How wide it is there.
    """
    idle = _idle(busy, start, end)
    at_work = (end - start) - sum(until - since for since, until in idle)
    long = [one for one in idle if at_work > 0 and one[1] - one[0] > at_work]
    cut = sorted(sorted(long, key=lambda one: one[0] - one[1])[:_MOST_CUT])
    shown = (end - start) - sum(until - since for since, until in cut)
    scale = (width - _CUT_WIDTH * len(cut)) / shown if shown > 0 else 0.0
    stretches: list[Stretch] = []
    since = start
    for first, last in [*cut, (end, end)]:
        if first > since or not stretches:
            stretches.append(Stretch(since, first, x, (first - since) * scale, is_cut=False))
            x += stretches[-1].width
        if last > first:
            stretches.append(Stretch(first, last, x, _CUT_WIDTH, is_cut=True))
            x += _CUT_WIDTH
        since = last
    return Axis(tuple(stretches), tuple(_ticks(stretches, nice_step(_BETWEEN_TICKS / scale if scale else 0.0))))


def _idle(busy: Iterable[tuple[float, float]], start: float, end: float) -> list[tuple[float, float]]:
    """When nothing works, between `start` and `end`."""
    idle, since = [], start
    for first, last in sorted(busy):
        if first > since:
            idle.append((since, min(first, end)))
        since = max(since, last)
    if since < end:
        idle.append((since, end))
    return idle


def nice_step(least: float) -> float:
    """A length of time in seconds that people count by, the shortest that is not less than this; 0 for 0."""
    if least <= 0:
        return 0.0
    for one in _NICE_SECONDS if least > 0.5 else ():
        if one >= least:
            return float(one)
    unit = 86400.0 if least > 0.5 else 1.0
    power = 10.0 ** math.floor(math.log10(least / unit))
    return next(unit * power * factor for factor in (1, 2, 5, 10, 20) if unit * power * factor >= least)


def _ticks(stretches: Sequence[Stretch], step: float) -> Iterable[Tick]:
    last = -math.inf
    for index, one in enumerate(stretches):
        if one.is_cut:
            continue
        length = one.end - one.start
        count = int(length / step) if step else 0
        for number in range(count + 1):
            there = one.x + (one.width * number * step / length if number else 0.0)
            if there - last >= _LEAST_BETWEEN:
                last = there
                since_start = mark(one.start + number * step - stretches[0].start, step)
                yield Tick(round(there, 1), f"+{mark(number * step, step)}" if index and number else since_start)
