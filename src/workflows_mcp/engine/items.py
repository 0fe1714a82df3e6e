"""The items of a block with `for_each`: which there are, what they weigh, and how they end together."""

from collections.abc import Mapping

from workflows_mcp.engine.blocks import BlockFailedError
from workflows_mcp.engine.calling import check_json
from workflows_mcp.engine.place import Place
from workflows_mcp.engine.record import BlockRecord
from workflows_mcp.engine.scope import BLOCK_NAMES
from workflows_mcp.errors import CheckpointTooLargeError

__all__ = ["MAX_ITEMS", "Weights", "failure_of", "items_of"]

MAX_ITEMS = 10_000
"""The most items that a block runs for."""


def items_of(place: Place, value: object) -> list[Place]:
    """The items of a block, by what its `for_each` gives.

    Raises:
        BlockFailedError: That is neither a list nor a dict, has too many items, or a key that means something else.
    """
    check_json(value, "for_each")  # its keys are saved
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        raise BlockFailedError(f"for_each: it is a {type(value).__name__}, and neither a list nor a dict")
    if len(items) > MAX_ITEMS:
        raise BlockFailedError(f"for_each: there are {len(items):,} items; a block runs for {MAX_ITEMS:,} at most")
    taken = BLOCK_NAMES.intersection(key for key, _ in items)
    if taken:
        raise BlockFailedError(f"for_each: an item's key must not be {sorted(taken)[0]!r}, which is read of the block")
    return [
        Place(place.frame, place.block, key, {"key": key, "value": item, "index": index})
        for index, (key, item) in enumerate(items)
    ]


class Weights:
    """Adds up what the items of a block hold, since nothing is saved, and so found too large, before the last is over.

    Args:
        path: Names the block.
        most: The most bytes.
    """

    def __init__(self, path: str, most: int) -> None:
        self._path = path
        self._most = most
        self._sum = 0

    def add(self, record: BlockRecord) -> None:
        """Note what an item holds.

        Raises:
            CheckpointTooLargeError: It is too much.
        """
        self._sum += record.weight
        if self._sum > self._most:
            raise CheckpointTooLargeError(
                f"the items of block {self._path!r} hold more than {self._most:,} bytes together. Keep large data in "
                "files and their paths in the state, or raise max_checkpoint_size_mb"
            )


def failure_of(items: Mapping[str, BlockRecord]) -> BlockFailedError | None:
    """Why a block has failed whose items are over; None: none of them failed, or some still wait."""
    failed = [key for key, item in items.items() if item.status == "failed"]
    if not failed or any(item.status == "paused" for item in items.values()):
        return None
    first = f"item {failed[0]!r} failed: {items[failed[0]].message}"
    return BlockFailedError(first if len(failed) == 1 else f"{len(failed)} of {len(items)} items failed; {first}")
