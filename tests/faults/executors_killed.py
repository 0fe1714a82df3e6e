"""Kills executors that recover the same runs from one another, freezes some for a while, and has some shut down.

Nothing that is finished may run again.

Every block writes down when it begins, by its path in the run. Afterwards all checkpoints are read: no block began
after a checkpoint was created that holds it as finished.
"""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.faults.crew import Journal, Start, append, join, report_warnings, start
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointConfig,
    CheckpointState,
    ExecutorStoppedError,
    LeaseLostError,
    SQLAlchemyCheckpointStore,
    WorkflowExecutor,
    block_type,
    upgrade_schema,
)
from workflows_mcp.engine.blocks import BlockContext
from workflows_mcp.engine.checkpoint import CheckpointStatus

LEASE_SECONDS = 0.5
RUNS_AT_ONCE = 4
SECONDS_TO_FINISH = 60.0
_GRACE_SECONDS = (0.0, 0.02, 1.0)
"""For how long blocks may go on when a process is shut down: not at all, shorter and longer than they take."""

_STOPPED_AT_ONCE = 2
_STOPPED_SECONDS = (0.3, 1.5)  # shorter and longer than a lease
_LONGEST_STEP = 0.03
_FLAKY_FAILURES = 1
_COMMAND = "file"
_SECONDS_TO_START = 0.3  # between a process that goes on and the first line of a command that it was about to start

_RUNNING, _PAUSED = CheckpointStatus.RUNNING, CheckpointStatus.PAUSED

SERVER = """\
name: server
inputs:
  at: {type: str}
  n: {type: num}
blocks:
  - id: x
    type: Step
    inputs: {at: "{{ inputs.at }}/x", value: "{{ inputs.n }}"}
  - id: y
    type: Step
    depends_on: [x]
    for_each: [1, 2]
    inputs: {at: "{{ inputs.at }}/y[{{ each.key }}]", value: "{{ blocks.x.outputs.result + each.value }}"}
outputs:
  sum: "{{ blocks.y['0'].outputs.result + blocks.y['1'].outputs.result }}"
"""

REGION = """\
name: region
inputs:
  at: {type: str}
  n: {type: num}
blocks:
  - id: a
    type: Step
    inputs: {at: "{{ inputs.at }}/a", value: "{{ inputs.n }}"}
  - id: servers
    type: Workflow
    depends_on: [a]
    for_each: [1, 2]
    for_each_mode: sequential
    inputs:
      workflow: server
      inputs: {at: "{{ inputs.at }}/servers[{{ each.key }}]", n: "{{ blocks.a.outputs.result + each.value }}"}
  - id: flaky
    type: Flaky
    depends_on: [a]
    retries: {times: 100, delay_seconds: 0.01}
    inputs: {at: "{{ inputs.at }}/flaky"}
  - id: ask
    type: Prompt
    depends_on: [servers, flaky]
    inputs: {prompt: "{{ blocks.servers['0'].outputs.sum + blocks.servers['1'].outputs.sum }}"}
outputs:
  sum: "{{ blocks.ask.outputs.response | int }}"
"""

OUTER = """\
name: outer
inputs:
  n: {type: num}
  journal: {type: str}
blocks:
  - id: first
    type: Step
    inputs: {at: first, value: "{{ inputs.n }}"}
  - id: regions
    type: Workflow
    depends_on: [first]
    for_each: [10, 20, 30]
    inputs:
      workflow: region
      inputs: {at: "regions[{{ each.key }}]", n: "{{ blocks.first.outputs.result + each.value }}"}
  - id: beside
    type: Step
    depends_on: [first]
    for_each: {one: 1, two: 2, three: 3}
    for_each_mode: sequential
    inputs: {at: "beside[{{ each.key }}]", value: "{{ each.value }}"}
  - id: file
    type: Shell
    depends_on: [first]
    inputs:
      command: |
        echo "$(date +%s.%N) file $PPID" >> {{ inputs.journal | shquote }}
        echo '{"n": {{ inputs.n }}}' > {{ tmp | shquote }}/n.json
    outputs:
      made: {path: "{{ tmp }}/n.json", type: dict}
  - id: ask
    type: Prompt
    depends_on: [regions, beside, file]
    inputs:
      prompt: >-
        {{ blocks.regions['0'].outputs.sum + blocks.regions['1'].outputs.sum + blocks.regions['2'].outputs.sum
        + blocks.beside['three'].outputs.result + blocks.file.outputs.made.n }}
  - id: last
    type: Step
    depends_on: [ask]
    inputs: {at: last, value: "{{ blocks.ask.outputs.response | int }}"}
outputs:
  sum: "{{ blocks.last.outputs.result }}"
"""
"""Three levels: items at the same time, items in order, items at the same time; questions on two of them."""


