"""What is timed of a long run's history: saving it and loading from it; and the checks of what is loaded."""

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import TypeVar

import orjson

from benchmarks.contenders import ContenderSpec, load_contender
from benchmarks.contenders.base import Contender, content_of
from benchmarks.history_results import Compared
from benchmarks.long_run import LongRun
from benchmarks.progress import Progress
from benchmarks.states import Key
from workflows_mcp import CheckpointState

__all__ = [
    "NotEqualError",
    "Pair",
    "check_contents",
    "check_states",
    "compare_cold",
    "compare_newest",
    "compare_random",
    "compare_saves",
    "key_of",
    "opened",
    "save_states",
]

_END_OF_A_RUN = 12
"""In the last twelfth of a run, states are about as large as the last one."""


class NotEqualError(Exception):
    """What is loaded is not what was saved."""


_T = TypeVar("_T")

Pair = tuple[ContenderSpec, ContenderSpec]
"""Ours with deltas, and ours without."""


@asynccontextmanager
async def opened(spec: ContenderSpec, url: str) -> AsyncIterator[Contender]:
    """An open contender."""
    contender = load_contender(spec)
    assert isinstance(contender, Contender)
    await contender.open(url)
    try:
        yield contender
    finally:
        await contender.close()


async def save_states(contender: Contender, states: Iterable[CheckpointState], progress: Progress) -> list[float]:
    """Save states one after the other; returns how long each save took, in milliseconds."""
    durations = []
    for state in states:
        durations.append(await _timed(contender.save, state))
        progress.advance()
    return durations


async def check_contents(contender: Contender, states: Iterable[CheckpointState]) -> None:
    """See to it that a contender gives back what it was given to save.

    Raises:
        NotEqualError: It does not.
    """
    for state in states:
        if contender.content(await contender.load(key_of(state))) != content_of(state):
            raise NotEqualError(f"checkpoint {state.checkpoint_id} is not loaded as it was saved")


async def check_states(contender: Contender, states: Iterable[CheckpointState], progress: Progress) -> int:
    """The same for our stores, with all fields and to the byte of the plain JSON; returns how many there were."""
    count = 0
    for state in states:
        loaded = await contender.load(key_of(state))
        if orjson.dumps(vars(loaded)) != orjson.dumps(vars(state)):
            raise NotEqualError(f"checkpoint {state.checkpoint_id} is not loaded as it was saved")
        count += 1
        progress.advance()
    return count


async def compare_saves(pair: Pair, urls: Sequence[str], run: LongRun, calls: int, at_most: float | None) -> Compared:
    """Save the ends of runs, turn by turn; each run's first state is not counted: there is nothing before it.

    Args:
        pair: Of stores.
        urls: Their databases.
        run: Its states are saved, for as many runs as it takes.
        calls: How many saves of each store are measured.
        at_most: The goal.
    """
    end = min(calls, max(2, run.waves // _END_OF_A_RUN))
    durations: list[tuple[float, float]] = []
    async with opened(pair[0], urls[0]) as deltas, opened(pair[1], urls[1]) as alone:
        while len(durations) < calls:
            states = run.states(run.waves - end, run=len(durations) + 1)
            first = next(states)
            for store in (deltas, alone):
                await store.save(first)
            durations += [await _in_turns(deltas.save, alone.save, state, turn) for turn, state in enumerate(states)]
    return _compared(f"a save of {run.plain_bytes / 1000:,.0f} KB", durations, at_most)


async def compare_newest(deltas: Contender, alone: Contender, newest: CheckpointState, calls: int) -> Compared:
    """Load the newest state of a run that goes on, by the stores that have saved it."""
    key = key_of(newest)
    durations = [await _in_turns(deltas.load, alone.load, key, turn) for turn in range(calls)]
    return _compared("a load of the newest, in the saving process", durations, 1.5)


async def compare_random(pair: Pair, urls: Sequence[str], run: LongRun, calls: int) -> Compared:
    """Load states from anywhere in the run by stores that have saved none of them."""
    keys = [key_of(run.state(wave)) for wave in Random(1).choices(range(1, run.waves + 1), k=calls)]
    async with opened(pair[0], urls[0]) as deltas, opened(pair[1], urls[1]) as alone:
        durations = [await _in_turns(deltas.load, alone.load, key, turn) for turn, key in enumerate(keys)]
    return _compared("a load of any checkpoint", durations, 3)


async def compare_cold(pair: Pair, urls: Sequence[str], run: LongRun, turns: int) -> Compared:
    """Load the last state by stores that were opened for it, and have loaded but the second one before."""
    second, last = key_of(run.state(2)), key_of(run.state(run.waves))
    durations = []
    for turn in range(turns):
        async with opened(pair[0], urls[0]) as deltas, opened(pair[1], urls[1]) as alone:
            for store in (deltas, alone):
                await store.load(second)
            durations.append(await _in_turns(deltas.load, alone.load, last, turn))
    return _compared("a load of the newest, by a store just opened", durations, 2.5)


def key_of(state: CheckpointState) -> Key:
    """What a state is loaded by."""
    return Key(state.checkpoint_id, state.run_id or "")


async def _in_turns(
    deltas: Callable[[_T], Awaitable[object]], alone: Callable[[_T], Awaitable[object]], item: _T, turn: int
) -> tuple[float, float]:
    """How long the two calls take; who is first in a turn is second in the next one."""
    if turn % 2:
        second = await _timed(alone, item)
        return await _timed(deltas, item), second
    return await _timed(deltas, item), await _timed(alone, item)


async def _timed(call: Callable[[_T], Awaitable[object]], item: _T) -> float:
    began = time.perf_counter()
    await call(item)
    return (time.perf_counter() - began) * 1000


def _compared(what: str, durations: Sequence[tuple[float, float]], at_most: float | None) -> Compared:
    deltas, alone = (statistics.median(side) for side in zip(*durations, strict=True))
    return Compared(what, deltas, alone, at_most)
