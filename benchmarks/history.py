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
from benchmarks.history_results import Compared, HistoryOf, Retained, Way
from benchmarks.history_work import (
    NotEqualError,
    Pair,
    check_contents,
    check_states,
    compare_cold,
    compare_newest,
    compare_random,
    compare_saves,
    key_of,
    opened,
    save_states,
)
from benchmarks.long_run import LongRun
from benchmarks.progress import Progress
from benchmarks.prose import prose
from workflows_mcp.engine.definition import MAX_BLOCKS

__all__ = ["CONTENDERS", "HistoryPlan", "NotEqualError", "Runs", "make_runs", "measure"]

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

_GOALS_OF_SAVES = {20_000: 1.2, 100_000: None, 500_000: 1.0, 2_000_000: 1.0}
"""Bytes of plain JSON of the states whose saves are compared, and how many times as long as alone they may take."""

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
        openings: How often stores are opened anew for a load.
        kept: How many checkpoints retention leaves.
    """

    waves: int = 1000
    megabytes: float = 2.6
    sizes: tuple[int, ...] = tuple(_GOALS_OF_SAVES)
    calls: int = 60
    openings: int = 15
    kept: int = 10

    @classmethod
    def chosen(cls, *, quick: bool, waves: int | None, megabytes: float | None) -> "HistoryPlan":
        """The full one, or a quick one, with as many waves as wanted; each of them adds as much, by default.

        Raises:
            ValueError: There is no such run.
        """
        usual = cls(60, 0.156, (20_000, 100_000), 16, 3) if quick else cls()
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
    progress.begin(f"{database}: loading by stores that were opened anew")
    anew, compared = asyncio.run(_load_ours(pair, urls, plan, run, progress))
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
    return HistoryOf(database, databases.settings, ways, (live, anew), [*saves, *compared, newest], retained)


async def _save_ours(
    pair: Pair, urls: Sequence[str], plan: HistoryPlan, run: LongRun, progress: Progress
) -> tuple[list[Way], int, Compared]:
    async with opened(pair[0], urls[0]) as deltas, opened(pair[1], urls[1]) as alone:
        states = run.states(), run.states()
        durations = []
        for spec, contender, mine in zip(pair, (deltas, alone), states, strict=True):
            progress.begin(_saving(spec, run))
            durations.append(await save_states(contender, islice(mine, run.waves - 1), progress))
        newest = await compare_newest(deltas, alone, run.state(run.waves - 1), plan.calls)
        # Before the last save: a store has no use any more for what it knows of a run that is over.
        progress.begin(f"{pair[0].database}: loading all {run.waves:,} by the process that saved them")
        equal = await check_states(deltas, islice(run.states(), run.waves - 1), progress)
        for contender, mine, so_far in zip((deltas, alone), states, durations, strict=True):
            so_far.extend(await save_states(contender, mine, progress))
        equal += await check_states(deltas, [run.state(run.waves)], progress)
    return [_way(spec, taken) for spec, taken in zip(pair, durations, strict=True)], equal, newest


async def _load_ours(
    pair: Pair, urls: Sequence[str], plan: HistoryPlan, run: LongRun, progress: Progress
) -> tuple[int, list[Compared]]:
    compared = [
        await compare_random(pair, urls, run, plan.calls),
        await compare_cold(pair, urls, run, plan.openings),
    ]
    async with opened(pair[0], urls[0]) as anew:
        return await check_states(anew, run.states(), progress), compared


def _keep(databases: Databases, spec: ContenderSpec, run: LongRun, progress: Progress) -> Way:
    """Have another one keep the run; its database is gone afterwards."""
    url = databases.create(f"history-{spec.name}")

    async def keep() -> Way:
        async with opened(spec, url) as contender:
            progress.begin(_saving(spec, run))
            way = _way(spec, await save_states(contender, run.states(), progress))
            await check_contents(contender, [run.state(wave) for wave in {1, (run.waves + 1) // 2, run.waves}])
            return way

    way = replace(asyncio.run(keep()), stored_bytes=databases.stored_bytes(url))
    databases.drop(url)
    return way


def _saving(spec: ContenderSpec, run: LongRun) -> str:
    return f"{spec.database}: {spec.name} saves {run.waves:,} waves"


def _way(spec: ContenderSpec, durations: Sequence[float]) -> Way:
    """With no bytes yet: a database's are counted when it is closed."""
    return Way(spec.name, spec.title, 0, statistics.median(durations), sum(durations) / 1000)


def _saves_of(databases: Databases, pair: Pair, run: LongRun, calls: int, at_most: float | None) -> Compared:
    urls = [databases.create(f"history-saves-{spec.name}") for spec in pair]
    compared = asyncio.run(compare_saves(pair, urls, run, calls, at_most))
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
