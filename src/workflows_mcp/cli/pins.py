"""`checkpoints pin`, `unpin` and `delete`: one checkpoint, by its id."""

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from workflows_mcp.cli.checkpoints import when
from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.failures import CommandError, one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id, command_line
from workflows_mcp.cli.page import Page, print_json
from workflows_mcp.persistence.sizes import shown_bytes

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint import CheckpointMetadata
    from workflows_mcp.engine.checkpoint_store import CheckpointStore

__all__ = ["delete_command", "pin_command", "unpin_command"]

_CheckpointId = Annotated[str, Parameter(name="CHECKPOINT")]


async def pin_command(checkpoint_id: _CheckpointId, /, *, options: Options = DEFAULT_OPTIONS) -> int:
    """Have retention leave a checkpoint alone, whatever its age, until it is unpinned.

    Args:
        checkpoint_id: The checkpoint.
        options: What every command takes.

    Returns:
        0; also when it was pinned before.
    """
    return await _pin(checkpoint_id, options, pinned=True)


async def unpin_command(checkpoint_id: _CheckpointId, /, *, options: Options = DEFAULT_OPTIONS) -> int:
    """Let retention treat a checkpoint like all others again.

    Args:
        checkpoint_id: The checkpoint.
        options: What every command takes.

    Returns:
        0; also when it was not pinned.
    """
    return await _pin(checkpoint_id, options, pinned=False)


async def _pin(checkpoint_id: str, options: Options, *, pinned: bool) -> int:
    check_id("the checkpoint's id", checkpoint_id)
    async with open_store(options) as store:
        if not await store.pin_checkpoint(checkpoint_id, pinned):
            raise _no_such_checkpoint(checkpoint_id, options)
    if options.json:
        print_json({"checkpoint_id": checkpoint_id, "pinned": pinned})
    else:
        Page(sys.stdout).line(one_line(f"{'pinned' if pinned else 'unpinned'}: checkpoint {checkpoint_id}"))
    return 0


async def delete_command(
    checkpoint_id: _CheckpointId,
    /,
    *,
    force: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Delete a checkpoint for good. One that a run still needs, or that is pinned, goes by `--force` alone.

    Args:
        checkpoint_id: The checkpoint; a run as a whole is deleted by `runs delete`.
        force: Delete it although it is pinned, waits for an answer, is held by a process, or is what a run that can
            be recovered goes on from.
        options: What every command takes.

    Returns:
        0.
    """
    from workflows_mcp.engine.stored_checkpoints import find_metadata, run_of

    check_id("the checkpoint's id", checkpoint_id)
    async with open_store(options) as store:
        found = await find_metadata(store, checkpoint_id)
        if found is not None and not force:
            await _require_spare(store, found)
        if found is None or not await store.delete_checkpoint(checkpoint_id):
            raise _no_such_checkpoint(checkpoint_id, options)
    if options.json:
        print_json({"checkpoint_id": checkpoint_id, "deleted": True, "stored_bytes": found.stored_bytes})
    else:
        size = shown_bytes(found.stored_bytes)
        Page(sys.stdout).line(one_line(f"deleted: checkpoint {checkpoint_id} ({size}) of {run_of(found)}"))
    return 0


async def _require_spare(store: "CheckpointStore", found: "CheckpointMetadata") -> None:
    """Raise an error when somebody may still need the checkpoint."""
    from workflows_mcp.engine.stored_checkpoints import why_needed

    why = await why_needed(store, found, when)
    if why is not None:
        raise CommandError(
            f"checkpoint {found.checkpoint_id!r} was not deleted: {why}; --force deletes it all the same"
        )


def _no_such_checkpoint(checkpoint_id: str, options: Options) -> CommandError:
    listing = command_line("checkpoints", "list", options=options)
    return CommandError(f"there is no checkpoint {checkpoint_id!r}; those that there are: {listing}")
