"""Moments as people write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from workflows_mcp.engine.durations import parse_moment, shown_duration


@pytest.mark.parametrize(
    "text", ["2026-11-27", "20261127", "2026-11-27T00:00Z", "2026-W48-5", " 1795737600 ", "1795737600.0"]
)
def test_a_moment_may_be_written_in_any_of_these_ways(text: str) -> None:
    """A date without dashes is a date, although it is a number, too."""
    assert parse_moment("--since", text, zone=UTC) == datetime(2026, 11, 27, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("text", ["2026", "20261327", "99999999", "0", "nan", "1e400", "10000-01-01"])
def test_a_number_that_is_hardly_meant_as_a_time_is_refused(text: str) -> None:
    """A year or a mistyped date is no moment of 1970."""
    with pytest.raises(ValueError, match=r"--since takes a date such as .* Unix seconds \(from 1973 on\)"):
        parse_moment("--since", text)


def test_a_number_with_a_fraction_is_meant_as_a_time() -> None:
    """However small: it is no date."""
    assert parse_moment("--since", "2.5") == 2.5


def test_a_time_is_meant_in_its_own_zone_and_else_in_that_of_whoever_asks() -> None:
    """Whatever this machine's is."""
    there = timezone(timedelta(hours=5))
    noon = datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()
    for text in ("2026-11-27T17:00", "2026-11-27T12:00Z", "2026-11-27T09:00-03:00"):
        assert parse_moment("--since", text, zone=there) == noon


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.5, "1.5s"), (90, "90s"), (120, "2min"), (7200, "2h"), (7 * 86400, "7d"), (14 * 86400, "2w")],
)
def test_a_duration_is_shown_in_its_largest_whole_unit(seconds: float, text: str) -> None:
    """A single week in days, as people set it."""
    assert shown_duration(seconds) == text
