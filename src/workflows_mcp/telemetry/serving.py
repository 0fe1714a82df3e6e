"""What a server has been asked, in numbers."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from workflows_mcp.telemetry.samples import Sample
from workflows_mcp.telemetry.tallies import SECONDS, Distribution

__all__ = ["ServerTally", "of_server_tally"]

LONG_SECONDS = (*SECONDS, 30.0, 60.0, 300.0, 900.0)
"""A call may wait for a whole run."""


@dataclass(eq=False)
class ServerTally:
    """Counts what one server does. One thread adds, that of the event loop; any other one may read meanwhile.

    Attributes:
        requests: How many were answered, by route and status.
        request_seconds: How long it took until their answers began, by route.
        in_progress: How many are being answered.
        connections_closed: How many connections were closed on their clients, by reason: `crowded` (there were too
            many), `silent` (no request came in time), `unread` (an answer was not read in time).
        calls: How many calls of tools came to what, by tool and outcome.
        call_seconds: How long they took, by tool.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    request_seconds: dict[str, Distribution] = field(default_factory=dict)
    in_progress: int = 0
    connections_closed: Counter[str] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    call_seconds: dict[str, Distribution] = field(default_factory=dict)

    def answered(self, route: str, status: str, seconds: float) -> None:
        """Count a request.

        Args:
            route: One of few names.
            status: HTTP's, or `none` when the client went away before the answer began.
            seconds: How long it took until that.
        """
        self.requests[route, status] += 1
        self.request_seconds.setdefault(route, Distribution(LONG_SECONDS)).add(seconds)

    def called(self, tool: str, outcome: str, seconds: float) -> None:
        """Count a call of a tool, by one of few names, that came to one of few outcomes."""
        self.calls[tool, outcome] += 1
        self.call_seconds.setdefault(tool, Distribution(LONG_SECONDS)).add(seconds)

    def add_all(self, other: "ServerTally") -> None:
        """Count all that another one has counted."""
        self.requests.update(other.requests)
        self.connections_closed.update(other.connections_closed)
        self.calls.update(other.calls)
        for mine, others in (
            (self.request_seconds, other.request_seconds),
            (self.call_seconds, other.call_seconds),
        ):
            for name, seconds in others.items():
                mine.setdefault(name, Distribution(LONG_SECONDS)).add_all(seconds)


def of_server_tally(tally: ServerTally) -> Iterator[Sample]:
    """What a server has done."""
    for key, count in list(tally.requests.items()):  # a copy: another thread may add to it meanwhile
        yield "workflows_http_requests", key, count
    for route, seconds in list(tally.request_seconds.items()):
        yield "workflows_http_request_duration_seconds", (route,), seconds
    yield "workflows_http_requests_in_progress", (), tally.in_progress
    for reason, count in list(tally.connections_closed.items()):
        yield "workflows_http_connections_closed", (reason,), count
    for key, count in list(tally.calls.items()):
        yield "workflows_tool_calls", key, count
    for tool, seconds in list(tally.call_seconds.items()):
        yield "workflows_tool_call_duration_seconds", (tool,), seconds