def expected(n: int) -> dict[str, int]:
    """The outputs of a run of `outer`: each `Step` gives its value and one."""

    def server(n: int) -> int:
        return sum(n + 1 + each + 1 for each in (1, 2))

    def region(n: int) -> int:
        return sum(server(n + 1 + each) for each in (1, 2))

    return {"sum": sum(region(n + 1 + each) for each in (10, 20, 30)) + (3 + 1) + n + 1}


@dataclass
class Report:
    """What a series of kills showed.

    Attributes:
        kills: How many processes were killed.
        stops: How many were stopped for a while.
        shutdowns: How many were told to shut down, and did.
        runs: How many runs there were.
        checkpoints: How many of theirs were saved.
        starts: How often a block began.
        repeated: How many of these were not the block's first; what was under way at a kill begins again.
        handed_over: How often a run went on in another process than before.
        orphans: Commands that began after their process was killed, which nobody can prevent.
        late: Commands that a process was stopped in the very act of starting, and started when it went on: neither
            can that be prevented.
        finished: Blocks that a checkpoint holds as finished.
        ran_again: Those of them that began again later, as run:path; must stay empty.
        wrong: Runs that did not end with the right outputs and one head; must stay empty.
        left: What is still running at the end; must stay empty.
        errors: Everything that a process reported; must stay empty.
    """

    kills: int = 0
    stops: int = 0
    shutdowns: int = 0
    runs: int = 0
    checkpoints: int = 0
    starts: int = 0
    repeated: int = 0
    handed_over: int = 0
    orphans: int = 0
    late: int = 0
    finished: int = 0
    ran_again: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def verdict(self) -> Verdict:
        """All of it."""
        verdict = Verdict(
            {
                "kills": self.kills,
                "stops": self.stops,
                "shutdowns": self.shutdowns,
                "runs": self.runs,
                "checkpoints": self.checkpoints,
                "starts of blocks": self.starts,
                "again after a kill": self.repeated,
                "of orphaned commands": self.orphans + self.late,
                "taken over": self.handed_over,
                "finished": self.finished,
                "finished and ran again": len(self.ran_again),
                "wrong ends": len(self.wrong),
            },
            [*self.ran_again, *self.wrong, *self.left, *self.errors],
        )
        verdict.require(self.finished, "nothing was finished")
        verdict.require(self.handed_over, "no run was taken over")
        return verdict


@dataclass(frozen=True)
class Shared:
    """What the processes of a series share.

    Attributes:
        url: The database.
        folder: Where they write down what they do.
    """

    url: str
    folder: Path

    @property
    def journal(self) -> Journal:
        """The starts of blocks."""
        return Journal(self.folder / "journal")

    @property
    def wanted(self) -> Path:
        """The ids of the runs that there are to be."""
        return self.folder / "wanted"

    @property
    def working(self) -> Path:
        """The ids of the processes that have begun to work, and so know how to shut down."""
        return self.folder / "working"

    @property
    def at_work(self) -> set[int]:
        """The same, read."""
        return set(map(int, self.working.read_text().split() if self.working.exists() else ()))

    @property
    def errors(self) -> Path:
        """What went wrong in a process."""
        return self.folder / "errors"

    @property
    def over(self) -> Path:
        """Is there when the processes are to end."""
        return self.folder / "over"


def register_blocks(journal: Journal) -> None:
    """The block types of this process."""

    async def step(at: str, value: int, context: BlockContext) -> int:
        journal.note(context.run_id, at)
        await asyncio.sleep(random.uniform(0, _LONGEST_STEP))
        return value + 1

    async def flaky(at: str, context: BlockContext) -> None:
        journal.note(context.run_id, at)
        await asyncio.sleep(random.uniform(0, _LONGEST_STEP))
        if sum(one.path == at for one in journal.starts(context.run_id)) <= _FLAKY_FAILURES:
            raise RuntimeError("not yet")

    block_type("Step")(step)
    block_type("Flaky")(flaky)


