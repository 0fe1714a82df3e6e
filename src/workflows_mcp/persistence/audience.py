"""Those who are told what a database does for a store, and what they are told."""

import time
from collections.abc import Sequence

from workflows_mcp.engine.observing import StoreObserver, tell
from workflows_mcp.errors import CheckpointStoreError
from workflows_mcp.persistence.dialects import Row

__all__ = ["Audience"]


class Audience:
    """The observers of a store.

    Attributes:
        observers: All of them; empty: nothing needs to be measured.
    """

    def __init__(self) -> None:
        self.observers: tuple[StoreObserver, ...] = ()

    def committed(self, rows: Sequence[Row], started: float) -> None:
        """Tell of a commit that was begun at a time of `time.perf_counter` and has succeeded."""
        seconds = time.perf_counter() - started
        payload_bytes = sum(len(row[-1]) for row in rows)
        for observer in self.observers:
            tell(observer.committed, len(rows), payload_bytes, seconds)

    def retried(self, error: CheckpointStoreError) -> None:
        """Tell of a failure after which another attempt is made."""
        for observer in self.observers:
            tell(observer.retried, error)

    def slowed(self, operation: str, seconds: float) -> None:
        """Tell of a slow call."""
        for observer in self.observers:
            tell(observer.slowed, operation, seconds)
