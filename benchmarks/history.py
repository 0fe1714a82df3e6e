"""The whole history of a long run: what it takes up, what saving and loading it costs, beside other ways to keep it."""

import asyncio
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from benchmarks.contenders import OURS, ContenderSpec
from benchmarks.contenders.ours_history import Following
from benchmarks.databases import Databases
from benchmarks.history_results import Bound, Compared, HistoryOf, Retained, Way
from benchmarks.history_work import (
    NotEqualError,
    Pair,
    check_contents,
    check_states,
    compare_random,
    compare_saves,
    join_turns,
    key_of,
    load_cold,
    load_warm,
    opened,
    save_states,
)
from benchmarks.long_run import LongRun
from benchmarks.progress import Progress
from benchmarks.prose import prose
from workflows_mcp.engine.definition import MAX_BLOCKS

__all__ = ["CONTENDERS", "HistoryPlan", "NotEqualError", "Runs", "heads_of", "make_runs", "measure"]

_LANGGRAPH = ("langgraph.checkpoint.sqlite", "langgraph.checkpoint.postgres", "psycopg", "psycopg_pool")
_ALONE = "self-contained"
_ALONE_TITLE = "workflows-mcp, each state compressed on its own (`WORKFLOWS_DELTA_CACHE_MB=0`)"

CONTENDERS = (
    ContenderSpec("sqlite", OURS, "workflows-mcp", "ours_history:DeltasSQLite"),
    ContenderSpec("sqlite", _ALONE, _ALONE_TITLE, "ours_history:SelfContainedSQLite"),
    ContenderSpec("sqlite", "guide", "the guide's store: JSON in a TEXT column", "guide:Guide"),
    ContenderSpec(
        "sqlite",
        "langgraph",
        "LangGraph AsyncSqliteSaver, a channel for each block",
        "langgraph_channels:ChannelsSQLite",
        _LANGGRAPH,
    ),
    ContenderSpec("postgresql", OURS, "workflows-mcp", "ours_history:DeltasPostgreSQL"),
    ContenderSpec("postgresql", _ALONE, _ALONE_TITLE, "ours_history:SelfContainedPostgreSQL"),
    ContenderSpec("postgresql", "guide", "the guide's table: JSON in a TEXT column", "plain_postgresql:AsyncpgPool"),
    ContenderSpec(
        "postgresql",
        "langgraph",
        "LangGraph AsyncPostgresSaver, a channel for each block",
        "langgraph_channels:ChannelsPostgreSQL",
        _LANGGRAPH,
    ),
)
"""Of each database ours come first, with deltas and without; the others stand beside them."""

_LESS = Bound(1, is_excluded=True)

_GOALS_OF_SAVES = {20_000: Bound(1.2), 100_000: None, 500_000: _LESS, 2_000_000: _LESS}
"""Bytes of plain JSON of the states whose saves are compared, and how many times as long as alone they may take."""

_LAST_WAVES = 64
"""The newest state of a run that goes on is one of so many: how long its chain is depends on which."""

_BYTES_A_WAVE = 2600

_LARGE = 500_000


@dataclass(frozen=True)
class HistoryPlan:
    """How much is done.

    Attributes:
        waves: Of the run.
        megabytes: Plain JSON of its last state, in 10**6 bytes.
        sizes: Of the states whose saves are compared.
        calls: How many calls of each kind are compared; four times as many saves of small states.
        heads: How many states are loaded while they are the newest of the run.
        openings: How often stores are opened anew to load each of these.
        kept: How many checkpoints retention leaves.
    """

    waves: int = 1000
    megabytes: float = 2.6
    sizes: tuple[int, ...] = tuple(_GOALS_OF_SAVES)
    calls: int = 120
    heads: int = 16
    openings: int = 2
    kept: int = 10

    @classmethod
    def chosen(cls, *, quick: bool, waves: int | None, megabytes: float | None) -> "HistoryPlan":
        """The full one, or a quick one, with as many waves as wanted; each of them adds as much, by default.

        Raises:
            ValueError: There is no such run.
        """
        usual = cls(60, 0.156, (20_000, 100_000), 16, 3, 1) if quick else cls()
        waves = usual.waves if waves is None else waves
        megabytes = usual.megabytes * waves / usual.waves if megabytes is None else megabytes
        if not 2 <= waves <= MAX_BLOCKS:
            raise ValueError(f"--waves: a run has 2 to {MAX_BLOCKS:,} of them here, and not {waves:,}")
        if not math.isfinite(megabytes):
            raise ValueError(f"--megabytes: {megabytes} is no size")
        return replace(usual, waves=waves, megabytes=megabytes, kept=min(usual.kept, waves - 1))


