"""How many connections there may be, and which one gives way to the next: somebody may open very many of them."""

import logging
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from workflows_mcp.server.http.connections import Connection
    from workflows_mcp.telemetry.serving import ServerTally

__all__ = ["Reason", "Room", "at_a_time", "most_connections"]

_log = logging.getLogger(__name__)

_MOST = 10_000
_SHARE = 0.75
"""Of the files that this process may have open; the others are the database's, and those of blocks at work."""

_MOST_AT_A_TIME = 128
_SHARE_AT_A_TIME = 1 / 64
"""How many are accepted before the event loop does anything else: they are there before they can be counted, and
several such bursts may be, so all of them together have to fit beside the rest."""

_SECONDS_BETWEEN_LINES = 60.0
"""Of the log, for each reason: whoever opens connections must not fill it."""

Reason = Literal["crowded", "silent", "unread"]

_WHY: dict[Reason, tuple[int, str]] = {
    "crowded": (logging.WARNING, "more were opened than there may be by the number of files (ulimit -n)"),
    "silent": (logging.INFO, "no request came over them in time"),
    "unread": (logging.INFO, "their clients did not read the answers in time"),
}


@dataclass(eq=False)
class Room:
    """Keeps connections below a number, so that files are left for the work itself.

    A connection on which nothing is being answered, or whose request is not there as a whole, gives way to a newer one,
    the one first that has been so for the longest: strangers who hold connections keep nobody out; those who open as
    many anew between a client's connection and the end of its request still do. Where all are at work, the newest is
    closed.

    Attributes:
        most: How many connections there may be.
        tally: Where those are counted that were closed on their clients.
    """

    most: int
    tally: "ServerTally"
    _idle: "dict[Connection, None]" = field(default_factory=dict)
    _untold: Counter[Reason] = field(default_factory=Counter)
    _told_at: dict[Reason, float] = field(default_factory=dict)

    def spare(self, connection: "Connection") -> None:
        """Let a connection give way from now on, after those that already do."""
        self._idle.setdefault(connection)

    def keep(self, connection: "Connection") -> None:
        """Let a connection not give way."""
        self._idle.pop(connection, None)

    def take_in(self, newcomer: "Connection", there: "set[Connection]") -> bool:
        """Whether there is room for one more among those that are there; one of them may be closed for it."""
        if len(there) <= self.most:
            return True
        self.closed("crowded")
        oldest = next(iter(self._idle), None)
        leaving = newcomer if oldest is None else oldest
        self.keep(leaving)
        there.discard(leaving)  # its file is closed before anything else is read
        leaving.transport.abort()
        return leaving is not newcomer

    def closed(self, reason: Reason) -> None:
        """Count a connection that was closed on its client, and say so now and then."""
        self.tally.connections_closed[reason] += 1
        self._untold[reason] += 1
        now = time.monotonic()
        if now - self._told_at.get(reason, float("-inf")) < _SECONDS_BETWEEN_LINES:
            return
        self._told_at[reason] = now
        count = self._untold.pop(reason)
        level, why = _WHY[reason]
        _log.log(
            level,
            "connections were closed (%d since this was said last): %s",
            count,
            why,
            extra={"fields": {reason: count}},
        )


def most_connections() -> int:
    """How many there may be at a time."""
    files = _files()
    return _MOST if files is None else max(min(int(files * _SHARE), _MOST), 1)


def at_a_time() -> int:
    """How many may be accepted at once."""
    files = _files()
    return _MOST_AT_A_TIME if files is None else max(min(int(files * _SHARE_AT_A_TIME), _MOST_AT_A_TIME), 1)


def _files() -> int | None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if files == resource.RLIM_INFINITY else files
