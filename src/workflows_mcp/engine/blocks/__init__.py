"""The block types, by the name that stands under `type` in a workflow."""

from typing import Any

from workflows_mcp.engine.blocks.block import (
    BlockContext,
    BlockFailedError,
    BlockInputs,
    BlockType,
    Call,
    Pause,
    Text,
)
from workflows_mcp.engine.blocks.prompt import Prompt
from workflows_mcp.engine.blocks.shell import Shell
from workflows_mcp.engine.blocks.workflow import Workflow

__all__ = ["BLOCK_TYPES", "BlockContext", "BlockFailedError", "BlockInputs", "BlockType", "Call", "Pause", "Text"]

BLOCK_TYPES: dict[str, BlockType[Any]] = {block_type.name: block_type for block_type in (Prompt(), Shell(), Workflow())}
"""Every block type that a workflow may use."""
