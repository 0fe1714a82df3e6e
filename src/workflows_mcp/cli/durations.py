"""Durations and moments that were typed: what is none is an error of usage."""

from workflows_mcp.cli.failures import UsageError
from workflows_mcp.engine import durations

__all__ = ["parse_duration", "parse_moment"]


def parse_duration(option: str, text: str) -> float:
    """See `engine.durations.parse_duration`.

    Raises:
        UsageError: It is none.
    """
    try:
        return durations.parse_duration(option, text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def parse_moment(option: str, text: str | None) -> float | None:
    """See `engine.durations.parse_moment`; None stays None.

    Raises:
        UsageError: It is none.
    """
    try:
        return None if text is None else durations.parse_moment(option, text)
    except ValueError as error:
        raise UsageError(str(error)) from None
