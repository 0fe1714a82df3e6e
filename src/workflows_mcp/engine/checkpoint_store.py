"""The checkpoint store: its contract, and the one that keeps checkpoints in memory."""

from workflows_mcp.engine.contract import CheckpointStore, OnDamaged, OnDeleted, columns_of
from workflows_mcp.engine.memory_store import InMemoryCheckpointStore

__all__ = ["CheckpointStore", "InMemoryCheckpointStore", "OnDamaged", "OnDeleted", "columns_of"]
