"""Clients that use a store in all ways at once, and write down what they did and saw."""

import asyncio
import contextlib
import dataclasses
import itertools
import random
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.faults.consistency import Kind, Operation
from tests.faults.crew import append
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointNotFoundError,
    CheckpointState,
    CheckpointStore,
    LeaseLostError,
    SQLAlchemyCheckpointStore,
    StoreUnavailableError,
)
from workflows_mcp.testing import make_state

__all__ = ["Plan", "Recorder", "number_of", "state_of", "use_for_ever"]

T = TypeVar("T")

_IDS_AT_ONCE = 6
_SECONDS_PER_IDS = 1.5
"""After so long all go on to other ids: an operation of which nobody knows excuses much of what follows it."""

_TASKS = 8
_SECONDS_PER_JOB = 0.02
_LEASE_SECONDS = 86_400.0
_SHARE_CUT_SHORT = 0.04
_LONGEST_CUT_CALL = 0.004
_ABSENT = "-"
_TORN = -1


_COMMON = " ".join(map(str, range(1_200)))
"""What all states have in common: enough for one to be stored as a delta of another of its run."""


def state_of(checkpoint_id: str, number: int) -> CheckpointState:
    """The state of a number, which is also when it was created, so that a listing tells it.

    Those whose ids begin alike are of one run.
    """
    name = checkpoint_id.partition("/")[0]
    return make_state(
        checkpoint_id,
        workflow_name=name,
        created_at=float(number),
        context={"number": number, "common": _COMMON, "text": f"{number} " * (number % 400)},
        run_id=name,
    )


def number_of(state: CheckpointState | None) -> int | None:
    """What was saved; `_TORN`, when it was no save's state."""
    if state is None:
        return None
    number = state.context["number"]
    return int(number) if state == state_of(state.checkpoint_id, number) else _TORN


@dataclass
class Recorder:
    """Writes down when an operation begins and when it ends, each before anything else happens.

    A line: which call of its client's, and that it `began`, with its kind, id and number, or how it ended, or what it
    `read`; and when.

    Attributes:
        file: One client's, of all its tasks.
    """

    file: Path

    def __post_init__(self) -> None:
        self._numbers = itertools.count()

    @property
    def client(self) -> str:
        """Names it."""
        return self.file.name

    def begin(self, kind: str, checkpoint_id: str, number: int | None) -> int:
        """Note a beginning; the operation's own number."""
        operation = next(self._numbers)
        value = _ABSENT if number is None else number
        append(self.file, f"{operation} began {time.monotonic_ns()} {kind} {checkpoint_id} {value}")
        return operation

    def end(self, operation: int, result: str = "ok") -> None:
        """Note an end: `ok`, `failed`, or `unknown`."""
        append(self.file, f"{operation} {result} {time.monotonic_ns()}")

    def read(self, checkpoint_id: str, number: int | None, since: int, until: int) -> None:
        """Note what was seen."""
        append(self.file, f"- read {since} {until} {checkpoint_id} {_ABSENT if number is None else number}")

    @property
    def calls(self) -> int:
        """How many were begun."""
        return sum(" began " in line for line in self._lines)

    @property
    def _lines(self) -> list[str]:
        return self.file.read_text().splitlines()

    def operations(self) -> list[Operation]:
        """Those that may have happened."""
        found: dict[str, Operation] = {}
        reads: list[Operation] = []
        for line in self._lines:
            which, what, moment, *rest = line.split()
            if what == "read":
                until, checkpoint_id, number = rest
                value = None if number == _ABSENT else int(number)
                reads.append(Operation("read", checkpoint_id, value, int(moment), int(until), self.client))
            elif what == "began":
                kind, checkpoint_id, number = rest
                if kind in _WRITES:
                    client = f"{self.client}-{number}" if kind in {"claim", "release"} else self.client
                    value = None if number == _ABSENT else int(number)
                    found[which] = Operation(_WRITES[kind], checkpoint_id, value, int(moment), client=client)
            elif what == "failed":
                found.pop(which, None)
            elif which in found:
                found[which] = dataclasses.replace(found[which], ended=int(moment))
        return [*found.values(), *reads]


_WRITES: dict[str, Kind] = {kind: kind for kind in ("save", "delete", "claim", "release", "follow")}


@dataclass(frozen=True)
class Plan:
    """What all clients know.

    Attributes:
        url: A database at head, with the jobs.
        stop: A file that is there when they are to end.
        began: When all of this began, by the common clock.
        jobs: How many there are.
    """

    url: str
    stop: Path
    began: int
    jobs: int