@dataclass(frozen=True)
class Runs:
    """The runs whose states are saved.

    Attributes:
        whole: The one that is saved from its first wave to its last.
        ends: By the size of their last states: those of which the ends are saved.
    """

    whole: LongRun
    ends: dict[int, LongRun]


def make_runs(plan: HistoryPlan) -> Runs:
    """The runs, out of one text.

    Raises:
        ValueError: There are no such runs.
    """
    size = round(plan.megabytes * 1e6)
    text = prose(max((size, *plan.sizes)))
    ends = {one: LongRun(round(one / _BYTES_A_WAVE), one, text) for one in plan.sizes}
    return Runs(LongRun(plan.waves, size, text), ends)


def measure(
    databases: Databases, specs: Sequence[ContenderSpec], plan: HistoryPlan, runs: Runs, progress: Progress
) -> HistoryOf:
    """Do all of it on one database.

    Args:
        databases: Makes them.
        specs: Of the contenders: ours with deltas, ours without, and whoever stands beside them.
        plan: How much is done.
        runs: What is saved.
        progress: Is told of each state.

    Raises:
        NotEqualError: What was loaded is not what was saved, or retention did not delete what it should.
    """
    run, pair = runs.whole, (specs[0], specs[1])
    database = pair[0].database
    progress.expect(len(specs) * run.waves + 2 * run.waves)
    urls = [databases.create(f"history-{spec.name}") for spec in pair]
    ways, live, newest = asyncio.run(_save_ours(pair, urls, plan, run, progress))
    ways = [replace(way, stored_bytes=databases.stored_bytes(url)) for way, url in zip(ways, urls, strict=True)]
    ways[0] = replace(ways[0], rewritten_bytes=_rewritten_bytes(databases, urls[0]))
    progress.begin(f"{database}: loading by stores that were opened anew")
    anew, random = asyncio.run(_load_ours(pair, urls, plan, run, progress))
    for spec in specs[2:]:
        ways.append(_keep(databases, spec, run, progress))
    saves = []
    for size, one in runs.ends.items():
        progress.begin(f"{database}: saving {size // 1000:,} KB")
        calls = plan.calls * (4 if size < _LARGE else 1)
        saves.append(_saves_of(databases, pair, one, calls, _GOALS_OF_SAVES.get(size)))
    progress.begin(f"{database}: deleting all but {plan.kept}")
    retained = [_retain(databases, spec, url, plan, run) for spec, url in zip(pair, urls, strict=True)]
    for url in urls:
        databases.drop(url)
    return HistoryOf(database, databases.settings, ways, (live, anew), [*saves, random, *newest], retained)


