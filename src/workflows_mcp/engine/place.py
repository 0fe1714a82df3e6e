"""Where in a run something happens."""

from dataclasses import dataclass
from typing import Any

from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.plan import BlockPlan

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """A block, or one of its items, in a run.

    Attributes:
        frame: The workflow that it belongs to.
        block: What is known of it.
        key: Names the item; None: the block runs once.
        each: What expressions can read of the item.
    """

    frame: Frame
    block: BlockPlan
    key: str | None = None
    each: dict[str, Any] | None = None

    @property
    def block_id(self) -> str:
        """Names the block in its workflow."""
        return self.block.definition.id

    @property
    def path(self) -> str:
        """Names it within the run: `deploy[eu]/check`."""
        return self.frame.path_of(self.block_id, self.key)
