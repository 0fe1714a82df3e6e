"""This project's store as the executor uses it for one run, with deltas and without."""

from typing import Any, ClassVar

from benchmarks.contenders.ours import Ours, OursPostgreSQL, OursSQLite
from workflows_mcp import CheckpointState, CheckpointStatus

__all__ = ["DeltasPostgreSQL", "DeltasSQLite", "Following", "SelfContainedPostgreSQL", "SelfContainedSQLite"]

_OWNER = "the benchmark"
_LEASE_SECONDS = 600.0


class Following(Ours):
    """Each save follows the one before, under the run's lease, until the run is over."""

    def __init__(self) -> None:
        super().__init__()
        self._newest: dict[str | None, str] = {}

    async def save(self, state: CheckpointState) -> None:
        """See `Contender.save`."""
        follows = self._newest.get(state.run_id)
        goes_on = state.status is CheckpointStatus.RUNNING
        self._newest[state.run_id] = await self.store.save_checkpoint(
            state, follows=follows, owner=_OWNER, lease_seconds=_LEASE_SECONDS if goes_on else None
        )


class DeltasSQLite(Following, OursSQLite):
    """Over SQLite."""


class DeltasPostgreSQL(Following, OursPostgreSQL):
    """Over PostgreSQL."""


class _SelfContained(Following):
    settings_given: ClassVar[dict[str, Any]] = {**Ours.settings_given, "delta_cache_mb": 0}


class SelfContainedSQLite(_SelfContained, OursSQLite):
    """Over SQLite, with a cache of no bytes: no state is stored as a delta."""


class SelfContainedPostgreSQL(_SelfContained, OursPostgreSQL):
    """Over PostgreSQL, with a cache of no bytes: no state is stored as a delta."""
