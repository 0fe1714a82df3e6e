"""The blocks of a run as the rows of a table."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workflows_mcp.engine.run_details import BlockDetails

__all__ = ["BlockRow", "row_of"]


@dataclass(frozen=True)
class BlockRow:
    """A block, or one of its items.

    Attributes:
        path: Names it within the run.
        status: What became of it; `not begun`: its turn has not come; see `BlockDetails`.
        started_at: Unix time in seconds.
        seconds: How long it took.
        note: Why it failed or was skipped; how many items of which kind it has.
    """

    path: str
    status: str
    started_at: float | None = None
    seconds: float | None = None
    note: str = ""


def row_of(block: "BlockDetails") -> BlockRow:
    """The row of a block."""
    notes = [] if block.message is None else [block.message]
    if block.items is not None:
        notes.insert(0, ", ".join(f"{count:,} {status}" for status, count in block.items.items()) or "no items")
    if block.attempts > 1:
        notes.append(f"attempt {block.attempts}")
    return BlockRow(block.path, block.status, block.started_at, block.seconds, "; ".join(notes))
