"""What the blocks of a run were given, and what they gave, in few words, for the table of blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from workflows_mcp.engine.block_details import BlockDetails
from workflows_mcp.engine.block_records import records_in
from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.pointers import pointer_of
from workflows_mcp.server.ui.values import Scrub, Value, many_in_short

__all__ = ["Given", "given_to"]

_MOST_EACH = 6
"""So many inputs of a block are shown, and so many outputs."""

_MOST_IN_ALL = 1_500
"""So many values are shown on a page, of those that failed first."""

_MOST_READ = 20
"""Of so many that failed, texts are shown so that they can be read, and not in a line."""

_MOST_AT_END = 2_000
"""So many of their last characters: what went wrong stands at the end of a log."""


@dataclass(frozen=True)
class Given:
    """What a block, or an item, was given, and what it gave.

    Attributes:
        pointer: Where in the state its record stands.
        inputs: What it was given.
        outputs: What it gave.
        is_whole: Whether that is all; else the record holds more.
    """

    pointer: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    is_whole: bool


def given_to(state: CheckpointState, blocks: Sequence[BlockDetails], scrub: Scrub) -> dict[str, Given]:
    """What is known of blocks besides what became of them, by their paths; for a thread, since a state may be large.

    Args:
        state: What was saved; what is in it may be of any kind.
        blocks: The blocks that it tells of, without secrets. One whose name holds a secret is not found.
        scrub: Masks secrets.
    """
    found = [one for one in records_in(state, blocks) if one[1].get("inputs") or one[1].get("outputs")]
    found.sort(key=lambda one: one[0].status != "failed")  # stable: the others keep their order
    room = _MOST_IN_ALL
    asked: list[object] = []
    for _, record, _ in found:
        for name in ("inputs", "outputs"):
            values = record.get(name)
            first = dict(islice(values.items(), min(_MOST_EACH, room))) if isinstance(values, dict) else {}
            room -= len(first)
            asked.append(first)
    shown = many_in_short(asked, scrub, _MOST_EACH)
    given = {}
    for number, (block, record, steps) in enumerate(found):
        inputs, outputs = shown[2 * number], shown[2 * number + 1]
        if block.status == "failed" and number < _MOST_READ:
            outputs = _read_from_the_end(asked[2 * number + 1], outputs, scrub)
        is_whole = all(one.is_whole for one in (*inputs, *outputs)) and len(inputs) + len(outputs) == sum(
            len(values) if isinstance(values, dict) else 1
            for values in (record.get("inputs") or {}, record.get("outputs") or {})
        )
        given[block.path] = Given(pointer_of(steps), inputs, outputs, is_whole)
    return given


def _read_from_the_end(values: object, shown: tuple[Value, ...], scrub: Scrub) -> tuple[Value, ...]:
    """The same values, where they are texts as these stand there, and of a long one the end."""
    texts = list(values.values()) if isinstance(values, dict) else []
    read = []
    for one, value in zip(shown, texts, strict=True):
        text = scrub(value).rstrip() if isinstance(value, str) else ""
        is_whole = len(text) <= _MOST_AT_END
        read.append(Value(one.name, text if is_whole else f"…{text[-_MOST_AT_END:]}", is_whole) if text else one)
    return tuple(read)
