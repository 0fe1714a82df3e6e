"""Kills or stops one of two MCP servers on one PostgreSQL, while clients have many workflows run over HTTP.

Every block writes down when it begins. A client whose server has died goes on with the other one, by the same run_id.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp import Client

from tests.faults.crew import Journal, Start
from tests.faults.executors_killed import finished_in
from tests.faults.links import links_of
from tests.faults.row import Effort, Place, Row, Verdict
from tests.server.started import StartedServer, start_server
from workflows_mcp import CheckpointState, CheckpointStatus, SQLAlchemyCheckpointStore, block_type, upgrade_schema
from workflows_mcp.engine.blocks import BlockContext

_STEPS = 3
_LONGEST_STEP = 0.05
_SECONDS_TO_FINISH = 60.0
_SECONDS_TO_WAIT = 20

_WORKFLOW = """\
name: climb
inputs:
  n: {type: num}
  text: {type: str, default: "TEXT"}
blocks:
  - {id: one, type: Step, inputs: {value: "{{ inputs.n }}"}}
  - {id: two, type: Step, depends_on: [one], inputs: {value: "{{ blocks.one.outputs.result }}"}}
  - {id: three, type: Step, depends_on: [two], inputs: {value: "{{ blocks.two.outputs.result }}"}}
outputs:
  sum: "{{ blocks.three.outputs.result }}"
"""


def register_step(journal: Journal) -> None:
    """Give a server the block type that writes down when it begins."""

    @block_type("Step")
    async def step(value: int, context: BlockContext) -> int:
        journal.note(context.run_id, context.block_id)
        await asyncio.sleep(_LONGEST_STEP * (value % 7 + 1) / 7)
        return value + 1


@dataclass
class Fleet:
    """Clients, and the two servers that they are clients of.

    Attributes:
        name: What the ids of its runs begin with.
        servers: The two.
        journal: Where blocks write down that they begin.
        runs: How many workflows are run in all.
        done: What the clients were told of runs that are over, by run.
        ended_at: When the first server ended, in Unix seconds.
        errors: What went wrong besides.
    """

    name: str
    servers: tuple[StartedServer, StartedServer]
    journal: Journal
    runs: int
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended_at: float = 0.0
    errors: list[str] = field(default_factory=list)
    _asked: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))

    @property
    def run_ids(self) -> list[str]:
        """The ids of its runs; the n-th climbs from n."""
        return [f"{self.name}-{number}" for number in range(self.runs)]

    async def work(self, clients: int, end: Callable[[StartedServer], Awaitable[object]]) -> None:
        """Have all workflows run, and end the first server when half of them are over."""
        numbers = iter(range(self.runs))
        with contextlib.suppress(TimeoutError):  # what is not over is told of every run
            async with asyncio.timeout(_SECONDS_TO_FINISH), asyncio.TaskGroup() as tasks:
                for client in range(clients):
                    tasks.create_task(self._client(numbers, client % 2))
                while len(self.done) < self.runs // 2 or not any(map(self._is_under_way, self._asked[0])):
                    await asyncio.sleep(0.002)
                self.ended_at = time.time()
                await end(self.servers[0])

    def _is_under_way(self, run_id: str) -> bool:
        """Whether a checkpoint holds a block of it, and another one has just begun."""
        return len(list(self.journal.starts(run_id))) == _STEPS - 1

    async def _client(self, numbers: Iterator[int], place: int) -> None:
        """One client: it changes to the other server when its own is gone."""
        wanted: int | None = next(numbers, None)
        while wanted is not None:
            try:
                async with Client(self.servers[place].url, read_timeout_seconds=_SECONDS_TO_FINISH) as client:
                    while wanted is not None:
                        await self._run(client, self._asked[place], wanted)
                        wanted = next(numbers, None)
            except Exception as error:  # noqa: BLE001 - the SDK has many ways to say that a server is gone
                if place == 1 or not self.ended_at:
                    self.errors.append(f"a server that was there failed: {error!r}")
                    return
                place = 1

    async def _run(self, client: Client, asked: set[str], number: int) -> None:
        run_id, status = self.run_ids[number], "running"
        arguments = {"workflow": "climb", "inputs": {"n": number}, "run_id": run_id}
        asked.add(run_id)
        while status == "running":
            answer = await client.call_tool("execute_workflow", {**arguments, "wait_seconds": _SECONDS_TO_WAIT})
            if answer.is_error or answer.structured_content is None:
                raise RuntimeError(f"{run_id}: {answer.content}")
            status = answer.structured_content["status"]
        asked.remove(run_id)
        self.done[run_id] = answer.structured_content


@dataclass
class Findings:
    """What checkpoints and journal say afterwards.

    Attributes:
        ends: The states of each run's final checkpoints.
        finished: When a checkpoint first held a block as finished, by run and block.
        checkpoints: How many there are.
    """

    ends: dict[str, list[CheckpointState]] = field(default_factory=dict)
    finished: dict[tuple[str, str], float] = field(default_factory=dict)
    checkpoints: int = 0

    @classmethod
    async def of(cls, store: SQLAlchemyCheckpointStore, name: str) -> "Findings":
        """Read the checkpoints of the runs whose ids begin with a name."""
        found = cls()
        async for state in store.iter_checkpoints():
            run_id = state.run_id or ""
            if not run_id.startswith(f"{name}-"):
                continue
            found.checkpoints += 1
            for path in finished_in(state):
                before = found.finished.get((run_id, path), state.created_at)
                found.finished[run_id, path] = min(state.created_at, before)
            if state.status is not CheckpointStatus.RUNNING:
                found.ends.setdefault(run_id, []).append(state)
        return found


@dataclass
class Report:
    """What all rounds showed.

    Attributes:
        kills: How many servers were killed.
        stops: How many were stopped in order.
        runs: How many runs there were.
        checkpoints: How many of theirs were saved.
        starts: How often a block began.
        again: How many of these were not the block's first, after a kill: it was under way.
        again_after_stop: The same after a stop in order; must stay 0.
        taken_over: How many runs went on in the other server.
        worst_seconds: How long that took at most, from the end of the first one.
        finished_again: Blocks that began again after a checkpoint held them as finished; must stay empty.
        broken: What else was not as promised.
    """

    kills: int = 0
    stops: int = 0
    runs: int = 0
    checkpoints: int = 0
    starts: int = 0
    again: int = 0
    again_after_stop: int = 0
    taken_over: int = 0
    worst_seconds: float = 0.0
    finished_again: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, fleet: Fleet, found: Findings, *, killed: bool) -> None:
        """Compare what a round's clients were told, what is stored and what was done."""
        self.runs += fleet.runs
        self.checkpoints += found.checkpoints
        self.broken += fleet.errors
        again = 0
        for number, run_id in enumerate(fleet.run_ids):
            outputs = {"sum": number + _STEPS}
            ends = [(one.status.value, one.context.get("outputs")) for one in found.ends.get(run_id, [])]
            if ends != [("completed", outputs)] or fleet.done.get(run_id, {}).get("outputs") != outputs:
                self.broken.append(f"{run_id} ended with {ends}, and a client was told {fleet.done.get(run_id)}")
            starts = sorted(fleet.journal.starts(run_id), key=lambda one: one.at)
            self.starts += len(starts)
            again += len(starts) - len({one.path for one in starts})
            late = [one.path for one in starts if one.at > found.finished.get((run_id, one.path), one.at)]
            self.finished_again += [f"{run_id}: {path} was finished, and ran again" for path in late]
            self._note_takeover(fleet, starts)
        if killed:
            self.kills += 1
            self.again += again
        else:
            self.stops += 1
            self.again_after_stop += again

    def _note_takeover(self, fleet: Fleet, starts: Sequence[Start]) -> None:
        first, second = (server.pid for server in fleet.servers)
        pids = [one.pid for one in starts]
        if pids and pids[0] == first and second in pids:
            self.taken_over += 1
            self.worst_seconds = max(self.worst_seconds, starts[pids.index(second)].at - fleet.ended_at)

    def verdict(self, lease_seconds: float) -> Verdict:
        """All of it."""
        verdict = Verdict(
            {
                "kills": self.kills,
                "stops in order": self.stops,
                "runs": self.runs,
                "checkpoints": self.checkpoints,
                "starts of blocks": self.starts,
                "again after a kill": self.again,
                "again after a stop": self.again_after_stop,
                "taken over": self.taken_over,
                "at the latest": f"{self.worst_seconds / lease_seconds:.2f} leases after",
                "finished and ran again": len(self.finished_again),
            },
            [*self.broken, *self.finished_again],
        )
        verdict.require(self.taken_over, "no run was taken over")
        verdict.require(not self.again_after_stop, "a block ran twice, though its server was stopped in order")
        verdict.require(self.worst_seconds <= 2 * lease_seconds, "a run was not taken over within two lease times")
        return verdict


