"""Durations and moments, as people write and read them."""

import math
import re
import time
from contextlib import suppress
from datetime import datetime, tzinfo

__all__ = ["parse_duration", "parse_moment", "shown_duration"]

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_YEAR_OR_DATE = re.compile(r"\d{1,8}")
"""So few digits alone are a year, or a date that was mistyped, and no Unix seconds: these would be before 1973."""

_KNOWN = "90s, 30min, 12h, 7d or 2w"


def parse_duration(what: str, text: str) -> float:
    """The seconds of a duration such as `7d`.

    Args:
        what: Names it in messages.
        text: A number and its unit.

    Raises:
        ValueError: It is none; the message says what would be one.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{what} takes a duration such as {_KNOWN}")
    number, unit = found.groups()
    if unit == "m":
        raise ValueError(f"{what} {text}: m may be minutes or months; write {number}min, or days such as 90d")
    if unit not in _UNITS:
        missing = "it lacks its unit" if not unit else f"there is no unit {unit!r}"
        raise ValueError(f"{what} {text}: {missing}; durations are such as {_KNOWN}")
    seconds = float(number) * _UNITS[unit]
    if not math.isfinite(seconds):
        raise ValueError(f"{what} takes a duration such as {_KNOWN}, and none of so many digits")
    return seconds


def parse_moment(what: str, text: str, *, zone: tzinfo | None = None) -> float:
    """The Unix time, in seconds, of a moment that somebody has written.

    Args:
        what: Names it in messages.
        text: A date, or a date and time; Unix seconds, from 1973 on; or how long ago it was, such as `2h`.
        zone: Where a date and time are meant that name no zone; None: here.

    Raises:
        ValueError: It is none; the message says what would be one.
    """
    text = text.strip()
    if _DURATION.fullmatch(text) and not text[-1].isdigit():
        return time.time() - parse_duration(what, text)
    with suppress(ValueError, OverflowError, OSError):  # first: one without dashes, as 20261127, is a number, too
        return _moment_of_a_date(text, zone)
    with suppress(ValueError):
        moment = float(text)
        if math.isfinite(moment) and _YEAR_OR_DATE.fullmatch(text) is None:
            return moment
    raise ValueError(
        f"{what} takes a date such as 2026-11-27 or 2026-11-27T10:30+01:00, Unix seconds (from 1973 on), or how long "
        f"ago it was, such as 2h or 7d, not {text!r}"
    )


def _moment_of_a_date(text: str, zone: tzinfo | None) -> float:
    date = datetime.fromisoformat(text)
    return (date if date.tzinfo is not None else date.replace(tzinfo=zone)).timestamp()


def shown_duration(seconds: float) -> str:
    """A duration as it is written, in the largest unit of which it is a whole number."""
    for unit in ("w", "d", "h", "min"):
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0 and (unit != "w" or seconds > _UNITS["w"]):
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds:g}s"