@dataclass
class _Client:
    """A task that does one thing after the other.

    Attributes:
        plan: What all clients know.
        store: Its process's.
        recorder: Its process's.
        numbers: Those of its process's saves.
        chance: Decides what it does.
    """

    plan: Plan
    store: CheckpointStore
    recorder: Recorder
    numbers: "itertools.count[int]"
    chance: random.Random

    @property
    def _seconds(self) -> float:
        return (time.monotonic_ns() - self.plan.began) / 1e9

    async def go(self) -> None:
        """Do what comes to mind."""
        doings = (self._save, self._load, self._list, self._delete, self._take_job, self._race_to_follow)
        while not self.plan.stop.exists():
            [doing] = self.chance.choices(doings, (35, 37, 6, 8, 8, 6))
            await doing()

    def _some_id(self) -> str:
        return f"ids{int(self._seconds / _SECONDS_PER_IDS)}/{self.chance.randrange(_IDS_AT_ONCE)}"

    async def _try(self, call: Awaitable[T]) -> T | None:
        """A call, now and then cut short; None: it was, or the store does not know."""
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            if self.chance.random() < _SHARE_CUT_SHORT:
                async with asyncio.timeout(self.chance.uniform(0, _LONGEST_CUT_CALL)):
                    return await call
            return await call
        return None

    async def _save(self) -> None:
        state = state_of(self._some_id(), next(self.numbers))
        operation = self.recorder.begin("save", state.checkpoint_id, int(state.created_at))
        if await self._try(self.store.save_checkpoint(state)) is not None:
            self.recorder.end(operation)

    async def _load(self) -> None:
        checkpoint_id, since = self._some_id(), time.monotonic_ns()
        self.recorder.begin("load", checkpoint_id, None)
        found = await self._try(_boxed(self.store.load_checkpoint(checkpoint_id)))
        if found is not None:
            self.recorder.read(checkpoint_id, number_of(found[0]), since, time.monotonic_ns())

    async def _list(self) -> None:
        names, since = self._some_id().partition("/")[0], time.monotonic_ns()
        self.recorder.begin("list", names, None)
        found = await self._try(self.store.list_checkpoints(names))
        if found is not None:
            until = time.monotonic_ns()
            numbers = {one.checkpoint_id: int(one.created_at) for one in found}
            for checkpoint_id in (f"{names}/{n}" for n in range(_IDS_AT_ONCE)):
                self.recorder.read(checkpoint_id, numbers.get(checkpoint_id), since, until)

    async def _delete(self) -> None:
        checkpoint_id, since = self._some_id(), time.monotonic_ns()
        operation = self.recorder.begin("delete", checkpoint_id, None)
        was_there = await self._try(self.store.delete_checkpoint(checkpoint_id))
        if was_there is not None:
            self.recorder.end(operation, "ok" if was_there else "failed")
            if not was_there:
                self.recorder.read(checkpoint_id, None, since, time.monotonic_ns())

    @property
    def _job(self) -> int:
        """All clients want the same one at about the same time."""
        return min(int(self._seconds / _SECONDS_PER_JOB), self.plan.jobs - 1)

    async def _take_job(self) -> None:
        """Claim one; then let go of it, go on from it, or leave it."""
        job, number = f"claimed/{self._job}", next(self.numbers)
        token = f"{self.recorder.client}-{number}"
        operation = self.recorder.begin("claim", job, number)
        since = time.monotonic_ns()
        try:
            state = await self._try(self.store.claim_checkpoint(job, token, _LEASE_SECONDS))
        except CheckpointAlreadyClaimedError:
            self.recorder.end(operation, "failed")
            return
        except CheckpointNotFoundError:
            self.recorder.end(operation, "failed")
            self.recorder.read(job, None, since, time.monotonic_ns())
            return
        if state is None:
            return
        self.recorder.end(operation)
        self.recorder.read(job, number_of(state), since, time.monotonic_ns())
        then = self.chance.random()
        if then < 0.4:
            operation = self.recorder.begin("release", job, number)
            try:
                if await self._try(_boxed(self.store.release_claim(job, token))) is not None:
                    self.recorder.end(operation)
            except LeaseLostError:  # it was followed by now, or there is another winner, who will be found
                self.recorder.end(operation, "failed")
        elif then < 0.9:
            await self._follow(job, token)

    async def _race_to_follow(self) -> None:
        await self._follow(f"followed/{self._job}", None)

    async def _follow(self, job: str, owner: str | None) -> None:
        number = next(self.numbers)
        state = state_of(f"{job}>{number}", number)
        operation = self.recorder.begin("follow", job, number)
        try:
            if await self._try(self.store.save_checkpoint(state, follows=job, owner=owner)) is not None:
                self.recorder.end(operation)
        except LeaseLostError:
            self.recorder.end(operation, "failed")


async def _boxed(call: Awaitable[T]) -> tuple[T]:
    return (await call,)


async def use_for_ever(plan: Plan, file: Path, first_number: int) -> None:
    """Be a client until somebody ends this process, or all are to end.

    Args:
        plan: What all clients know.
        file: Where to write down what is done.
        first_number: Of its saves; no other client has these.
    """
    recorder, numbers = Recorder(file), itertools.count(first_number)
    async with SQLAlchemyCheckpointStore(plan.url) as store, asyncio.TaskGroup() as group:
        for task in range(_TASKS):
            client = _Client(plan, store, recorder, numbers, random.Random(first_number + task))
            group.create_task(client.go())
