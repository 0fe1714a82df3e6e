"""How long a client waits for the first answer of a server that it starts over stdio: ours beside the bare SDK's."""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from benchmarks.figures import rotated
from benchmarks.mcp_servers import command_of, environment_of, write_workflows
from workflows_mcp import upgrade_schema

__all__ = ["Start", "measure_starts", "starts_table"]

_MOST = 1.5
"""The most that ours may take, of what the bare SDK's takes."""


@dataclass(frozen=True)
class Start:
    """How long one kind of first call took.

    Attributes:
        what: The call.
        seconds: From the start of the process to the answer: the median of the turns.
        ratio: To the bare SDK's first call: the median of the ratios within each turn.
        has_target: Whether it is one that must be quick.
    """

    what: str
    seconds: float
    ratio: float
    has_target: bool

    @property
    def verdict(self) -> str:
        """Whether it is as quick as it must be."""
        if not self.has_target:
            return ""
        return f"{'met' if self.ratio < _MOST else 'MISSED'}: below {_MOST:g} ×"


@dataclass(frozen=True)
class _First:
    what: str
    whose: str
    call: Callable[[Client], Awaitable[object]]
    database: str = "there"
    has_target: bool = True


async def _run(client: Client) -> None:
    answer = await client.call_tool("execute_workflow", {"workflow": "skipped"})
    assert not answer.is_error, answer.content


_BARE = _First("bare SDK: echo", "bare", lambda client: client.call_tool("echo", {"text": "hello"}), has_target=False)

_FIRSTS = (
    _BARE,
    _First("ours: tools/list", "ours", lambda client: client.list_tools()),
    _First("ours: list_workflows", "ours", lambda client: client.call_tool("list_workflows", {})),
    _First("ours: execute_workflow", "ours", _run, has_target=False),
    _First("ours: execute_workflow, a new database", "ours", _run, "new", has_target=False),
)


def measure_starts(folder: Path, turns: int) -> list[Start]:
    """Start servers, one after the other, each kind once a turn.

    Args:
        folder: An empty one.
        turns: How many; one more before them warms up, and compiles what Python has not compiled yet.
    """
    write_workflows(folder)
    there = folder / "there.db"
    asyncio.run(upgrade_schema(there))
    found: dict[str, list[float]] = {first.what: [] for first in _FIRSTS}
    for turn in range(-1, turns):
        for first in rotated(_FIRSTS, turn):
            database = folder / f"{first.database}.db"
            seconds = asyncio.run(_measure(first, environment_of(folder, str(database))))
            if first.database == "new":
                for one in folder.glob("new.db*"):
                    one.unlink()
            if turn >= 0:
                found[first.what].append(seconds)
    bare = found[_BARE.what]
    return [
        Start(
            first.what,
            statistics.median(found[first.what]),
            statistics.median(one / other for one, other in zip(found[first.what], bare, strict=True)),
            first.has_target,
        )
        for first in _FIRSTS
    ]


async def _measure(first: _First, environment: dict[str, str]) -> float:
    program, *words = command_of(first.whose)
    parameters = StdioServerParameters(command=program, args=words, env=environment)
    with open(os.devnull, "w", encoding="utf-8") as nothing:  # noqa: ASYNC230, PTH123 - opened at once
        began = time.perf_counter()
        async with Client(stdio_client(parameters, errlog=nothing)) as client:
            await first.call(client)
            return time.perf_counter() - began


def starts_table(starts: Sequence[Start]) -> str:
    """The starts as lines of text."""
    lines = [f"{'start to first answer, over stdio':<44}{'median':>10}{'of bare':>10}"]
    lines += [
        f"{one.what:<44}{one.seconds * 1e3:>7.0f} ms{one.ratio:>8.2f} ×  {one.verdict}".rstrip() for one in starts
    ]
    return "\n".join(lines)
