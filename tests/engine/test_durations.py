"""Moments as people write them."""

from datetime import UTC, datetime

import pytest

from workflows_mcp.engine.durations import parse_moment


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
