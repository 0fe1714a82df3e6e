"""Words in drawings, which cannot be broken into lines."""

import math
from itertools import pairwise

__all__ = ["mark", "shortened", "span"]

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def shortened(text: str, most: int) -> str:
    """The text on one line, cut to so many characters; what was cut off is shown by an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def span(seconds: float) -> str:
    """A length of time in one or two units: `0.25 s`, `1 min 30 s`, `2 d`."""
    if 0 < seconds < 0.00095:
        return f"{seconds * 1000:.1g} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if 0 < seconds < 0.0995 else f"{seconds:.2g} s"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    for (size, unit), (smaller_size, smaller) in pairwise(_UNITS):
        count, rest = divmod(round(seconds / smaller_size), round(size / smaller_size))
        if count:
            return f"{count:,} {unit}" + (f" {rest} {smaller}" if rest else "")
    return "1 min"


def mark(seconds: float, step: float) -> str:
    """A length of time on a scale, told apart from those a step before and after: `1.5 ms` by steps of 0.5 ms.

    Args:
        seconds: The length, a few steps long.
        step: How long a step is; one of 1 ms and more needs no more digits than `span` gives.
    """
    if not 0 < step < 0.001 or not 0 < seconds < 0.1:
        return span(seconds)
    digits = max(math.ceil(-math.log10(step * 1000) - 1e-9), 1)
    return f"{seconds * 1000:.{digits}f}".rstrip("0").removesuffix(".") + " ms"