async def _save_ours(
    pair: Pair, urls: Sequence[str], plan: HistoryPlan, run: LongRun, progress: Progress
) -> tuple[list[Way], int, list[Compared]]:
    """Save the run, and load its newest states while it goes on: when it is over, a store forgets what it knows."""
    warm, cold = [], []
    async with opened(pair[0], urls[0]) as deltas, opened(pair[1], urls[1]) as alone:
        stores, states = (deltas, alone), (run.states(), run.states())
        durations: tuple[list[float], list[float]] = [], []

        async def save(waves: int) -> None:
            for store, mine, so_far in zip(stores, states, durations, strict=True):
                so_far.extend(await save_states(store, islice(mine, waves), progress))

        progress.begin(f"{pair[0].database}: {pair[0].name} and {pair[1].name} save {run.waves:,} waves")
        for head in heads_of(plan, run.waves):
            await save(head - len(durations[0]))
            state = run.state(head)
            warm.append(await load_warm(deltas, alone, state, max(1, plan.calls // plan.heads)))
            cold.append(await load_cold(pair, urls, state, run.state(min(2, head)), plan.openings))
        progress.begin(f"{pair[0].database}: loading all {run.waves:,} by the process that saved them")
        equal = await check_states(deltas, islice(run.states(), run.waves - 1), progress)
        await save(1)
        equal += await check_states(deltas, [run.state(run.waves)], progress)
    newest = [
        join_turns("a load of the newest, by a store just opened", cold, Bound(2.5)),
        join_turns("a load of the newest, in the saving process", warm, Bound(1.5)),
    ]
    return [_way(spec, taken) for spec, taken in zip(pair, durations, strict=True)], equal, newest


def heads_of(plan: HistoryPlan, waves: int) -> list[int]:
    """After which waves the newest state is loaded: evenly spread over the last ones, but for the very last."""
    last = waves - 1
    span = min(_LAST_WAVES, last) - 1
    steps = max(plan.heads - 1, 1)
    return sorted({last - round(step * span / steps) for step in range(plan.heads)})


async def _load_ours(
    pair: Pair, urls: Sequence[str], plan: HistoryPlan, run: LongRun, progress: Progress
) -> tuple[int, Compared]:
    random = await compare_random(pair, urls, run, plan.calls)
    async with opened(pair[0], urls[0]) as anew:
        return await check_states(anew, run.states(), progress), random


def _rewritten_bytes(databases: Databases, url: str) -> int:
    """What a copy takes up when it is packed: what is measured afterwards has the database as saving left it."""
    copy = databases.copy(url, "history-rewritten")
    databases.rewrite(copy)
    size = databases.stored_bytes(copy)
    databases.drop(copy)
    return size


def _keep(databases: Databases, spec: ContenderSpec, run: LongRun, progress: Progress) -> Way:
    """Have another one keep the run; its database is gone afterwards."""
    url = databases.create(f"history-{spec.name}")

    async def keep() -> Way:
        async with opened(spec, url) as contender:
            progress.begin(f"{spec.database}: {spec.name} saves {run.waves:,} waves")
            way = _way(spec, await save_states(contender, run.states(), progress))
            await check_contents(contender, [run.state(wave) for wave in {1, (run.waves + 1) // 2, run.waves}])
            return way

    way = replace(asyncio.run(keep()), stored_bytes=databases.stored_bytes(url))
    databases.drop(url)
    return way


def _way(spec: ContenderSpec, durations: Sequence[float]) -> Way:
    """With no bytes yet: a database's are counted when it is closed."""
    return Way(spec.name, spec.title, 0, statistics.median(durations), sum(durations) / 1000)


def _saves_of(databases: Databases, pair: Pair, run: LongRun, calls: int, bound: Bound | None) -> Compared:
    urls = [databases.create(f"history-saves-{spec.name}") for spec in pair]
    compared = asyncio.run(compare_saves(pair, urls, run, calls, bound))
    for url in urls:
        databases.drop(url)
    return compared


def _retain(databases: Databases, spec: ContenderSpec, url: str, plan: HistoryPlan, run: LongRun) -> Retained:
    """Have all but the newest deleted, and see to it that these are there, and no others."""
    kept = [key_of(run.state(wave)).checkpoint_id for wave in range(run.waves - plan.kept + 1, run.waves + 1)]

    async def trim() -> tuple[int, float]:
        async with opened(spec, url) as contender:
            began = time.perf_counter()
            deleted = await contender.trim(plan.kept)
            seconds = time.perf_counter() - began
            if [*await contender.newest(run.waves)] != kept[::-1]:
                raise NotEqualError(f"{spec.name}: retention has left other checkpoints than the newest {plan.kept}")
            return deleted, seconds

    async def vacuum() -> None:
        async with opened(spec, url) as contender:
            assert isinstance(contender, Following)
            await contender.store.vacuum()
            await check_contents(contender, run.states(run.waves - plan.kept + 1))

    before = databases.stored_bytes(url)
    deleted, seconds = asyncio.run(trim())
    after = databases.stored_bytes(url)
    asyncio.run(vacuum())
    return Retained(spec.name, deleted, len(kept), seconds, before, after, databases.stored_bytes(url))
