"""The blocks of a run as the rows of a table."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflows_mcp.cli.failures import one_line
from workflows_mcp.engine.signs import sign_of

if TYPE_CHECKING:
    from workflows_mcp.engine.run_details import BlockDetails

__all__ = ["BlockRow", "line_of", "row_of"]


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


def line_of(row: BlockRow) -> str:
    """The row as one line: `✗ deploy[eu] (1.2 s): it refused`."""
    status = "" if row.status in {"succeeded", "failed"} else f" {row.status}"
    seconds = "" if row.seconds is None or row.status == "skipped" else f" ({row.seconds:.1f} s)"
    return one_line(f"{sign_of(row.status)} {row.path}{status}{seconds}{f': {row.note}' if row.note else ''}")
