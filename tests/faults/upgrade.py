"""Many processes upgrade one database at once, and some are killed while they do, at every step in turn."""

import asyncio
import random
import signal
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.faults.crew import join, start
from tests.faults.row import Effort, Place, Row, Verdict
from tests.faults.upgrade_process import OPEN, upgrade
from tests.migrations import raw
from tests.migrations.test_guide_database import assert_rows_load, guide_rows
from workflows_mcp import SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.persistence.revisions import HEAD
from workflows_mcp.persistence.schema import SchemaManager

__all__ = ["ROW"]

_PROCESSES = 8
_LATEST_SECONDS = 0.2
"""How much later than the first ones some begin: while those are at it, or have just done it."""

_ROWS = 350
"""In a guide's database: more than are moved at a time."""


async def check(place: Place, effort: Effort) -> Verdict:
    """Race, then kill, then do both; the database is whole at every moment."""
    verdict = Verdict({"races": 0, "processes": 0, "kills": 0, "failures": 0})
    chance = effort.chance()
    harness = _Harness(place, verdict, chance)
    for number in range(effort.of(10, 2)):
        await harness.race(has_rows=bool(number % 2), kills={})
    steps = await harness.count_steps()
    verdict.require(steps > 20, f"an upgrade has only {steps} steps that it can be killed at")
    for step in range(1, steps + 1) if not effort.is_quick else chance.sample(range(1, steps + 1), 3):
        await harness.kill_at(step)
    for number in range(effort.of(6, 1)):
        victims = {place: chance.randint(1, steps) for place in range(_PROCESSES // 2)}
        await harness.race(has_rows=bool(number % 2), kills=victims)
    return verdict


class _Harness:
    """Makes one database after the other, and upgrades it.

    Args:
        place: Where.
        verdict: Takes what is found.
        chance: Decides who comes late.
    """

    def __init__(self, place: Place, verdict: Verdict, chance: random.Random) -> None:
        self._place = place
        self._verdict = verdict
        self._chance = chance
        self._number = 0

    @asynccontextmanager
    async def _database(self, *, has_rows: bool) -> AsyncIterator[tuple[str, raw.Rows]]:
        """The URL of a new database, empty or with a guide's rows, and these rows."""
        self._number += 1
        url = self._place.url
        if self._place.database == "sqlite":
            url = str(self._place.folder / f"{self._number}.db")
        else:
            await raw.execute(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        if has_rows:
            await raw.make_guide_database(url, guide_rows(_ROWS))
        yield url, (await raw.contents(url))["rows"] if has_rows else []

    def _fail(self, what: str) -> None:
        self._verdict.broken.append(what)
        self._verdict.figures["failures"] = len(self._verdict.broken)

    async def race(self, *, has_rows: bool, kills: dict[int, int]) -> None:
        """Upgrade with many processes at once.

        Args:
            has_rows: Whether it is a guide's database.
            kills: At which step which of them are killed.
        """
        async with self._database(has_rows=has_rows) as (url, rows):
            errors = self._place.folder / f"errors-{self._number}"
            gate = self._place.folder / f"gate-{self._number}"
            gate.mkdir()
            delays = [self._chance.choice((0.0, self._chance.uniform(0, _LATEST_SECONDS))) for _ in range(_PROCESSES)]
            processes = [
                start(upgrade, url, kills.get(one, 0), errors, gate, delay) for one, delay in enumerate(delays)
            ]
            while len(list(gate.iterdir())) < _PROCESSES and not any(one.exitcode for one in processes):
                await asyncio.sleep(0.001)
            (gate / OPEN).touch()
            codes = [await join(one) for one in processes]
            self._count("races", 1)
            self._count("processes", _PROCESSES)
            self._count("kills", codes.count(-signal.SIGKILL))
            for number, code in enumerate(codes):
                if code != 0 and not (code == -signal.SIGKILL and number in kills):
                    told = errors.read_text() if errors.exists() else ""
                    self._fail(f"one of {_PROCESSES} upgrades ended with exit code {code}: {told[-3000:]}")
            await self._compare(url, rows)

    async def count_steps(self) -> int:
        """How many steps the upgrade of a guide's database takes."""
        async with self._database(has_rows=True) as (url, _):
            steps = self._place.folder / "steps"
            await join(start(upgrade, url, -1, steps))
            return len(steps.read_text().splitlines())

    async def kill_at(self, step: int) -> None:
        """Kill an upgrade at a step; the database is as it was, or as it is to be, and another upgrade finishes."""
        async with self._database(has_rows=True) as (url, rows):
            before = await raw.contents(url)
            code = await join(start(upgrade, url, step, self._place.folder / "errors"))
            if code != -signal.SIGKILL:
                self._fail(f"an upgrade that was to be killed at step {step} ended with exit code {code}")
            self._count("kills", 1)
            try:
                if await SchemaManager(url).current() != HEAD and await raw.contents(url) != before:
                    self._fail(f"an upgrade that was killed at step {step} left something, and is not done")
            except Exception:  # noqa: BLE001 - its tables are not even there
                self._fail(f"an upgrade was killed at step {step}: {traceback.format_exc()[-3000:]}")
            await self._compare(url, rows)

    async def _compare(self, url: str, rows: raw.Rows) -> None:
        """Whether another upgrade finds nothing left to do or does it, and all is there that was there before."""
        try:
            await upgrade_schema(url)
            await SchemaManager(url).check()
            async with SQLAlchemyCheckpointStore(url) as store:
                await assert_rows_load(store, rows)
        except Exception:  # noqa: BLE001 - whatever it is, it is what was found
            self._fail(f"after the upgrade: {traceback.format_exc()[-3000:]}")

    def _count(self, name: str, number: int) -> None:
        before = self._verdict.figures[name]
        assert isinstance(before, int)
        self._verdict.figures[name] = before + number


ROW = Row(
    fault="upgrade race, killed midway",
    promise="All that are not killed succeed, a database is never half upgraded, and another upgrade finishes it.",
    check=check,
)
