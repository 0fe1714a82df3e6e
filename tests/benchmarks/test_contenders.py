"""Each contender does the work that it is timed for; what does not is found out."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks import measure
from benchmarks.contenders import (
    CONTENDERS,
    ContenderSpec,
    MissingPackageError,
    check_installed,
    contenders_of,
    load_contender,
)
from benchmarks.contenders.base import Contender, Participant, WorkflowContender, content_of
from benchmarks.contenders.guide import Guide
from benchmarks.databases import PostgreSQLDatabases, UnsafeServerError
from benchmarks.process import Bench
from benchmarks.states import Key, Shape, StateSource
from benchmarks.workloads import WAVES, Action, workload_named

SHAPE = Shape(2**10, 2**10)
PLAIN = [spec for spec in CONTENDERS if not spec.needs]
RUNNERS = [spec for spec in CONTENDERS if Action.RUN in spec.actions and not spec.needs]

Open = Callable[[Participant, str], Awaitable[None]]


@pytest.fixture
async def open_at() -> AsyncIterator[Open]:
    """Opens contenders, and closes them whatever happens: an open aiosqlite connection keeps Python from ending."""
    async with AsyncExitStack() as stack:

        async def open_one(contender: Participant, url: str) -> None:
            await contender.open(url)
            stack.push_async_callback(contender.close)

        yield open_one


def key_of(state: Any) -> Key:
    """What a state is loaded by."""
    return Key(state.checkpoint_id, state.run_id)


@pytest.mark.parametrize("spec", PLAIN, ids=lambda spec: f"{spec.database}-{spec.name}")
async def test_a_contender_stores_lists_and_deletes(
    spec: ContenderSpec, tmp_path: Path, postgres_url: str, open_at: Open
) -> None:
    """Those of LangGraph are checked in the same way whenever the benchmark runs."""
    contender = load_contender(spec)
    assert isinstance(contender, Contender)
    await open_at(contender, str(tmp_path / "one.db") if spec.database == "sqlite" else postgres_url)
    source = StateSource(Shape(2**10, 2**10, workflows=4, paused_every=50, active_runs=4))
    states = source.take(160, start=1_000_000.0, step=0.01)
    await asyncio.gather(*map(contender.save, states))
    for state in (states[0], states[49], states[150]):
        assert contender.content(await contender.load(key_of(state))) == content_of(state)
    assert await contender.list_all() == 160
    assert list(await contender.newest(3)) == [states[number].checkpoint_id for number in (159, 158, 157)]
    assert await contender.cleanup(86400) == 157, "three of them wait"
    await asyncio.gather(*map(contender.save, source.take(160, step=0.01)))
    # 157 of the new ones do not wait; the guide lets those that wait use up places.
    assert 157 - 4 * 10 <= await contender.trim(10) <= 157 - 4 * 10 + 6
    assert contender.settings or spec.name == "ours", "it says what decides about durability"


@pytest.mark.parametrize("spec", RUNNERS, ids=lambda spec: f"{spec.database}-{spec.name}")
async def test_a_contender_runs_workflows(
    spec: ContenderSpec, tmp_path: Path, postgres_url: str, open_at: Open
) -> None:
    """Every step is in the database, of runs that went on at the same time; DBOS's are counted by every benchmark."""
    contender = load_contender(spec)
    assert isinstance(contender, WorkflowContender)
    await open_at(contender, str(tmp_path / "one.db") if spec.database == "sqlite" else postgres_url)
    runs = await asyncio.gather(contender.run(), contender.run())
    assert len(set(runs)) == 2
    assert [await contender.count_steps(run) for run in runs] == [WAVES, WAVES]
    assert contender.settings or spec.database == "postgresql", "it says what decides about durability"


async def test_the_guides_store_writes_the_guides_rows(tmp_path: Path, open_at: Open) -> None:
    """JSON text beside four columns, committed."""
    path = str(tmp_path / "guide.db")
    contender = Guide()
    await open_at(contender, path)
    [state] = StateSource(Shape(2**10, 2**10, paused_every=1)).take(1)
    await contender.save(state)
    with closing(sqlite3.connect(path)) as other:
        [row] = other.execute("SELECT * FROM checkpoints").fetchall()
    assert row[:4] == (state.checkpoint_id, state.workflow_name, state.created_at, 1)
    assert json.loads(row[4]) == content_of(state)
    assert contender.settings == {"journal_mode": "delete", "synchronous": "FULL"}


class Forgetful(Guide):
    """Gives back something else than was saved."""

    def content(self, loaded: Any) -> dict[str, Any]:
        """Without what took long to read."""
        return super().content(loaded) | {"context": {}}


class Unsorted(Guide):
    """Lists the oldest first."""

    async def newest(self, count: int) -> list[str]:
        """In the wrong order."""
        return list(await super().newest(count))[::-1]


@pytest.mark.parametrize(
    ("contender", "workload", "complaint"),
    [(Forgetful(), "load_1kb", "did not give back"), (Unsorted(), "newest_50", "newest first")],
)
async def test_nobody_wins_by_not_doing_the_work(
    contender: Guide, workload: str, complaint: str, tmp_path: Path, open_at: Open
) -> None:
    """What is loaded and listed is compared, outside the clock."""
    await open_at(contender, str(tmp_path / "one.db"))
    bench = Bench(contenders_of("sqlite")[0], contender)
    await measure.use_shape(bench, SHAPE)
    with pytest.raises(ValueError, match=complaint):
        await measure.check_contents(bench, workload_named(workload))


class Careless(WorkflowContender):
    """Runs workflows without storing anything."""

    async def open(self, url: str) -> None:
        """Needs nothing."""

    async def run(self) -> str:
        """Done before it began."""
        return "run"

    async def count_steps(self, run_id: str) -> int:  # noqa: ARG002 - it does not look
        """None at all."""
        return 0

    async def close(self) -> None:
        """Has nothing."""


async def test_nobody_wins_by_not_storing_the_steps_of_a_run() -> None:
    """They are counted, outside the clock."""
    bench = Bench(contenders_of("sqlite")[0], Careless())
    with pytest.raises(ValueError, match="has stored 0 steps of a run, not 20"):
        await measure.check_contents(bench, workload_named("waves"))


def test_a_missing_package_is_an_error_that_names_the_command() -> None:
    """No contender is left out in silence."""
    spec = ContenderSpec("sqlite", "none", "", "", ("no_such_package.at_all",))
    with pytest.raises(MissingPackageError, match=r"no_such_package\.at_all.*run\.py bench"):
        check_installed([spec])
    check_installed(PLAIN)


def test_a_server_that_does_not_wait_for_the_disk_is_refused(postgres_server: str) -> None:
    """Its figures would mean nothing."""
    assert PostgreSQLDatabases(postgres_server).settings["fsync"] == "on"
    mark = "&" if "?" in postgres_server else "?"
    with pytest.raises(UnsafeServerError, match="synchronous_commit = off"):
        PostgreSQLDatabases(f"{postgres_server}{mark}synchronous_commit=off")
