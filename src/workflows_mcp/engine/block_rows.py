"""The blocks of a run, as far as a checkpoint knows them, for a table."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workflows_mcp.engine.frame import Frame
    from workflows_mcp.engine.record import BlockRecord

__all__ = ["BlockRow", "blocks_of"]

_MOST_ITEMS = 20


@dataclass(frozen=True)
class BlockRow:
    """A block, or one of its items.

    Attributes:
        path: Names it within the run.
        status: What became of it; `not begun`: its turn has not come.
        started_at: Unix time in seconds.
        seconds: How long it took.
        note: Why it failed or was skipped; how many items of which kind it has.
    """

    path: str
    status: str
    started_at: float | None = None
    seconds: float | None = None
    note: str = ""


def blocks_of(frame: "Frame") -> Iterator[BlockRow]:
    """The blocks of a workflow, wave by wave, with their items, and those of the workflows that run in their place.

    Of a block with many items only those are listed that did not succeed, and not too many of these.
    """
    for wave in frame.plan.waves:
        for block_id in wave:
            record = frame.records.get(block_id)
            path = frame.path_of(block_id)
            if record is None:
                yield BlockRow(path, "not begun")
                continue
            yield _row(path, record)
            yield from _inside(frame, block_id, record)


def _inside(frame: "Frame", block_id: str, record: "BlockRecord") -> Iterator[BlockRow]:
    if record.items is None:
        if record.child is not None:
            yield from blocks_of(record.child)
        return
    items = list(record.items.items())
    if len(items) > _MOST_ITEMS:
        items = [(key, item) for key, item in items if item.status != "succeeded"][:_MOST_ITEMS]
    for key, item in items:
        yield _row(frame.path_of(block_id, key), item)
        if item.child is not None:
            yield from blocks_of(item.child)


def _row(path: str, record: "BlockRecord") -> BlockRow:
    started, completed = record.started_at, record.completed_at
    seconds = None if started is None or completed is None else completed - started
    notes = [] if record.message is None else [record.message]
    if record.items is not None:
        counts = Counter(item.status for item in record.items.values())
        notes.insert(0, ", ".join(f"{count:,} {status}" for status, count in counts.items()) or "no items")
    if record.attempts > 1:
        notes.append(f"attempt {record.attempts}")
    return BlockRow(path, record.status, started, seconds, "; ".join(notes))
