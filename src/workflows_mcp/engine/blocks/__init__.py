"""The block types, by the name that stands under `type` in a workflow."""

from workflows_mcp.engine.blocks.block import (
    BlockContext,
    BlockFailedError,
    BlockInputs,
    BlockType,
    Call,
    Pause,
    Text,
    answered,
)
from workflows_mcp.engine.blocks.python import block_type
from workflows_mcp.engine.blocks.registry import BLOCK_TYPES, block_type_names, find_block_type, register

__all__ = [
    "BLOCK_TYPES",
    "BlockContext",
    "BlockFailedError",
    "BlockInputs",
    "BlockType",
    "Call",
    "Pause",
    "Text",
    "answered",
    "block_type",
    "block_type_names",
    "find_block_type",
    "register",
]
