"""`checkpoints pin`, `unpin` and `delete`: checkpoints by their ids."""

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from workflows_mcp.cli.checkpoints import when
from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.failures import CommandError, UsageError, one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id, command_line
from workflows_mcp.cli.page import Page, print_json, say
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
    *checkpoint_ids: _CheckpointId,
    force: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Delete checkpoints for good. One that a run still needs, or that is pinned, goes by `--force` alone.

    Of several, none is deleted if one is not there, or is not to be deleted.

    Args:
        checkpoint_ids: The checkpoints; a run as a whole is deleted by `runs delete`.
        force: Delete them although one is pinned, waits for an answer, is held by a process, or is what a run that can
            be recovered goes on from.
        options: What every command takes.

    Returns:
        0.
    """
    from workflows_mcp.engine.stored_checkpoints import find_metadata, run_of

    if not checkpoint_ids:
        raise UsageError("name the checkpoints that are to be deleted")
    for checkpoint_id in checkpoint_ids:
        check_id("the checkpoint's id", checkpoint_id)
    deleted: list[CheckpointMetadata] = []
    async with open_store(options) as store:
        doomed: list[CheckpointMetadata] = []
        for checkpoint_id in dict.fromkeys(checkpoint_ids):
            found = await find_metadata(store, checkpoint_id)
            if found is None:
                raise _no_such_checkpoint(checkpoint_id, options)
            if not force:
                await _require_spare(store, found)
            doomed.append(found)
        await _delete(store, doomed, deleted, options)
    if options.json:
        told = [
            {"checkpoint_id": one.checkpoint_id, "deleted": True, "stored_bytes": one.stored_bytes} for one in deleted
        ]
        print_json(told[0] if len(checkpoint_ids) == 1 else {"checkpoints": told})
    else:
        out = Page(sys.stdout)
        for one in deleted:
            size = shown_bytes(one.stored_bytes)
            out.line(one_line(f"deleted: checkpoint {one.checkpoint_id} ({size}) of {run_of(one)}"))
    return 0


async def _delete(
    store: "CheckpointStore",
    doomed: "list[CheckpointMetadata]",
    deleted: "list[CheckpointMetadata]",
    options: Options,
) -> None:
    """Delete some, the newest first: what is a delta of another one goes before it.

    One that is refused since others need it is tried again once some of these are gone.
    """
    from workflows_mcp.errors import CheckpointDecodeError

    doomed.sort(key=lambda one: one.created_at, reverse=True)
    while doomed:
        refusals: list[tuple[CheckpointMetadata, CheckpointDecodeError]] = []
        for one in doomed:
            try:
                if not await store.delete_checkpoint(one.checkpoint_id):
                    raise _no_such_checkpoint(one.checkpoint_id, options)
            except CheckpointDecodeError as error:
                refusals.append((one, error))
            else:
                deleted.append(one)
        if len(refusals) == len(doomed):
            for one in deleted:
                say(one_line(f"deleted before: checkpoint {one.checkpoint_id}"))
            raise refusals[0][1]
        doomed = [one for one, _ in refusals]


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
