"""What a call costs over HTTP: a workflow that does nothing beside the bare SDK's echo, by the same clients.

Besides, what the executor itself takes for such a run, in this process, on the same kind of database.
"""

import asyncio
import contextlib
import functools
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mcp import Client

from benchmarks.databases import Databases
from benchmarks.figures import percentile, rotated
from benchmarks.mcp_servers import command_of, environment_of, register_nothing, write_workflows
from benchmarks.served import serving
from workflows_mcp import WorkflowExecutor, upgrade_schema
from workflows_mcp.server.services import open_services
from workflows_mcp.settings import load_settings

__all__ = ["CLIENTS", "Calls", "Share", "calls_table", "measure_calls"]

CLIENTS = (1, 16)

_MOST = 1.5
"""The most that a call may take, of what the echo takes; besides what the executor takes for the run."""

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Calls:
    """How long calls took: the medians of the turns.

    Attributes:
        p50: Half of them took at most so many seconds.
        p99: Nearly all of them did.
        rate: How many there were in a second.
    """

    p50: float
    p99: float
    rate: float

    @classmethod
    def of(cls, turns: "Sequence[Calls]") -> "Calls":
        """The medians of some turns."""
        return cls(*(statistics.median(getattr(turn, name) for turn in turns) for name in ("p50", "p99", "rate")))


@dataclass(frozen=True)
class Share:
    """The three on one kind of database, with so many callers at a time.

    Attributes:
        database: Where runs are kept.
        clients: How many call at a time.
        echo: The bare SDK's tool.
        run: Ours: `execute_workflow` with a block that does nothing.
        executor: The run alone, in process.
    """

    database: str
    clients: int
    echo: Calls
    run: Calls
    executor: Calls

    @property
    def limit(self) -> float:
        """What half of the calls may take, in seconds."""
        return _MOST * self.echo.p50 + self.executor.p50

    @property
    def verdict(self) -> str:
        """Whether they do."""
        is_met = self.run.p50 <= self.limit
        limit = f"{_MOST:g} × the echo's and the executor's, {self.limit * 1e3:.2f} ms"
        return f"{'met' if is_met else 'MISSED'}: a p50 of at most {limit}"


def measure_calls(databases: Databases, database: str, folder: Path, *, turns: int, calls: int) -> list[Share]:
    """Have all three called in turns.

    Args:
        databases: Makes the databases.
        database: Names their kind.
        folder: An empty one.
        turns: How many; one more before them warms up.
        calls: How many there are in a turn, in all.
    """
    write_workflows(folder)
    register_nothing()
    served, alone = databases.create("mcp-served"), databases.create("mcp-alone")
    for url in (served, alone):
        asyncio.run(upgrade_schema(url))
    with _serving("bare", folder, served) as bare, _serving("ours", folder, served) as ours:
        return [
            Share(database, clients, *asyncio.run(_compare(_Places(bare, ours, folder, alone), clients, turns, calls)))
            for clients in CLIENTS
        ]


@dataclass(frozen=True)
class _Places:
    """Where the three are: two servers, and the workflows and the database for the executor alone."""

    bare: str
    ours: str
    folder: Path
    alone: str


async def _compare(places: _Places, clients: int, turns: int, calls: int) -> Iterator[Calls]:
    found: tuple[list[Calls], ...] = ([], [], [])
    async with (
        _clients(places.bare, clients) as echoing,
        _clients(places.ours, clients) as running,
        _executor(places.folder, places.alone) as executor,
    ):
        callers: tuple[list[Call], ...] = (
            [functools.partial(_echo, client) for client in echoing],
            [functools.partial(_run, client) for client in running],
            [functools.partial(_run_alone, executor)] * clients,
        )
        for turn in range(-1, turns):
            for which in rotated(range(len(callers)), turn):
                one = await _take_turn(callers[which], calls)
                if turn >= 0:
                    found[which].append(one)
    return map(Calls.of, found)


async def _take_turn(callers: Sequence[Call], calls: int) -> Calls:
    """All callers call, each one call after the other, until there were so many in all."""
    took: list[float] = []

    async def call_often(call: Call) -> None:
        for _ in range(max(calls // len(callers), 1)):
            began = time.perf_counter()
            await call()
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for caller in callers:
            tasks.create_task(call_often(caller))
    seconds = time.perf_counter() - began
    return Calls(percentile(took, 0.5), percentile(took, 0.99), len(took) / seconds)


async def _echo(client: Client) -> None:
    answer = await client.call_tool("echo", {"text": "nothing"})
    assert not answer.is_error, answer.content


async def _run(client: Client) -> None:
    answer = await client.call_tool("execute_workflow", {"workflow": "nothing"})
    assert answer.structured_content is not None, answer.content
    assert answer.structured_content["status"] == "success", answer.content


async def _run_alone(executor: WorkflowExecutor) -> None:
    result = await executor.execute_workflow("nothing")
    assert result.is_success, result.error


@asynccontextmanager
async def _clients(url: str, count: int) -> AsyncIterator[list[Client]]:
    async with contextlib.AsyncExitStack() as opened:
        yield [await opened.enter_async_context(Client(url)) for _ in range(count)]


@asynccontextmanager
async def _executor(folder: Path, url: str) -> AsyncIterator[WorkflowExecutor]:
    """The executor that a server has, without a server."""
    settings = load_settings(database_url=url, template_paths=(folder,), auto_cleanup=False)
    async with open_services(settings) as services:
        await services.prepare()
        yield services.executor


@contextmanager
def _serving(whose: str, folder: Path, url: str) -> Iterator[str]:
    """One of the servers over HTTP, in a process of its own; yields where."""
    with serving(functools.partial(command_of, whose), environment_of(folder, url)) as port:
        yield f"http://127.0.0.1:{port}/mcp"


def calls_table(shares: Sequence[Share]) -> str:
    """The calls as lines of text."""
    lines = [f"{'calls over HTTP':<44}{'p50':>10}{'p99':>10}{'rate':>10}"]
    for share in shares:
        named = f"{share.database}, {share.clients} client{'s' * (share.clients > 1)}"
        lines += [
            "",
            named,
            _line("  bare SDK: echo", share.echo),
            _line("  ours: execute_workflow, a no-op block", share.run),
            _line("  the executor alone, in process", share.executor),
            f"  {share.verdict}",
        ]
    return "\n".join(lines)


def _line(what: str, calls: Calls) -> str:
    return f"{what:<44}{calls.p50 * 1e3:>7.2f} ms{calls.p99 * 1e3:>7.2f} ms{calls.rate:>8.0f}/s"