class Worker:
    """A process that begins runs, recovers those of others and answers questions, until it is killed."""

    def __init__(self, shared: Shared, store: SQLAlchemyCheckpointStore, executor: WorkflowExecutor) -> None:
        self._shared = shared
        self._store = store
        self._executor = executor
        self._is_told = False

    @property
    def _is_over(self) -> bool:
        return self._is_told or self._shared.over.exists()

    async def shut_down(self) -> None:
        """Stop the runs that there are, and then all else."""
        self._is_told = True
        await self._executor.stop(random.choice(_GRACE_SECONDS))

    async def work(self) -> None:
        """Do all of it until the series is over."""
        async with asyncio.TaskGroup() as loops:
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGTERM, lambda: loops.create_task(self._quietly(self.shut_down()))
            )
            append(self._shared.working, str(os.getpid()))
            loops.create_task(self._begin())
            loops.create_task(self._recover())
            loops.create_task(self._answer())

    async def _begin(self) -> None:
        begun: set[str] = set()
        async with asyncio.TaskGroup() as runs:
            while not self._is_over:
                wanted = self._shared.wanted
                for run_id in set(wanted.read_text().split() if wanted.exists() else ()) - begun:
                    begun.add(run_id)
                    runs.create_task(
                        self._quietly(self._executor.execute_workflow("outer", self._inputs(run_id), run_id=run_id))
                    )
                await asyncio.sleep(0.02)

    def _inputs(self, run_id: str) -> dict[str, Any]:
        return {"n": number_of(run_id), "journal": str(self._shared.journal.file(run_id))}

    async def _recover(self) -> None:
        while not self._is_over:
            await self._quietly(self._executor.recover())
            await asyncio.sleep(random.uniform(0.02, 0.1))

    async def _answer(self) -> None:
        while not self._is_over:
            paused = await self._store.list_checkpoints(is_paused=True, limit=20)
            answers = (self._executor.resume_workflow(one.checkpoint_id, one.pause_prompt or "") for one in paused)
            await asyncio.gather(*map(self._quietly, answers))
            await asyncio.sleep(random.uniform(0.01, 0.05))

    async def _quietly(self, work: Awaitable[object]) -> None:
        """Take it as it is when another process has the run, or this one shuts down; write down any other error."""
        try:
            await work
        except (CheckpointAlreadyClaimedError, LeaseLostError):
            pass
        except ExecutorStoppedError:
            if not self._is_told:
                append(self._shared.errors, traceback.format_exc())
        except asyncio.CancelledError:  # nobody cancels anything here
            append(self._shared.errors, traceback.format_exc())
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the harness is to know
            append(self._shared.errors, traceback.format_exc())


async def work(shared: Shared, checkpoint_every: Any) -> None:
    """One process."""
    report_warnings(shared.errors)
    register_blocks(shared.journal)
    config = CheckpointConfig(auto_cleanup=False, checkpoint_every=checkpoint_every)
    async with SQLAlchemyCheckpointStore(shared.url) as store:
        executor = WorkflowExecutor(store, config, lease_seconds=LEASE_SECONDS)
        for workflow in (SERVER, REGION, OUTER):
            executor.load_workflow(workflow)
        await Worker(shared, store, executor).work()


def number_of(run_id: str) -> int:
    """The input of a run."""
    return int(run_id.partition("-")[2])


