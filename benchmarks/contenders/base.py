"""What a contender is: a way to keep checkpoints, or to run workflows, behind one small interface."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from benchmarks.states import CONTENT_FIELDS, Key
from workflows_mcp import CheckpointState

__all__ = ["Contender", "Participant", "WorkflowContender", "content_of", "plain_content"]


class Participant(ABC):
    """Whatever takes part. Opened once a workload, and used by many tasks of one event loop.

    Attributes:
        settings: What decides about durability, read back from the open database.
    """

    database: ClassVar[str]
    """`sqlite` or `postgresql`."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}

    @abstractmethod
    async def open(self, url: str) -> None:
        """Open the database, a SQLite file's path or a PostgreSQL URL, and make the tables where there are none."""

    @abstractmethod
    async def close(self) -> None:
        """Close the database."""


class Contender(Participant):
    """A way to keep checkpoints."""

    lacks: ClassVar[str | None] = None
    """Why it can neither trim nor clean up; None: it can."""

    @abstractmethod
    async def save(self, state: CheckpointState) -> None:
        """Save a state; it is durable when this returns."""

    @abstractmethod
    async def load(self, key: Key) -> Any:  # noqa: ANN401 - what the peer's users get
        """Load what was saved last, parsed, in the form that the contender gives its users; never None."""

    @abstractmethod
    def content(self, loaded: Any) -> dict[str, Any]:  # noqa: ANN401
        """The fields that were saved, out of what `load` returned; asked outside the clock."""

    @abstractmethod
    async def newest(self, count: int) -> Sequence[str]:
        """The ids of the newest checkpoints, the newest first."""

    @abstractmethod
    async def list_all(self) -> int:
        """List all checkpoints; returns how many there are."""

    async def trim(self, keep: int) -> int:
        """Delete all but the newest of each workflow, and those that wait; returns how many."""
        raise NotImplementedError(keep)

    async def cleanup(self, max_age_seconds: float) -> int:
        """Delete those older than so many seconds, except those that wait; returns how many."""
        raise NotImplementedError(max_age_seconds)


class WorkflowContender(Participant):
    """A way to run workflows that survive a crash: here one of `WAVES` steps in a row, which do nothing."""

    @abstractmethod
    async def run(self) -> str:
        """Run the workflow; each step is durable before the next one begins. Returns what names the run."""

    @abstractmethod
    async def count_steps(self, run_id: str) -> int:
        """How many steps of a run the database has; asked outside the clock."""

    async def run_unsaved(self) -> str:
        """Run the workflow without any database."""
        raise NotImplementedError


def content_of(state: CheckpointState) -> dict[str, Any]:
    """The content of a state, as the guide's JSON has it; not copied."""
    return {name: getattr(state, name) for name in CONTENT_FIELDS}


def plain_content(loaded: dict[str, Any]) -> dict[str, Any]:
    """The content out of a mapping that may hold more."""
    return {name: loaded[name] for name in CONTENT_FIELDS}
