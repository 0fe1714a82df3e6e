"""Where in a state the records of blocks stand, for whoever shows what was saved as it is."""

from collections.abc import Iterator, Sequence
from typing import Any

from workflows_mcp.engine.block_details import BlockDetails
from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.pointers import Step

__all__ = ["records_in"]


def records_in(
    state: CheckpointState, blocks: Sequence[BlockDetails]
) -> Iterator[tuple[BlockDetails, dict[str, Any], tuple[Step, ...]]]:
    """The record of each block that has one, as it was saved, and where in the state it stands.

    Args:
        state: What was saved; what is in it may be of any kind.
        blocks: The blocks that it tells of; what is within something stands behind it. One whose name is not that in
            the state, as when it was masked, is not found.
    """
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
            yield one, record, steps


def _nested(frames: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The frames of nested workflows, and their places in the stack; the first is the run's own."""
    return ((index, one) for index, one in enumerate(frames) if index and isinstance(one.get("key"), str | None))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