class Series:
    """The harness: keeps the processes and the runs coming, kills, and counts afterwards."""

    def __init__(self, shared: Shared, store: SQLAlchemyCheckpointStore, processes: int, seed: int) -> None:
        self._shared = shared
        self._store = store
        self._chance = random.Random(seed)
        self._every = itertools.cycle(["wave", "block"])
        self._crew = [self._hire() for _ in range(processes)]
        self._pids = {process.pid for process in self._crew}
        self._killed_at: dict[int | None, float] = {}
        self._stopped: dict[int, asyncio.Task[None]] = {}
        self._woken_at: list[tuple[int, float]] = []
        self._wanted: list[str] = []
        self.report = Report()

    async def disturb(self, rounds: int) -> None:
        """Kill one process after the other at random moments while runs are under way; freeze some, shut some down."""
        for _ in range(rounds):
            await self._until_a_block_begins()
            await asyncio.sleep(self._chance.uniform(0, 0.5))
            if self._chance.random() < 0.5:
                self._stop(self._chance.choice(self._crew))
            number = self._chance.randrange(len(self._crew))
            victim = self._crew[number]
            if victim.exitcode is not None:
                self.report.errors.append(f"a process ended by itself with exit code {victim.exitcode}")
            victim.kill()
            await join(victim)
            self._killed_at[victim.pid] = time.time()
            self.report.kills += 1
            self._replace(number)
            await self._until_a_block_begins()
            await self._shut_down(self._chance.randrange(len(self._crew)))
        await asyncio.gather(*self._stopped.values())

    def _replace(self, number: int) -> None:
        self._crew[number] = self._hire()
        self._pids.add(self._crew[number].pid)

    async def _shut_down(self, number: int) -> None:
        """Tell a process to end, which it does by itself; one that is frozen, or has not begun to work, cannot."""
        process = self._crew[number]
        assert process.pid is not None
        if process.pid in self._stopped or process.pid not in self._shared.at_work:
            return
        process.terminate()
        async with asyncio.timeout(SECONDS_TO_FINISH):
            code = await join(process)
        if code:
            self.report.errors.append(f"a process that was told to shut down ended with exit code {code}")
        self.report.shutdowns += 1
        self._replace(number)

    async def _until_a_block_begins(self) -> None:
        """On a busy machine processes take longer to start than others take to be killed."""
        journal = self._shared.journal
        written = journal.size
        async with asyncio.timeout(SECONDS_TO_FINISH):
            while journal.size == written:
                await self._keep_going()
                await asyncio.sleep(0.02)

    def _stop(self, process: ForkServerProcess) -> None:
        """Stop a process for a while, unless there are some already."""
        pid = process.pid
        assert pid is not None
        if len(self._stopped) >= _STOPPED_AT_ONCE or pid in self._stopped or process.exitcode is not None:
            return

        async def wake() -> None:
            await asyncio.sleep(self._chance.uniform(*_STOPPED_SECONDS))
            del self._stopped[pid]
            if process.exitcode is None:
                self._woken_at.append((pid, time.time()))
                os.kill(pid, signal.SIGCONT)

        os.kill(pid, signal.SIGSTOP)
        self.report.stops += 1
        self._stopped[pid] = asyncio.create_task(wake())

    async def finish(self) -> None:
        """Let the processes finish all runs, and end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDS_TO_FINISH):
                while await self._unfinished():
                    await asyncio.sleep(0.05)
        self._shared.over.touch()
        for process in self._crew:
            try:
                async with asyncio.timeout(SECONDS_TO_FINISH):
                    code = await join(process)
                if code:
                    self.report.errors.append(f"a process ended with exit code {code}")
            except TimeoutError:
                self.report.left.append(f"process {process.pid}")
                process.kill()

    async def count(self) -> None:
        """Compare what began with what the checkpoints hold."""
        report = self.report
        report.runs = len(self._wanted)
        if self._shared.errors.exists() and (told := self._shared.errors.read_text()):
            report.errors.append(told)
        report.left += [f"run {one.run_id}" for one in await self._store.list_abandoned()]
        report.left += [f"run {run_id}" for run_id in await self._unfinished()]
        report.left += [f"command {command}" for command in _commands() if str(self._shared.folder) in command]
        finished: dict[str, dict[str, float]] = {run_id: {} for run_id in self._wanted}
        ends: dict[str, list[CheckpointState]] = {run_id: [] for run_id in self._wanted}
        heads = {one.checkpoint_id for one in await self._store.list_checkpoints(heads_only=True)}
        async for state in self._store.iter_checkpoints():
            report.checkpoints += 1
            assert state.run_id is not None
            seen = finished[state.run_id]
            for path in finished_in(state):
                seen[path] = min(state.created_at, seen.get(path, state.created_at))
            if state.checkpoint_id in heads:
                ends[state.run_id].append(state)
        for run_id in self._wanted:
            outputs = [state.context.get("outputs") for state in ends[run_id]]
            if outputs != [expected(number_of(run_id))]:
                report.wrong.append(f"{run_id} ended with {outputs}, not with {expected(number_of(run_id))}")
            self._count_starts(run_id, finished[run_id])

    def _count_starts(self, run_id: str, finished: dict[str, float]) -> None:
        report = self.report
        report.finished += len(finished)
        begun: Counter[str] = Counter()
        last_pid = None
        for one in sorted(self._shared.journal.starts(run_id), key=lambda start: start.at):
            if one.at > self._killed_at.get(one.pid, one.at) or one.pid not in self._pids:
                report.orphans += 1
                continue
            begun[one.path] += 1
            report.handed_over += last_pid not in {None, one.pid}
            last_pid = one.pid
            if one.at > finished.get(one.path, one.at):
                if one.path == _COMMAND and self._just_went_on(one):
                    report.late += 1
                    continue
                report.ran_again.append(f"{run_id}:{one.path} in process {one.pid} at {one.at}")
        report.starts += begun.total()
        report.repeated += begun.total() - len(begun)
        never = [path for path in finished if path not in begun and _is_written_down(path)]
        report.wrong += [f"{run_id}:{path} is finished and never began" for path in never]

    def _just_went_on(self, start: Start) -> bool:
        """Whether the process of a start had been stopped until a moment before it."""
        return any(pid == start.pid and 0 <= start.at - at < _SECONDS_TO_START for pid, at in self._woken_at)

    async def _keep_going(self) -> None:
        """Ask for new runs in place of those that are over."""
        for _ in range(RUNS_AT_ONCE - len(await self._unfinished())):
            self._wanted.append(f"run-{len(self._wanted)}")
            append(self._shared.wanted, self._wanted[-1])

    async def _unfinished(self) -> list[str]:
        heads = await self._store.list_checkpoints(heads_only=True)
        over = {one.run_id for one in heads if one.status not in {_RUNNING, _PAUSED}}
        return [run_id for run_id in self._wanted if run_id not in over]

    def _hire(self) -> ForkServerProcess:
        return start(work, self._shared, next(self._every))


def _is_written_down(path: str) -> bool:
    """Whether a block writes down that it begins; others have items or nested blocks that do, or are answered."""
    block_id, _, key = path.rpartition("/")[2].partition("[")
    return block_id in ({"y", "beside"} if key else {"first", "a", "x", "flaky", "file", "last"})


def finished_in(state: CheckpointState) -> Iterator[str]:
    """The paths of the blocks, and items of blocks, that a checkpoint holds as finished, on all levels."""
    _, *frames = state.workflow_stack
    places = [""]
    yield from _finished_of(state.context["blocks"], "")
    for frame in frames:
        key = "" if frame["key"] is None else f"[{frame['key']}]"
        places.append(f"{places[frame['parent']]}{frame['block']}{key}/")
        yield from _finished_of(frame["records"], places[-1])


def _finished_of(records: dict[str, Any], place: str) -> Iterator[str]:
    for block_id, record in records.items():
        items = {f"{block_id}[{key}]": item for key, item in record.get("items", {}).items()}
        for name, one in {block_id: record, **items}.items():
            if one["status"] not in {"running", "paused"}:
                yield f"{place}{name}"


def _commands() -> Iterator[str]:
    """The commands of all processes but this one."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                yield (entry / "cmdline").read_bytes().decode(errors="replace")


async def check(place: Place, effort: Effort) -> Verdict:
    """Kill executors one after the other, and compare what began with what the checkpoints hold."""
    await upgrade_schema(place.url)
    shared = Shared(place.url, place.folder)
    shared.journal.folder.mkdir()
    async with SQLAlchemyCheckpointStore(place.url) as store:
        series = Series(shared, store, effort.of(4, 3), effort.seed)
        await series.disturb(effort.of(100, 6))
        await series.finish()
        await series.count()
    return series.report.verdict()


ROW = Row(
    fault="executors killed and stopped",
    promise="Every run ends right, and nothing begins again that a checkpoint holds as finished.",
    check=check,
)
