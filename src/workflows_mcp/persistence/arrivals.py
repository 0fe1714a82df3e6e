"""What arrives in an import or a copy, as deltas of what came before it.

It is counted as a run's saves are, though a run arrives from its newest state to its oldest: of each run the newest is
whole, and older ones are deltas of newer ones.
"""

from collections.abc import Sequence

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.filters import Position
from workflows_mcp.engine.stored import StoredCheckpoint
from workflows_mcp.persistence.deltas import Base, Deltas, Step

__all__ = ["Arrivals"]


class Arrivals:
    """The states that a batch may be deltas of. What is in here is durable, or of the batch that is being made.

    Args:
        most_bytes: How much of plain JSON is kept; 0: nothing is stored as a delta.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._deltas = Deltas(most_bytes, keeps_what_is_over=True)
        self._last: Position | None = None
        self._here: dict[str, Base | None] = {}

    @property
    def kept_bytes(self) -> int:
        """How much of plain JSON is in memory."""
        return self._deltas.kept_bytes

    def begin(self, batch: Sequence[StoredCheckpoint]) -> None:
        """Begin a batch, in the order in which it will be written.

        One that does not go on from the one before, towards older states, is of another import: all is forgotten.
        """
        if self._last is None or _position(batch[0]) >= self._last:
            self._deltas = Deltas(self._most_bytes, keeps_what_is_over=True)
        self._last = _position(batch[-1])
        self._here = {one.checkpoint_id: None for one in batch}

    def step(self, state: CheckpointState) -> Step:
        """What a state of the batch may be a delta of.

        Never of what bears the id of one that comes after it: a foreign key is looked at when a statement is over, and
        by then both are there, each of which could stand on the other. What is known by such an id is of before, and
        was deleted since, or the batch would not be inserted.
        """
        step = self._deltas.step(state)
        base = step.base
        if base is not None and self._here.get(base.checkpoint_id, base) is not base:
            self._deltas.forget(state)
            step = self._deltas.step(state)
        return step

    def made(self, state: CheckpointState, step: Step) -> None:
        """Note what was made of a state: a base for those behind it in the same statement, too."""
        self._deltas.saved(step)
        self._here[state.checkpoint_id] = step.made


def _position(stored: StoredCheckpoint) -> Position:
    return stored.state.created_at, stored.checkpoint_id
