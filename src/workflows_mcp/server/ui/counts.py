"""What is known of a store as a whole: what is in it, how it has grown, and whether anything is wrong with it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from workflows_mcp.engine.abandoned import ABANDONED, RunStatus
from workflows_mcp.engine.census import DAY_SECONDS, HOUR_SECONDS, CheckpointCensus
from workflows_mcp.engine.checkpoint import CheckpointStatus
from workflows_mcp.engine.result import RESULT_STATUSES
from workflows_mcp.engine.series import SavedInStep
from workflows_mcp.persistence.checks import Check, Report
from workflows_mcp.server.services import Services
from workflows_mcp.server.ui.recent import Recent
from workflows_mcp.wiring import is_in_memory

__all__ = ["GROWTH_DAYS", "Counts", "Growing", "by_status"]

GROWTH_DAYS = 30

_MINUTES = 60


@dataclass(frozen=True)
class Growing:
    """How what is stored now has come together.

    Attributes:
        moments: From the first one to now, in Unix seconds, a day apart.
        checkpoints: How many of those that are stored had been saved by then.
        stored_bytes: Their payloads as stored.
    """

    moments: list[float]
    checkpoints: list[int]
    stored_bytes: list[int]


class Counts:
    """Asks the database as a whole, once for all that look at about the same time: it may take a while.

    Args:
        services: Have the store.
        options: Of the commands that are advised, so that these lead to the same database.

    Attributes:
        census: What there is.
        hour: What was saved in each minute of the last hour.
        growing: How it has come together in the last days.
        checks: What an examination finds; it raises no error of the database's.
    """

    def __init__(self, services: Services, options: Sequence[str] = ()) -> None:
        self._services = services
        self._options = options
        self.census = Recent(self._count, fresh_seconds=15.0)
        self.hour = Recent(self._count_hour, fresh_seconds=5.0)
        self.growing = Recent(self._count_growing, fresh_seconds=60.0)
        self.checks = Recent(self._examine, fresh_seconds=5.0)

    async def _count(self) -> CheckpointCensus:
        await self._services.prepare()
        return await self._services.store.take_census()

    async def _count_hour(self) -> list[SavedInStep]:
        await self._services.prepare()
        now = time.time()
        return await self._services.store.take_series(now - HOUR_SECONDS, now, _MINUTES)

    async def _count_growing(self) -> Growing:
        await self._services.prepare()
        now = time.time()
        days = await self._services.store.take_series(now - GROWTH_DAYS * DAY_SECONDS, now, GROWTH_DAYS)
        census = (await self.census.take()).value
        return Growing(
            [*(one.since for one in days), now],
            _sums(census.checkpoints, [one.checkpoints for one in days]),
            _sums(census.stored_bytes, [one.stored_bytes for one in days]),
        )

    async def _examine(self) -> list[Check]:
        from workflows_mcp.persistence.health import examine  # loads what checks schemas

        settings = self._services.settings
        if is_in_memory(settings):
            report = Report()
            report.notice(
                "database",
                "checkpoints are kept in memory: they end with this process",
                "name a file or a server by --database-url or WORKFLOWS_DATABASE_URL",
            )
            return report.checks
        return await examine(settings.url, settings, options=self._options)


def by_status(census: CheckpointCensus) -> dict[RunStatus, int]:
    """How many runs have come to what, each as it is shown: one that was abandoned is not among what is running."""
    found: dict[RunStatus, int] = {RESULT_STATUSES[one]: census.head_statuses[one.value] for one in CheckpointStatus}
    running = found.pop("running")
    abandoned = min(census.pulse.abandoned, running)  # these were counted a moment earlier
    return {"running": running - abandoned, ABANDONED: abandoned, **found}


def _sums(total: int, added: list[int]) -> list[int]:
    """The sums before and after each addition, the last of which is the total, counted at about the same time."""
    sums = [total]
    for one in reversed(added):
        sums.append(max(sums[-1] - one, 0))
    return sums[::-1]
