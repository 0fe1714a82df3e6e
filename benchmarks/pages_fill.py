"""A database that has been used for a month: runs of many workflows that are over, at work, or wait for an answer.

What is in it was made by the executor, once for each way that a run can go. Copies of that, each with ids, times and a
workflow of its own, are written past the store: a million saves would take longer than all that is measured.
"""

import asyncio
import dataclasses
import heapq
import math
import operator
import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import asyncpg

from workflows_mcp import CheckpointState, InMemoryCheckpointStore, WorkflowExecutor
from workflows_mcp.engine.contract import columns_of
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.persistence.row_codec import RowCodec
from workflows_mcp.persistence.statements import TABLE

__all__ = ["WORKFLOWS", "fill"]

WORKFLOWS = [
    f"{verb}-{noun}"
    for noun in ("invoices", "customers", "orders", "reports", "images", "contracts", "releases", "backups")
    for verb in ("import", "check", "publish", "archive", "translate")
]
"""The names of the workflows; each has more runs than the one after it."""

_NAME, _CHECKPOINT, _RUN = "WORKFLOW-NAME", "CHECKPOINT-ID", "RUN-ID"
"""Stand in what the executor has made, where each copy has its own."""

_WORKFLOW = f"""
name: {_NAME}
inputs: {{asks: {{type: bool, default: false}}, code: {{type: num, default: 0}}}}
blocks:
  - {{id: fetch, type: Shell, inputs: {{command: "echo 1,204 rows"}}}}
  - {{id: check, type: Shell, inputs: {{command: "exit {{{{ inputs.code }}}}"}}, depends_on: [fetch]}}
  - {{id: sort, type: Shell, inputs: {{command: "echo sorted"}}, depends_on: [check]}}
  - {{id: build, type: Shell, inputs: {{command: "echo built"}}, depends_on: [sort]}}
  - id: confirm
    type: Prompt
    condition: "{{{{ inputs.asks }}}}"
    inputs: {{prompt: "1,204 rows are ready. Publish them?", choices: ["yes", "no"]}}
    depends_on: [build]
  - id: publish
    type: Shell
    inputs: {{command: "echo published"}}
    depends_on: [{{block: confirm, required: false}}]
  - {{id: notify, type: Shell, inputs: {{command: "echo sent"}}, depends_on: [publish]}}
  - {{id: tidy, type: Shell, inputs: {{command: "echo removed"}}, depends_on: [notify]}}
"""

_SECONDS = 30 * 86400.0
"""How long ago the first run began."""

_CHECKPOINTS_A_RUN = 10
"""What a run has, on average a little more."""

_FATES = {"completed": 83, "answered": 10, "failed": 6, "cancelled": 1}
"""Of a hundred runs that are over, how many went so."""

_WAITING, _HELD, _FOREIGN = 300, 40, 20
"""Of a hundred thousand runs, how many wait for an answer, how many a process works on, and how many are at work and
have no lease: another program's executor saved them."""

_COLUMNS = tuple(column.name for column in TABLE.c)
_VALUES = operator.itemgetter(*_COLUMNS)
_SLOTS = re.compile(rf"({_NAME}|{_CHECKPOINT}|{_RUN}|\b\d{{10}}\.\d+)")
_PAGE = 10_000


@dataclass(frozen=True)
class _Run:
    """What becomes of one run.

    Attributes:
        states: How it goes.
        begun: When.
        seconds: How long it takes.
        workflow: Whose it is.
        lease: Until when a process holds it; None: none does.
    """

    states: "tuple[_State, ...]"
    begun: float
    seconds: float
    workflow: str
    lease: float | None = None


class _State:
    """One state of a run as the executor saved it.

    Args:
        state: That.
        shares: How far the run had come at each time that stands in its states, 0 to 1.
    """

    def __init__(self, state: CheckpointState, shares: dict[str, float]) -> None:
        self.columns = columns_of(state)
        self.share = shares[repr(state.created_at)]
        self._is_first = state.current_wave_index == 0 and not state.completed_blocks
        named = dataclasses.replace(state, checkpoint_id=_CHECKPOINT, run_id=_RUN)
        # Every other part is to be filled in.
        self._parts: list[str | float] = [shares.get(part, part) for part in _SLOTS.split(encode_state(named).decode())]

    def row(self, run: _Run, run_id: str, codec: RowCodec, *, is_head: bool) -> dict[str, Any]:
        """The row of a copy."""
        created_at = round(run.begun + self.share * run.seconds, 4)
        checkpoint_id = f"{run_id}-first" if self._is_first else f"{int(created_at * 1000):012x}{run_id[:20]}"
        names = {_NAME: run.workflow, _CHECKPOINT: checkpoint_id, _RUN: run_id}
        plain = "".join(
            names.get(part, part) if isinstance(part, str) else f"{run.begun + part * run.seconds:.4f}"
            for part in self._parts
        )
        columns = {
            **self.columns,
            "checkpoint_id": checkpoint_id,
            "workflow_name": run.workflow,
            "created_at": created_at,
            "is_paused": is_head and self.columns["is_paused"],
            "run_id": run_id,
            "superseded": not is_head,
            "pinned": False,
            "lease_owner": run_id if is_head and run.lease else None,
            "lease_expires_at": run.lease if is_head else None,
        }
        return codec.filled(columns, plain.encode())


