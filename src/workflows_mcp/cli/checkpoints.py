"""`checkpoints list` and `checkpoints show`: what is stored."""

import dataclasses
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.durations import parse_moment
from workflows_mcp.cli.failures import CommandError, UsageError, one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id, command_line
from workflows_mcp.cli.page import Page, print_json
from workflows_mcp.persistence.sizes import brief_bytes, shown_bytes

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint import CheckpointMetadata

__all__ = ["check_cursor", "in_short", "list_command", "show_checkpoints", "show_command", "when"]

_Status = Literal["running", "paused", "completed", "failed", "cancelled"]


async def list_command(
    *,
    workflow: str | None = None,
    run: str | None = None,
    status: _Status | None = None,
    paused: bool | None = None,
    contains: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=1_000_000))] = 20,
    before: str | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """List checkpoints, the newest first.

    Args:
        workflow: Only this workflow's.
        run: Only this run's.
        status: Only those saved with this status.
        paused: Only those that wait for an answer, or only the others.
        contains: Only those with this text in their id or their run's.
        since: Only those created then or later: 2026-11-27, 2026-11-27T10:30, Unix seconds, or an age such as 2h.
        until: Only those created earlier.
        limit: The most to show.
        before: Go on after a page: the cursor that it ended with.
        options: What every command takes.

    Returns:
        0. A database that does not exist is an error, and is not created.
    """
    if run is not None:
        check_id("--run", run)
    if contains is not None:
        check_id("--contains", contains)
    first, end = parse_moment("--since", since), parse_moment("--until", until)
    check_cursor(before)
    async with open_store(options) as store:
        # One more than asked for tells whether there is another page.
        found = await store.list_checkpoints(
            workflow,
            run_id=run,
            status=status,
            is_paused=paused,
            created_after=first,
            created_before=end,
            id_contains=contains,
            limit=limit + 1,
            before=before,
        )
    page = found[:limit]
    cursor = page[-1].cursor if len(found) > limit else None
    if options.json:
        print_json({"checkpoints": [dataclasses.asdict(one) for one in page], "next": cursor})
        return 0
    out = Page(sys.stdout)
    if not page:
        out.line("There are no checkpoints here." if before is None else "There are no more checkpoints.")
        return 0
    show_checkpoints(out, page)
    if cursor is not None:
        out.line(f"There are more: go on with --before {cursor}")
    return 0


async def show_command(
    checkpoint_id: Annotated[str, Parameter(name="CHECKPOINT")],
    /,
    *,
    meta: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Show a checkpoint: what is known of it, and the state itself.

    Args:
        checkpoint_id: The checkpoint.
        meta: Only what is known of it, also of one that is damaged; the state is not shown.
        options: What every command takes.

    Returns:
        0.
    """
    from workflows_mcp.engine.stored import listing_of
    from workflows_mcp.engine.stored_checkpoints import find_metadata

    check_id("the checkpoint's id", checkpoint_id)
    state = None
    async with open_store(options) as store:
        if meta:
            metadata = await find_metadata(store, checkpoint_id)
        else:
            state = await store.load_checkpoint(checkpoint_id)
            metadata = None if state is None else await listing_of(store, state)
        bases = await store.list_bases(checkpoint_id) if metadata is not None and metadata.is_delta else []
        needing = await store.count_needing(checkpoint_id) if metadata is not None else 0
    if metadata is None:
        listing = command_line("checkpoints", "list", options=options)
        raise CommandError(f"there is no checkpoint {checkpoint_id!r}; those that there are: {listing}")
    try:
        about, value = dataclasses.asdict(metadata), None if state is None else dataclasses.asdict(state)
        if options.json:
            known = {"metadata": about, "bases": [one.checkpoint_id for one in bases], "needed_by": needing}
            print_json(known if meta else {**known, "state": value})
            return 0
        text = None if meta else json.dumps(value, ensure_ascii=False, indent=2)
    except RecursionError:
        raise CommandError(f"the state of checkpoint {checkpoint_id!r} is nested too deeply to be shown") from None
    out = Page(sys.stdout)
    about["created_at"] = when(metadata.created_at)
    width = max(map(len, about))
    for name, known in about.items():
        out.line(f"{name:<{width}}  {'-' if known is None else one_line(str(known))}")
    out.line(f"{'stored':<{width}}  {one_line(_how_stored(metadata, bases))}")
    if needing:
        out.line(f"{'needed':<{width}}  to load {needing:,} other{'s' if needing > 1 else ''}")
    if text is not None:
        out.heading("state")
        out.line(text)
    return 0


def show_checkpoints(page: Page, checkpoints: "list[CheckpointMetadata]", *, of_one_run: bool = False) -> None:
    """Print a table of checkpoints.

    Args:
        page: Where.
        checkpoints: What is in it.
        of_one_run: Whether workflow and run are known, and left out.
    """
    columns = ["created", "status", "waves", "stored", "full", "checkpoint"]
    rows = [[when(one.created_at), *in_short(one), str(one.checkpoint_id)] for one in checkpoints]
    if not of_one_run:
        columns[5:5] = ["workflow", "run"]
        for row, one in zip(rows, checkpoints, strict=True):
            row[5:5] = [one.workflow_name, one.run_id or "-"]
    page.table(columns, rows)


def in_short(checkpoint: "CheckpointMetadata") -> tuple[str, str, str, str]:
    """The status, the number of waves that are done, and the sizes as stored and as plain JSON."""
    sizes = brief_bytes(checkpoint.stored_bytes), brief_bytes(checkpoint.full_bytes)
    return str(checkpoint.status), str(checkpoint.current_wave_index), *sizes


def _how_stored(checkpoint: "CheckpointMetadata", bases: "list[CheckpointMetadata]") -> str:
    if not checkpoint.is_delta:
        return "whole"
    if not bases:  # it was stored anew meanwhile
        return "as a delta"
    read = checkpoint.stored_bytes + sum(one.stored_bytes for one in bases)
    return (
        f"as a delta of {bases[0].checkpoint_id}; loading it reads {len(bases) + 1:,} checkpoints, {shown_bytes(read)}"
    )


def when(seconds: float) -> str:
    """A Unix time as a date and time in the local zone; the number itself where there is no such date."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError, TypeError):  # of the last kind is what no store has written
        return repr(seconds)


def check_cursor(before: str | None) -> None:
    """Make sure that what was typed after `--before` is a cursor.

    Raises:
        UsageError: It is not.
    """
    from workflows_mcp.engine.filters import position_before

    try:
        position_before(before)
    except ValueError:
        raise UsageError("--before takes the cursor that a page ended with") from None
