"""What is timed of a long run's history: saving it and loading from it; and the checks of what is loaded."""

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import TypeAlias, TypeVar

import orjson

from benchmarks.contenders import ContenderSpec, load_contender
from benchmarks.contenders.base import Contender, content_of
from benchmarks.history_results import Bound, Compared
from benchmarks.long_run import LongRun
from benchmarks.progress import Progress
from benchmarks.states import Key
from workflows_mcp import CheckpointState

__all__ = [
    "NotEqualError",
    "Pair",
    "check_contents",
    "check_states",
    "compare_random",
    "compare_saves",
    "join_turns",
    "key_of",
    "load_cold",
    "load_warm",
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

Turns: TypeAlias = list[tuple[float, float]]
"""How long each call took, in milliseconds: with deltas, and without."""


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


async def compare_saves(pair: Pair, urls: Sequence[str], run: LongRun, calls: int, bound: Bound | None) -> Compared:
    """Save the ends of runs, turn by turn; each run's first state is not counted: there is nothing before it.

    Args:
        pair: Of stores.
        urls: Their databases.
        run: Its states are saved, for as many runs as it takes.
        calls: How many saves of each store are measured.
        bound: The goal.
    """
    end = min(calls, max(2, run.waves // _END_OF_A_RUN))
    durations: Turns = []
    async with opened(pair[0], urls[0]) as deltas, opened(pair[1], urls[1]) as alone:
        while len(durations) < calls:
            states = run.states(run.waves - end, run=len(durations) + 1)
            first = next(states)
            for store in (deltas, alone):
                await store.save(first)
            durations += [await _in_turns(deltas.save, alone.save, state, turn) for turn, state in enumerate(states)]
    return _compared(f"a save of {run.plain_bytes / 1000:,.0f} KB", durations, bound)


async def load_warm(deltas: Contender, alone: Contender, head: CheckpointState, calls: int) -> Turns:
    """Load the newest state of a run by the stores that have saved it."""
    return [await _in_turns(deltas.load, alone.load, key_of(head), turn) for turn in range(calls)]


async def compare_random(pair: Pair, urls: Sequence[str], run: LongRun, calls: int) -> Compared:
    """Load states from anywhere in the run by stores that have saved none of them."""
    keys = [key_of(run.state(wave)) for wave in Random(1).choices(range(1, run.waves + 1), k=calls)]
    async with opened(pair[0], urls[0]) as deltas, opened(pair[1], urls[1]) as alone:
        durations = [await _in_turns(deltas.load, alone.load, key, turn) for turn, key in enumerate(keys)]
    return _compared("a load of any checkpoint", durations, Bound(3))


async def load_cold(
    pair: Pair, urls: Sequence[str], head: CheckpointState, second: CheckpointState, openings: int
) -> Turns:
    """Load the newest state of a run by stores that were opened for it, and have loaded but its second one before."""
    durations = []
    for turn in range(openings):
        async with opened(pair[0], urls[0]) as deltas, opened(pair[1], urls[1]) as alone:
            for store in (deltas, alone):
                await store.load(key_of(second))
            durations.append(await _in_turns(deltas.load, alone.load, key_of(head), turn))
    return durations


def join_turns(what: str, of_states: Sequence[Turns], bound: Bound) -> Compared:
    """What loading each of some states took, as one: all of its turns count the same."""
    every = _compared(what, [turn for turns in of_states for turn in turns], bound)
    return replace(every, worst=max(_ratio(turns) for turns in of_states))


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


def _compared(what: str, durations: Turns, bound: Bound | None) -> Compared:
    deltas, alone = (statistics.median(side) for side in zip(*durations, strict=True))
    return Compared(what, deltas, alone, _ratio(durations), bound)


def _ratio(durations: Turns) -> float:
    return statistics.median(deltas / alone for deltas, alone in durations)
