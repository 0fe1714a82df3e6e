"""The state of running workflows, kept safe.

One checkpoints table behind one async store for SQLite and PostgreSQL, and an executor that pauses, resumes and
recovers on it. The names below are the public interface; they are loaded when they are first used, so that
importing the package costs next to nothing. `__version__` is the version of the installed package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workflows_mcp.engine.block_details import BlockDetails
    from workflows_mcp.engine.blocks.python import block_type
    from workflows_mcp.engine.checkpoint import (
        CheckpointConfig,
        CheckpointMetadata,
        CheckpointState,
        CheckpointStats,
        CheckpointStatus,
    )
    from workflows_mcp.engine.checkpoint_store import CheckpointStore, InMemoryCheckpointStore
    from workflows_mcp.engine.executor import WorkflowExecutor
    from workflows_mcp.engine.library import WorkflowLibrary
    from workflows_mcp.engine.policies import RetentionPolicy
    from workflows_mcp.engine.result import RunSummary, WorkflowResult
    from workflows_mcp.engine.run_details import RunDetails
    from workflows_mcp.errors import (
        BlockTypeDisabledError,
        CheckpointAlreadyClaimedError,
        CheckpointConflictError,
        CheckpointDecodeError,
        CheckpointEncodeError,
        CheckpointFileError,
        CheckpointKeyError,
        CheckpointNotFoundError,
        CheckpointStoreError,
        CheckpointTooLargeError,
        ExecutorStoppedError,
        LeaseLostError,
        SchemaOutOfDateError,
        SchemaTooNewError,
        ScratchFolderError,
        SecretError,
        StoreConfigurationError,
        StoreFullError,
        StoreUnavailableError,
        WorkflowDefinitionError,
        WorkflowNotFoundError,
        WorkflowsError,
    )
    from workflows_mcp.persistence.backup import backup_database, restore_database
    from workflows_mcp.persistence.rekeying import rekey_checkpoints
    from workflows_mcp.persistence.schema import upgrade_schema
    from workflows_mcp.persistence.store import SQLAlchemyCheckpointStore, create_checkpoint_store
    from workflows_mcp.persistence.transfer import copy_checkpoints, export_checkpoints, import_checkpoints

    __version__: str

__all__ = [
    "BlockDetails",
    "BlockTypeDisabledError",
    "CheckpointAlreadyClaimedError",
    "CheckpointConfig",
    "CheckpointConflictError",
    "CheckpointDecodeError",
    "CheckpointEncodeError",
    "CheckpointFileError",
    "CheckpointKeyError",
    "CheckpointMetadata",
    "CheckpointNotFoundError",
    "CheckpointState",
    "CheckpointStats",
    "CheckpointStatus",
    "CheckpointStore",
    "CheckpointStoreError",
    "CheckpointTooLargeError",
    "ExecutorStoppedError",
    "InMemoryCheckpointStore",
    "LeaseLostError",
    "RetentionPolicy",
    "RunDetails",
    "RunSummary",
    "SQLAlchemyCheckpointStore",
    "SchemaOutOfDateError",
    "SchemaTooNewError",
    "ScratchFolderError",
    "SecretError",
    "StoreConfigurationError",
    "StoreFullError",
    "StoreUnavailableError",
    "WorkflowDefinitionError",
    "WorkflowExecutor",
    "WorkflowLibrary",
    "WorkflowNotFoundError",
    "WorkflowResult",
    "WorkflowsError",
    "backup_database",
    "block_type",
    "copy_checkpoints",
    "create_checkpoint_store",
    "export_checkpoints",
    "import_checkpoints",
    "rekey_checkpoints",
    "restore_database",
    "upgrade_schema",
]

_MODULES = {
    "BlockDetails": "engine.block_details",
    "CheckpointConfig": "engine.checkpoint",
    "CheckpointMetadata": "engine.checkpoint",
    "CheckpointState": "engine.checkpoint",
    "CheckpointStats": "engine.checkpoint",
    "CheckpointStatus": "engine.checkpoint",
    "CheckpointStore": "engine.checkpoint_store",
    "InMemoryCheckpointStore": "engine.checkpoint_store",
    "RetentionPolicy": "engine.policies",
    "RunDetails": "engine.run_details",
    "RunSummary": "engine.result",
    "SQLAlchemyCheckpointStore": "persistence.store",
    "WorkflowExecutor": "engine.executor",
    "WorkflowLibrary": "engine.library",
    "WorkflowResult": "engine.result",
    "backup_database": "persistence.backup",
    "block_type": "engine.blocks.python",
    "copy_checkpoints": "persistence.transfer",
    "create_checkpoint_store": "persistence.store",
    "export_checkpoints": "persistence.transfer",
    "import_checkpoints": "persistence.transfer",
    "rekey_checkpoints": "persistence.rekeying",
    "restore_database": "persistence.backup",
    "upgrade_schema": "persistence.schema",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the public names
    value: Any
    if name == "__version__":
        from importlib.metadata import version

        value = version("workflows-mcp")
    elif name in __all__:
        value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
