"""What the blocks of a run were given, and what they gave, in few words, for the table of blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from workflows_mcp.engine.block_details import BlockDetails
from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.pointers import Step, pointer_of
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
    found = [
        (one, *place) for one, place in _records(state, blocks) if place[0].get("inputs") or place[0].get("outputs")
    ]
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


def _records(
    state: CheckpointState, blocks: Sequence[BlockDetails]
) -> Iterator[tuple[BlockDetails, tuple[dict[str, Any], tuple[Step, ...]]]]:
    """The record of each block that has one, and where in the state it stands."""
    context: object = state.context
    stack: object = state.workflow_stack
    frames = [one if isinstance(one, dict) else {} for one in stack] if isinstance(stack, list) else []
    within = {(str(one.get("parent")), str(one.get("block")), one.get("key")): index for index, one in _nested(frames)}
    places: dict[str, tuple[int, BlockDetails, dict[str, Any], tuple[Step, ...]]] = {}
    for one in blocks:
        above = None if one.parent is None else places.get(one.parent)
        steps: tuple[Step, ...]
        if one.parent is None:
            index, holder, steps = 0, _object(_object(context).get("blocks")), ("context", "blocks", one.block_id)
            record = holder.get(one.block_id)
        elif above is None:
            continue
        elif one.key is not None:
            index, record = above[0], _object(above[2].get("items")).get(one.key)
            steps = (*above[3], "items", one.key)
        else:
            frame = within.get((str(above[0]), above[1].block_id, above[1].key))
            if frame is None:
                continue
            index, record = frame, _object(frames[frame].get("records")).get(one.block_id)
            steps = ("workflow_stack", frame, "records", one.block_id)
        if isinstance(record, dict):
            places[one.path] = (index, one, record, steps)
            yield one, (record, steps)


def _nested(frames: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The frames of nested workflows, and their places in the stack; the first is the run's own."""
    return ((index, one) for index, one in enumerate(frames) if index and isinstance(one.get("key"), str | None))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
