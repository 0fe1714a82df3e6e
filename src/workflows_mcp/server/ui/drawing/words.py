"""Words in drawings, which cannot be broken into lines."""

from itertools import pairwise

__all__ = ["shortened", "span"]

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def shortened(text: str, most: int) -> str:
    """The text on one line, cut to so many characters; what was cut off is shown by an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def span(seconds: float) -> str:
    """A length of time in one or two units: `0.25 s`, `1 min 30 s`, `2 d`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if 0 < seconds < 0.0995 else f"{seconds:.2g} s"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    for (size, unit), (smaller_size, smaller) in pairwise(_UNITS):
        count, rest = divmod(round(seconds / smaller_size), round(size / smaller_size))
        if count:
            return f"{count:,} {unit}" + (f" {rest} {smaller}" if rest else "")
    return "1 min"