def fill(url: str, rows: int) -> Counter[str]:
    """Fill an empty database of the newest revision, and have the database look at what it then has.

    Args:
        url: The database.
        rows: How many checkpoints there are to be, at least.

    Returns:
        How many runs there are of each fate, and `checkpoints`: how many of these.
    """
    fates = asyncio.run(_make_fates())
    told: Counter[str] = Counter()
    made = _rows(_runs(fates, math.ceil(rows / _CHECKPOINTS_A_RUN), told), told)
    if url.startswith("postgresql"):
        asyncio.run(_fill_postgresql(url, made))
    else:
        _fill_sqlite(url, made)
    return told


async def _make_fates() -> dict[str, tuple[_State, ...]]:
    """What the executor saves of a run of each kind."""
    store = InMemoryCheckpointStore()
    async with WorkflowExecutor(store) as executor:
        for fate, inputs in {
            "completed": {},
            "answered": {"asks": True},
            "cancelled": {"asks": True},
            "waiting": {"asks": True},
            "failed": {"code": 3},
        }.items():
            result = await executor.execute_workflow(_WORKFLOW, inputs, run_id=fate)
            if fate == "answered":
                assert result.checkpoint_id is not None
                await executor.resume_workflow(result.checkpoint_id, "yes")
            elif fate == "cancelled":
                await executor.cancel(fate)
    found = {}
    for fate in ("completed", "answered", "cancelled", "waiting", "failed"):
        listed = await store.list_checkpoints(run_id=fate)
        states = [await store.load_checkpoint(one.checkpoint_id) for one in reversed(listed)]
        found[fate] = _as_states([state for state in states if state is not None])
    return found


def _as_states(states: list[CheckpointState]) -> tuple[_State, ...]:
    times = sorted({text for state in states for text in re.findall(r"\b\d{10}\.\d+", encode_state(state).decode())})
    shares = {text: place / max(len(times) - 1, 1) for place, text in enumerate(times)}
    return tuple(_State(state, shares) for state in states)


def _runs(fates: dict[str, tuple[_State, ...]], runs: int, told: Counter[str]) -> Iterator[_Run]:
    """So many runs, in the order in which they began."""
    chance = random.Random(9)
    now = time.time()
    waiting, held, foreign = (max(1, round(runs * share / 100_000)) for share in (_WAITING, _HELD, _FOREIGN))
    workflows, weights = WORKFLOWS, [1 / place for place in range(2, len(WORKFLOWS) + 2)]
    unlike = dict.fromkeys(chance.sample(range(runs), waiting), "waiting")
    unlike |= dict.fromkeys(chance.sample(range(runs), foreign), "foreign")
    for number in range(runs):
        begun = now - _SECONDS * (1 - (number + chance.random()) / (runs + 1))
        seconds = min(chance.lognormvariate(4, 1), 3600.0, now - begun)
        fate = unlike.get(number) or (
            "held" if number >= runs - held else chance.choices(list(_FATES), list(_FATES.values()))[0]
        )
        told[fate] += 1
        states, lease = fates.get(fate, ()), None
        if fate in {"held", "foreign"}:
            whole = fates["completed"]
            states = whole[: chance.randrange(1, len(whole) - 1)]
            lease = now + 86400.0 if fate == "held" else None
        yield _Run(states, begun, seconds, chance.choices(workflows, weights)[0], lease)


def _rows(runs: Iterable[_Run], told: Counter[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of all runs in the order in which they were saved, many runs at a time."""
    codec, chance, numbers = RowCodec(), random.Random(10), count()
    coming: list[tuple[float, int, _Run, str, int]] = []

    def begin(run: _Run) -> None:
        run_id = f"{chance.getrandbits(128):032x}"
        for place, state in enumerate(run.states):
            heapq.heappush(coming, (run.begun + state.share * run.seconds, next(numbers), run, run_id, place))

    def saved_before(end: float) -> Iterator[tuple[Any, ...]]:
        while coming and coming[0][0] < end:
            _, _, run, run_id, place = heapq.heappop(coming)
            told["checkpoints"] += 1
            yield _VALUES(run.states[place].row(run, run_id, codec, is_head=place == len(run.states) - 1))

    for run in runs:
        yield from saved_before(run.begun)
        begin(run)
    yield from saved_before(float("inf"))


def _fill_sqlite(path: str, rows: Iterator[tuple[Any, ...]]) -> None:
    insert = f"INSERT INTO checkpoints ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
    with closing(sqlite3.connect(path)) as file:
        # It is of no use to anybody when this comes to nothing.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -400000"):
            file.execute(f"PRAGMA {pragma}")
        with file:
            file.executemany(insert, rows)
        file.execute("PRAGMA analysis_limit = 1000")
        file.execute("ANALYZE")


async def _fill_postgresql(url: str, rows: Iterator[tuple[Any, ...]]) -> None:
    connection = await asyncpg.connect(url)
    try:
        while page := list(islice(rows, _PAGE)):
            await connection.copy_records_to_table("checkpoints", records=page, columns=list(_COLUMNS))
        await connection.execute("VACUUM (ANALYZE)", timeout=None)
    finally:
        await connection.close()
