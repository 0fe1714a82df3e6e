"""Charts of numbers: bars, columns of a series, and how a sum has grown.

Their heights and widths are parts of a picture that is stretched to the room that there is; what is written beside it
is no part of the picture, so that it stays legible on a phone.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from workflows_mcp.persistence.sizes import brief_bytes

__all__ = [
    "HEIGHT",
    "WIDTH",
    "Bar",
    "Column",
    "Columns",
    "Growth",
    "byte_ceiling",
    "ceiling",
    "make_bars",
    "make_columns",
    "make_growth",
]

WIDTH, HEIGHT = 600.0, 150.0
"""The picture in its own units."""

_GAP = 2.0
_LEAST = 1.5
"""The least height of a column: something is never as low as nothing."""

_LARGEST = 2.0**80
"""What is larger is drawn as though it were not."""

_STEPS = (1, 2, 4, 6, 8, 10)


@dataclass(frozen=True)
class Bar:
    """A bar that lies, with the name of what it stands for.

    Attributes:
        name: The name; None: all those that are not named.
        value: The number.
        others: How many things have no bar of their own, and share this one; 0: it is one thing's.
        length: Of 100, that of the largest one; those that share a bar have none, since it would dwarf all others.
    """

    name: str | None
    value: int
    others: int
    length: float


@dataclass(frozen=True)
class Column:
    """A column that stands; one of no height stands for nothing.

    Attributes:
        x: Where it begins.
        y: Its upper end.
        width: How wide it is.
        height: How high it is.
    """

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Columns:
    """A column for each step of a series.

    Attributes:
        columns: From the left to the right.
        marks: What is written at the axis, from above down: the top, the middle and the bottom.
    """

    columns: tuple[Column, ...]
    marks: tuple[str, str, str]


@dataclass(frozen=True)
class Growth:
    """A line through sums, and what is below it.

    Attributes:
        line: The path of the line.
        area: The path around what is below it.
        marks: As those of `Columns`.
    """

    line: str
    area: str
    marks: tuple[str, str, str]


def ceiling(value: float) -> float:
    """The next number up that people count by, which halves well; at least 2."""
    if value <= 2:
        return 2.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _STEPS if step * power >= value)


def byte_ceiling(value: float) -> float:
    """The same for bytes, in the unit in which they are shown."""
    unit = 1.0
    while value >= 1024 * unit:
        unit *= 1024
    return min(ceiling(value / unit), 1024.0) * unit


def make_bars(numbers: Iterable[tuple[str, int]], *, most: int) -> list[Bar]:
    """Bars of the largest numbers, the largest first, and last one of all others together.

    Args:
        numbers: Names, and their numbers.
        most: How many have a bar of their own; where just one more is left, it has one, too.
    """
    ranked = sorted(numbers, key=lambda one: (-one[1], one[0]))
    shown = ranked if len(ranked) <= most + 1 else ranked[:most]
    rest = ranked[len(shown) :]
    longest = max((value for _, value in shown), default=0)
    bars = [Bar(name, value, 0, _share(value, longest, 100.0)) for name, value in shown]
    return [*bars, *([Bar(None, sum(value for _, value in rest), len(rest), 0.0)] if rest else [])]


def make_columns(values: Sequence[int]) -> Columns:
    """Columns of a series of counts."""
    top = ceiling(min(max(values, default=0), _LARGEST))
    room = WIDTH / max(len(values), 1)
    heights = [max(_share(value, top, HEIGHT), _LEAST) if value > 0 else 0.0 for value in values]
    columns = [
        Column(_rounded(number * room), _rounded(HEIGHT - height), _rounded(room - _GAP), _rounded(height))
        for number, height in enumerate(heights)
    ]
    return Columns(tuple(columns), _marks(top, _count))


def make_growth(values: Sequence[int], *, are_bytes: bool = False) -> Growth:
    """A line through sums at equal distances of time; at least two of them.

    Args:
        values: The sums.
        are_bytes: Whether they are sizes.
    """
    largest = min(max(values), _LARGEST)
    top = byte_ceiling(largest) if are_bytes else ceiling(largest)
    points = [
        f"{_rounded(WIDTH * number / (len(values) - 1)):g},{_rounded(HEIGHT - _share(value, top, HEIGHT)):g}"
        for number, value in enumerate(values)
    ]
    line = "M" + " L".join(points)
    area = f"{line} L{WIDTH:g},{HEIGHT:g} L0,{HEIGHT:g} Z"
    return Growth(line, area, _marks(top, _size if are_bytes else _count))


def _marks(top: float, shown: Callable[[float], str]) -> tuple[str, str, str]:
    return shown(top), shown(top / 2), shown(0.0)


def _count(value: float) -> str:
    for word, one, least in (("M", 1e6, 1e6), ("k", 1e3, 1e4)):
        if value >= least:
            return f"{value / one:,g}{word}"
    return f"{value:,g}"


def _size(value: float) -> str:
    return brief_bytes(round(value)).replace(".0 ", " ")


def _share(value: int, of: float, length: float) -> float:
    """The part of a length that a number is of another one; rows that no store has written may have any sizes."""
    return _rounded(length * min(max(value / of, 0.0), 1.0)) if of > 0 else 0.0


def _rounded(value: float) -> float:
    return round(value, 2)
