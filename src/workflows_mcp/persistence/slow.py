"""The log of slow operations: which statement it was and where its time went, and never what was stored by it."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["SlowLog", "Timed"]

_log = logging.getLogger(__name__)

_LONGEST_STATEMENT = 2000

_SECONDS_BETWEEN_LINES = 1.0
"""When everything is slow, a line for each call would be one more thing that is."""

_SPACE = re.compile(r"\s+")


class Timed:
    """A call that is timed.

    Attributes:
        operation: What kind of call it is.
        started: When it was asked for, by `time.monotonic`, which is the event loop's clock, too.
        begun: When its turn came; 0: at once, or never.
        sql: Its statement, with placeholders.
        rows: How many rows it returned or changed; None: that is not known.
    """

    __slots__ = ("begun", "operation", "rows", "sql", "started")

    def __init__(self, operation: str, started: float, sql: str = "", rows: int | None = None) -> None:
        self.operation = operation
        self.started = started
        self.begun = 0.0
        self.sql = sql
        self.rows = rows


class SlowLog:
    """Warns of calls to a database that take long, and succeed.

    Args:
        seconds: From how many seconds on a call is slow; None: none is.
        database: Names the database; holds no password.
        told: Called with the operation and its seconds for each slow call, whether or not there is a line for it.
    """

    def __init__(self, seconds: float | None, database: str, told: Callable[[str, float], None]) -> None:
        self.seconds = float("inf") if seconds is None else seconds
        self._database = database
        self._told = told
        self._told_at = -_SECONDS_BETWEEN_LINES
        self._left_out = 0

    @contextmanager
    def timed(self, operation: str, sql: str = "") -> Iterator[Timed]:
        """Time a call that succeeds; one that fails has an error that says enough."""
        call = Timed(operation, time.monotonic(), sql)
        yield call
        self.look_at(call)

    def look_at(self, call: Timed) -> None:
        """Warn of a call that has succeeded, if it was slow."""
        now = time.monotonic()
        seconds = now - call.started
        if seconds < self.seconds:
            return
        self._told(call.operation, seconds)
        if now - self._told_at < _SECONDS_BETWEEN_LINES:
            self._left_out += 1
            return
        self._told_at, left_out, self._left_out = now, self._left_out, 0
        statement = _SPACE.sub(" ", call.sql).strip()[:_LONGEST_STATEMENT]
        fields: dict[str, Any] = {"operation": call.operation, "seconds": round(seconds, 3), "database": self._database}
        where = ""
        if call.begun:
            fields["queue_seconds"] = round(call.begun - call.started, 3)
            fields["database_seconds"] = round(now - call.begun, 3)
            where = f", {fields['queue_seconds']:.2f} s of them in the queue"
        if call.rows is not None:
            fields["rows"] = call.rows
        fields["statement"] = statement
        rows = "" if call.rows is None else f", {call.rows:,} {'row' if call.rows == 1 else 'rows'}"
        more = f" (and {left_out:,} other slow calls since the last such line)" if left_out else ""
        _log.warning(
            "slow %s: %.2f s%s%s in %s%s: %s",
            call.operation, seconds, where, rows, self._database, more, statement,
            extra={"fields": fields},
        )  # fmt: skip
