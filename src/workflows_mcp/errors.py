"""Every exception of the package.

::

    WorkflowsError
    ├── CheckpointStoreError
    │   ├── CheckpointEncodeError            a state holds something that is not plain JSON
    │   ├── CheckpointTooLargeError          a state is larger than the limit
    │   ├── CheckpointDecodeError            a stored payload is damaged, or newer than this version
    │   │   └── CheckpointKeyError           the keys of this process do not fit it
    │   ├── CheckpointNotFoundError          no checkpoint has this id
    │   ├── CheckpointAlreadyClaimedError    somebody else continues this checkpoint
    │   ├── CheckpointConflictError          what is imported is there already with other content
    │   ├── LeaseLostError                   the run now belongs to somebody else
    │   ├── SchemaOutOfDateError             the database wants `workflows-mcp db upgrade`
    │   ├── SchemaTooNewError                the database is ahead of this version
    │   ├── StoreUnavailableError            locked, frozen or gone: worth another try
    │   ├── StoreFullError                   no space left
    │   └── StoreConfigurationError          a URL, path, permission or setting is wrong
    ├── CheckpointFileError                  a file of exported checkpoints is cut off, changed or foreign
    ├── ExecutorStoppedError                 this server is shutting down; ask another one
    ├── ScratchFolderError                   the folder for a run's temporary files cannot be trusted
    ├── SecretError                          a secret is not fit to be one
    ├── WorkflowNotFoundError                no workflow has this name, no file this path
    └── WorkflowDefinitionError              a workflow, its inputs or an expression is wrong
        └── BlockTypeDisabledError           a block is of a type that is switched off on this server

A bad argument (an empty id, a negative limit) is a plain `ValueError`, raised before anything is sent to a
database. No message shows a payload, a password or the answer to a prompt.
"""

import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "BlockTypeDisabledError",
    "CheckpointAlreadyClaimedError",
    "CheckpointConflictError",
    "CheckpointDecodeError",
    "CheckpointEncodeError",
    "CheckpointFileError",
    "CheckpointKeyError",
    "CheckpointNotFoundError",
    "CheckpointStoreError",
    "CheckpointTooLargeError",
    "ExecutorStoppedError",
    "LeaseLostError",
    "SchemaOutOfDateError",
    "SchemaTooNewError",
    "ScratchFolderError",
    "SecretError",
    "StoreConfigurationError",
    "StoreFullError",
    "StoreUnavailableError",
    "WorkflowDefinitionError",
    "WorkflowNotFoundError",
    "WorkflowsError",
]


class WorkflowsError(Exception):
    """The root of this package's exceptions."""


class CheckpointStoreError(WorkflowsError):
    """A checkpoint could not be stored, found, read or removed."""


class CheckpointEncodeError(CheckpointStoreError):
    """A state holds a value that would not come back as it went in; nothing was written."""


class CheckpointTooLargeError(CheckpointStoreError):
    """A state's plain JSON is larger than the limit; nothing was written."""


class CheckpointDecodeError(CheckpointStoreError):
    """A stored payload is damaged, or was written by a newer version.

    Other runs are unaffected. Of its own, states are that are stored as deltas of it or of one another: of the first
    state of a run they may be all.

    Attributes:
        link: The id of the checkpoint that it is about where that is another one, which is needed to unpack this one.
        reason: What is the matter with the one that it is about, in a few words; empty where there is no more to say.
    """

    link: str | None = None
    reason: str = ""


class CheckpointKeyError(CheckpointDecodeError):
    """A checkpoint does not fit the keys of this process, and need not be damaged.

    It is sealed with a key that the process does not have, or has another one of the same id; or it is not sealed, and
    has to be.
    """


class CheckpointNotFoundError(CheckpointStoreError):
    """No checkpoint has this id."""


class CheckpointAlreadyClaimedError(CheckpointStoreError):
    """Somebody else holds an unexpired lease on this checkpoint, or has already continued it."""


class CheckpointConflictError(CheckpointStoreError):
    """A checkpoint that was to be imported or copied is there already with other content, or came to be other."""


class LeaseLostError(CheckpointStoreError):
    """The run was taken over, deleted or cancelled: whoever gets this must stop working on it."""


class SchemaOutOfDateError(CheckpointStoreError):
    """The database has no schema, or an older one; the message names the command that brings it to head."""


class SchemaTooNewError(CheckpointStoreError):
    """The database's schema is newer than this version knows; upgrade the program, not the database."""


class StoreUnavailableError(CheckpointStoreError):
    """The database is locked, frozen, overloaded or gone. The call may be repeated.

    After a failed save the outcome is unknown: it may have been committed. Saving the same state again is safe.
    """


class StoreFullError(CheckpointStoreError):
    """The disk or the tablespace is full. What was stored before is intact and readable."""


class StoreConfigurationError(CheckpointStoreError):
    """A URL, a path, a permission or a setting is wrong; repeating the call will not help."""


class CheckpointFileError(WorkflowsError):
    """A file of exported checkpoints cannot be read or written, was cut off or changed, or is none at all."""


class ExecutorStoppedError(WorkflowsError):
    """The executor is being stopped, and begins nothing any more; whoever asked can ask another one, or later."""


class ScratchFolderError(WorkflowsError):
    """The folder for a run's temporary files cannot be made, or others could put files there."""


class SecretError(WorkflowsError):
    """A secret is not fit to be one; the message names its variable and never shows its value."""


class WorkflowNotFoundError(WorkflowsError):
    """No workflow is registered under this name, and no file has this path."""


class WorkflowDefinitionError(WorkflowsError):
    """A workflow's definition, its inputs or one of its expressions is wrong.

    Attributes:
        problems: All that is wrong, one thing each; the message may show only the first of them.
    """

    def __init__(self, message: str = "", problems: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems) or (message,)


class BlockTypeDisabledError(WorkflowDefinitionError):
    """A workflow has a block of a type that is switched off on this server; one that offers it can run it.

    Attributes:
        definition: The workflow as plain JSON data, if whoever keeps the run may want to keep it, too.
    """

    def __init__(self, message: str = "", definition: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.definition = definition


def copy_error(error: CheckpointStoreError) -> CheckpointStoreError:
    """The same error for another caller: one that is raised in several places gathers all their tracebacks."""
    copied = type(error)(*error.args)
    vars(copied).update(vars(error))
    return copied


def place_of(error: BaseException) -> str:
    """Where in this package it was raised, as ` at FILE:LINE`; empty: elsewhere.

    That much of an unexpected error can be shown and logged: its own text may quote what is stored.
    """
    package = Path(__file__).resolve().parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(package):
            return f" at {path.relative_to(package)}:{frame.lineno}"
    return ""
