"""The inspector's pages with a million checkpoints behind them: a real server, asked over a connection that is kept."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.databases import Databases
from benchmarks.figures import rotated
from benchmarks.mcp_servers import environment_of
from benchmarks.pages_asked import Asked, asked_of
from benchmarks.pages_client import Answer, visiting
from benchmarks.pages_fill import fill
from benchmarks.pages_results import PageFigures, PagesOf, Took
from benchmarks.progress import Progress
from benchmarks.served import serving
from workflows_mcp import SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.settings import Settings

__all__ = ["PagesPlan", "measure"]


@dataclass(frozen=True)
class PagesPlan:
    """How much is done.

    Attributes:
        rows: Checkpoints in each database.
        turns: How often each page is asked for.
        starts: How often each page that counts everything is asked for, of a server that has just started: each keeps
            for a while what it has counted.
        only: The keys of the pages that are asked for; empty: all are.
    """

    rows: int = 1_000_000
    turns: int = 60
    starts: int = 5
    only: tuple[str, ...] = ()

    @classmethod
    def quick(cls) -> "PagesPlan":
        """Some seconds of it."""
        return cls(20_000, 5, 1)


def measure(databases: Databases, database: str, plan: PagesPlan, progress: Progress) -> PagesOf:
    """Fill a database, and ask for its pages.

    Args:
        databases: Makes it.
        database: Its kind.
        plan: How much is done.
        progress: Is told.

    Raises:
        NotAPageError: A page is not what it should be.
        ServerNotStartedError: There was no server to ask.
    """
    url = databases.create("pages")
    asyncio.run(upgrade_schema(url))
    progress.begin(f"{database}: {plan.rows:,} checkpoints are made")
    filled = fill(url, plan.rows)
    first, *_ = everything = asyncio.run(asked_of(url, filled))
    pages = [page for page in everything if not plan.only or page.key in plan.only]
    progress.begin(f"{database}: the store alone")
    alone = asyncio.run(_alone(url, pages, plan))
    with tempfile.TemporaryDirectory(prefix="bench-pages-") as folder:
        serve = partial(serving, _command_at, environment_of(Path(folder), url))
        progress.begin(f"{database}: servers that have just started")
        begun, slow = _just_started(serve, first, [page for page in pages if page.is_counted], plan.starts)
        progress.begin(f"{database}: pages")
        with serve() as port:
            answers = slow | _in_turns(port, [page for page in pages if not page.is_counted], plan.turns)
    size = databases.size(url)
    databases.drop(url)
    return PagesOf(
        database,
        databases.settings,
        filled.checkpoints,
        filled.runs,
        size,
        filled.seconds,
        len(begun),
        Took.of([one.server_ms for one in begun]),
        Took.of([one.client_ms for one in begun]),
        [_figures(page, answers[page.key], alone[page.key]) for page in pages],
    )


def _command_at(port: int) -> Sequence[str]:
    return [sys.executable, "-m", "workflows_mcp", "ui", "--port", str(port)]


async def _alone(url: str, pages: Sequence[Asked], plan: PagesPlan) -> dict[str, Took]:
    """What the store takes for each page's questions, turn by turn; one turn before them warms up."""
    took: dict[str, list[float]] = {page.key: [] for page in pages}
    # What is slow stands in the tables, and not in between.
    async with SQLAlchemyCheckpointStore(url, settings=Settings(slow_operation_seconds=None)) as store:
        for turn in range(-1, plan.turns):
            for page in rotated(pages, turn):
                if turn >= 0 and page.is_counted and turn >= plan.starts:
                    continue
                began = time.perf_counter()
                await page.alone(store)
                if turn >= 0:
                    took[page.key].append((time.perf_counter() - began) * 1000)
    return {key: Took.of(durations) for key, durations in took.items()}


def _just_started(
    serve: Callable[[], AbstractContextManager[int]], first: Asked, slow: Sequence[Asked], starts: int
) -> tuple[list[Answer], dict[str, list[Answer]]]:
    """Ask servers that were asked nothing before for the first page, and each for one that counts everything then."""
    begun: list[Answer] = []
    answers: dict[str, list[Answer]] = {page.key: [] for page in slow}
    alike: Sequence[Asked | None] = slow or (None,)
    for _ in range(starts):
        for page in alike:
            with serve() as port, visiting(port) as visitor:
                begun.append(visitor.ask(first.path, first.holds))
                if page is not None:
                    answers[page.key].append(visitor.await_part(page.path, page.holds))
    return begun, answers


def _in_turns(port: int, pages: Sequence[Asked], turns: int) -> dict[str, list[Answer]]:
    """Ask for each page once a turn; one turn before them warms up."""
    answers: dict[str, list[Answer]] = {page.key: [] for page in pages}
    with visiting(port) as visitor:
        for turn in range(-1, turns):
            for page in rotated(pages, turn):
                answer = visitor.ask(page.path, page.holds)
                if turn >= 0:
                    answers[page.key].append(answer)
    return answers


def _figures(page: Asked, answers: Sequence[Answer], alone: Took) -> PageFigures:
    return PageFigures(
        page.key,
        page.title,
        answers[-1].size,
        len(answers),
        Took.of([one.server_ms for one in answers]),
        Took.of([one.client_ms for one in answers]),
        alone,
    )
