"""What an examination of a database finds, as values: see `health.py`."""

from dataclasses import dataclass
from enum import StrEnum

from workflows_mcp.errors import CheckpointStoreError

__all__ = ["Check", "Report", "Verdict"]


class Verdict(StrEnum):
    """What is to be thought of a thing that was looked at."""

    OK = "ok"
    NOTICE = "notice"
    """It works; there is something to know."""
    PROBLEM = "problem"
    """Nothing can be saved or loaded, what is acknowledged may be lost, or others may read or harm it."""


@dataclass(frozen=True)
class Check:
    """A thing that was looked at.

    Attributes:
        check: Its name.
        verdict: What is to be thought of it.
        found: What it is. Holds no password, and nothing of what is stored but ids.
        advice: What to do about it; empty when nothing is to be done.
    """

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


class Report:
    """Collects checks.

    Attributes:
        checks: Those so far, in the order in which they were made.
    """

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def ok(self, check: str, found: str) -> None:
        """Add what is in order."""
        self.checks.append(Check(check, Verdict.OK, found))

    def notice(self, check: str, found: str, advice: str) -> None:
        """Add what works, with something to know."""
        self.checks.append(Check(check, Verdict.NOTICE, found, advice))

    def problem(self, check: str, found: str, advice: str) -> None:
        """Add what must be seen to."""
        self.checks.append(Check(check, Verdict.PROBLEM, found, advice))

    def error(self, check: str, error: CheckpointStoreError) -> None:
        """Add why something could not be looked at: an error's text ends with what to do."""
        found, _, advice = str(error).rpartition("; ")
        self.problem(check, found or advice, advice if found else "")

    def extend(self, other: "Report") -> None:
        """Add what another report holds."""
        self.checks += other.checks
