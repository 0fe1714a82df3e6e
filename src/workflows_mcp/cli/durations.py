"""Durations, as people write and read them."""

import math
import re

from workflows_mcp.cli.failures import UsageError

__all__ = ["parse_duration", "shown_duration"]

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_KNOWN = "90s, 30min, 12h, 7d or 2w"


def parse_duration(what: str, text: str) -> float:
    """The seconds of a duration such as `7d`.

    Args:
        what: Names it in messages.
        text: A number and its unit.

    Raises:
        UsageError: It is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{what} takes a duration such as {_KNOWN}")
    number, unit = found.groups()
    if unit == "m":
        raise UsageError(f"{what} {text}: m may be minutes or months; write {number}min, or days such as 90d")
    if unit not in _UNITS:
        missing = "it lacks its unit" if not unit else f"there is no unit {unit!r}"
        raise UsageError(f"{what} {text}: {missing}; durations are such as {_KNOWN}")
    seconds = float(number) * _UNITS[unit]
    if not math.isfinite(seconds):
        raise UsageError(f"{what} takes a duration such as {_KNOWN}, and none of so many digits")
    return seconds


def shown_duration(seconds: float) -> str:
    """A duration as it is written, in the largest unit of which it is a whole number."""
    for unit in ("w", "d", "h", "min"):
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0 and (unit != "w" or seconds > _UNITS["w"]):
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds:g}s"
