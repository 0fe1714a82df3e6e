"""Export, import and copy checkpoints: what a program calls. The command line does the same, and tells more of it."""

import os
from pathlib import Path
from typing import BinaryIO

from workflows_mcp.engine.checkpoint import CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.filters import CheckpointFilter
from workflows_mcp.engine.stored import OnConflict, OnUnreadable, check_conflict
from workflows_mcp.errors import CheckpointConflictError
from workflows_mcp.persistence.copying import copy
from workflows_mcp.persistence.exporting import export
from workflows_mcp.persistence.importing import checked_file, import_checked

__all__ = ["copy_checkpoints", "export_checkpoints", "import_checkpoints"]

File = str | os.PathLike[str] | BinaryIO

_MOST_NAMED = 3


async def export_checkpoints(
    store: CheckpointStore,
    file: File,
    *,
    workflow_name: str | None = None,
    run_id: str | None = None,
    status: CheckpointStatus | str | None = None,
    is_paused: bool | None = None,
    heads_only: bool = False,
    created_after: float | None = None,
    created_before: float | None = None,
    overwrite: bool = False,
    on_damaged: OnUnreadable | None = None,
) -> int:
    """Export checkpoints to a file, each with its place: pin, history, and when its lease ended.

    The file is JSON Lines in plain text, encrypted database or not; with the suffix `.zst` it is compressed. Only its
    owner can read it. It gets its name when it is whole. Memory does not grow with the number of checkpoints.

    While others save, an export is not of one point in time: it runs from the newest checkpoint down to the oldest,
    and what is saved or deleted meanwhile may or may not be in it.

    Args:
        store: Where they are.
        file: A path, or a binary stream to write to.
        workflow_name: Only this workflow's; this and the following are the filters of `list_checkpoints`.
        run_id: See `list_checkpoints`.
        status: See `list_checkpoints`.
        is_paused: See `list_checkpoints`.
        heads_only: See `list_checkpoints`.
        created_after: See `list_checkpoints`.
        created_before: See `list_checkpoints`.
        overwrite: Whether a file that is there is replaced.
        on_damaged: Called with the id of a checkpoint that cannot be read, and the error; the export goes on without
            it, and counts it in the closing line. None: the error is raised.

    Returns:
        How many checkpoints were exported.

    Raises:
        ValueError: A filter makes no sense.
        CheckpointFileError: There is such a file already, it is a database, or it cannot be written; or all checkpoints
            are damaged. No part of it is left, and what was there stays.
        CheckpointDecodeError: A checkpoint is damaged, and there is no `on_damaged`.
        CheckpointKeyError: A checkpoint does not fit the keys of the store, `on_damaged` or not.
    """
    wanted = CheckpointFilter(
        workflow_name=workflow_name,
        run_id=run_id,
        status=status,
        is_paused=is_paused,
        heads_only=heads_only,
        created_after=created_after,
        created_before=created_before,
    )
    done = await export(store, _opened(file), wanted, overwrite=overwrite, on_unreadable=on_damaged)
    return done.count


async def import_checkpoints(store: CheckpointStore, file: File, *, on_conflict: OnConflict = "fail") -> int:
    """Import checkpoints from a file that was exported, each into its place.

    The whole file is checked first, against the count and the digest in its closing line: one that was cut off or
    changed is refused before anything is written. Then it is written in batches, each of which is one commit. An import
    that was interrupted is simply repeated. Nobody holds a lease on what is imported: runs that were under way count
    as abandoned, and can be recovered.

    A JSON array of states, as the checkpoint storage guide exports it, is read, too, up to 100 MiB.

    Args:
        store: Where they go.
        file: A path, or a binary stream to read from.
        on_conflict: What to do about a checkpoint that is in the store with another state: `fail` (its batch is not
            written, and none after it), `skip` it, or `replace` it. One with the same state is never a conflict.

    Returns:
        How many checkpoints the store now has as the file has them.

    Raises:
        ValueError: `on_conflict` is unknown.
        CheckpointFileError: The file cannot be read, was cut off or changed, or is something else; nothing was written.
        CheckpointConflictError: A checkpoint is there with another state, and `on_conflict` is `fail`.
        CheckpointKeyError: A checkpoint that is there does not fit the keys of the store, whatever `on_conflict` says.
    """
    check_conflict(on_conflict)
    async with checked_file(_opened(file)) as checked:
        done = await import_checked(store, checked, on_conflict=on_conflict)
    return done.kept


async def copy_checkpoints(
    source: CheckpointStore,
    target: CheckpointStore,
    *,
    on_conflict: OnConflict = "fail",
    on_damaged: OnUnreadable | None = None,
) -> int:
    """Copy all checkpoints from one store to another, each into its place, and read them back to compare.

    Between any two stores: memory, SQLite, PostgreSQL, or one of your own. A copy that was interrupted is simply
    repeated. While others save to the source it is not of one point in time, as in `export_checkpoints`; a second copy,
    when nobody saves any more, brings over what has come since, and makes history of what has become history.

    Args:
        source: Where the checkpoints are; nothing is changed there.
        target: Where they go. Its schema must be there; see `upgrade_schema`.
        on_conflict: See `import_checkpoints`.
        on_damaged: Called with the id of a checkpoint of the source that cannot be read, and the error; the copy goes
            on without it. None: the error is raised.

    Returns:
        How many checkpoints the target now has as the source has them.

    Raises:
        ValueError: `on_conflict` is unknown.
        StoreConfigurationError: Source and target are the same.
        CheckpointConflictError: A checkpoint is in the target with another state, and `on_conflict` is `fail`; or what
            was copied was not found there as it is in the source.
        CheckpointDecodeError: A checkpoint of the source is damaged, and there is no `on_damaged`.
        CheckpointKeyError: A checkpoint does not fit the keys of its store, `on_damaged` or not.
    """
    check_conflict(on_conflict)
    done = await copy(source, target, CheckpointFilter(), on_conflict=on_conflict, on_unreadable=on_damaged)
    if done.differing_count:
        named = ", ".join(map(repr, done.differing[:_MOST_NAMED]))
        raise CheckpointConflictError(
            f"{done.differing_count:,} checkpoints are not in {target.description} as they were copied, {named} among "
            "them: somebody has changed or deleted them meanwhile, or works on them. Stop whoever uses it, and copy "
            "again"
        )
    return done.kept


def _opened(file: File) -> Path | BinaryIO:
    """A path as a `Path`; a stream as it is."""
    if isinstance(file, str | os.PathLike):
        return Path(file)
    if hasattr(file, "read") or hasattr(file, "write"):
        return file
    raise ValueError(f"file must be a path or a binary stream, not {type(file).__name__}")
