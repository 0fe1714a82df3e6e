"""What a contender is: a way to keep checkpoints, behind one small interface."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from benchmarks.states import CONTENT_FIELDS, Key
from workflows_mcp import CheckpointState

__all__ = ["Contender", "content_of", "plain_content"]


class Contender(ABC):
    """A way to keep checkpoints. Opened once a workload, and used by many tasks of one event loop.

    Attributes:
        settings: What decides about durability, read back from the open database.
    """

    database: ClassVar[str]
    """`sqlite` or `postgresql`."""

    lacks: ClassVar[str | None] = None
    """Why it can neither trim nor clean up; None: it can."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}

    @abstractmethod
    async def open(self, url: str) -> None:
        """Open the database, a SQLite file's path or a PostgreSQL URL, and make the tables where there are none."""

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

    @abstractmethod
    async def close(self) -> None:
        """Close the database."""


def content_of(state: CheckpointState) -> dict[str, Any]:
    """The content of a state, as the guide's JSON has it; not copied."""
    return {name: getattr(state, name) for name in CONTENT_FIELDS}


def plain_content(loaded: dict[str, Any]) -> dict[str, Any]:
    """The content out of a mapping that may hold more."""
    return {name: loaded[name] for name in CONTENT_FIELDS}