async def _round(place: Place, effort: Effort, lease_seconds: float, number: int, report: Report) -> None:
    """Two new servers, of which one ends half-way: killed, or every other time stopped in order."""
    journal = Journal(place.folder / "journal")
    environment = {
        "WORKFLOWS_DATABASE_URL": place.url,
        "WORKFLOWS_TEMPLATE_PATHS": str(place.folder),
        "WORKFLOWS_LEASE_SECONDS": str(lease_seconds),
        "WORKFLOWS_AUTO_CLEANUP": "false",  # it would keep the newest of each workflow, and all of them are counted
    }
    prepare = functools.partial(register_step, journal)
    killed = number % 2 == 0
    async with contextlib.AsyncExitStack() as at_the_end:
        starting = (start_server(place.folder, environment, prepare=prepare) for _ in range(2))
        servers = tuple(await asyncio.gather(*starting))
        for one in servers:
            at_the_end.push_async_callback(one.kill)
        fleet = Fleet(f"run-{number}", (servers[0], servers[1]), journal, effort.of(200, 30))
        await fleet.work(effort.of(20, 6), StartedServer.kill if killed else StartedServer.stop)
    async with SQLAlchemyCheckpointStore(place.url) as store:
        report.add(fleet, await Findings.of(store, fleet.name), killed=killed)


async def check(place: Place, effort: Effort) -> Verdict:
    """End servers, and compare what clients were told with what began and what is stored."""
    Journal(place.folder / "journal").folder.mkdir()
    # All states of a run have it in common, so that one is stored as a delta of another.
    (place.folder / "climb.yaml").write_text(_WORKFLOW.replace("TEXT", " ".join(map(str, range(1_200)))))
    await upgrade_schema(place.url)
    report, lease_seconds = Report(), effort.of(3.0, 1.0)
    for number in range(effort.of(6, 1)):
        await _round(place, effort, lease_seconds, number, report)
    verdict = report.verdict(lease_seconds)
    async with SQLAlchemyCheckpointStore(place.url) as store:
        (await links_of(store)).tell(verdict)
    return verdict


ROW = Row(
    fault="MCP servers killed and stopped",
    promise="A client goes on with another server by the same run_id; every run ends once, and is taken over within "
    "two lease times; nothing begins again that a checkpoint holds, and nothing at all after a stop in order.",
    check=check,
    databases=("postgresql",),
)
