"""`runs delete`: all that is stored of a run goes for good."""

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from workflows_mcp.cli.asking import confirm
from workflows_mcp.cli.checkpoints import when
from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.failures import CommandError, one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id, command_line
from workflows_mcp.cli.page import Page, print_json
from workflows_mcp.cli.progress import busy
from workflows_mcp.cli.runs import no_such_run
from workflows_mcp.persistence.sizes import shown_bytes

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint_store import CheckpointStore

__all__ = ["delete_command"]

_PAGE = 1000


def delete_command(
    run_id: Annotated[str, Parameter(name="RUN_ID")],
    /,
    *,
    yes: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    vacuum: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Erase a run: all of its checkpoints, pinned ones and one that waits for an answer, too.

    Runs that were forked from it go on living, with what they took over from it.

    Args:
        run_id: The run.
        yes: Do not ask first.
        force: Erase it although a process is at work on it, which learns of it at its next save.
        vacuum: Make the space usable again at once; a SQLite file then holds nothing of it any more.
        options: What every command takes.

    Returns:
        0.
    """
    check_id("the run's id", run_id)
    if not yes:
        found = asyncio.run(_look_first(run_id, options, force=force))
        what = f"{found.checkpoints:,} checkpoints, {shown_bytes(found.stored_bytes)}"
        confirm(f"Run {run_id} is deleted for good: {what}.", yes=False, options=options)
    found, deleted = asyncio.run(_erase(run_id, options, force=force, vacuum=vacuum))
    if options.json:
        print_json({"run_id": run_id, "deleted": deleted, "stored_bytes": found.stored_bytes, "vacuumed": vacuum})
        return 0
    out = Page(sys.stdout)
    out.line(one_line(f"deleted: run {run_id}, {deleted:,} checkpoints, {shown_bytes(found.stored_bytes)}"))
    if not vacuum:
        out.line("What it took up in the database is used again by and by; at once with:")
        out.line(f"  {command_line('db', 'vacuum', options=options)}")
    return 0


@dataclass(frozen=True)
class _Found:
    """What is stored of a run.

    Attributes:
        checkpoints: How many.
        stored_bytes: What their payloads take up.
    """

    checkpoints: int
    stored_bytes: int


async def _look_first(run_id: str, options: Options, *, force: bool) -> _Found:
    async with open_store(options) as store:
        return await _look(store, run_id, options, force=force)


async def _erase(run_id: str, options: Options, *, force: bool, vacuum: bool) -> tuple[_Found, int]:
    async with open_store(options) as store:
        # Again where somebody was asked, which takes as long as people take: a process may have taken the run up.
        found = await _look(store, run_id, options, force=force)
        deleted = await store.delete_run(run_id)
        if vacuum:
            with busy("making the space of what was deleted usable"):
                await store.vacuum()
    return found, deleted


async def _look(store: "CheckpointStore", run_id: str, options: Options, *, force: bool) -> _Found:
    """What is stored of a run.

    Raises:
        CommandError: There is no such run, or a process works on it and `force` does not say that this is no matter.
    """
    count = size = 0
    held_until: float | None = None
    page = await store.list_checkpoints(run_id=run_id, limit=_PAGE)
    while page:
        count += len(page)
        size += sum(one.stored_bytes for one in page)
        ends = [one.lease_expires_at for one in page if (one.lease_expires_at or 0.0) > time.time()]
        held_until = max([held_until, *ends], key=lambda one: one or 0.0)
        page = await store.list_checkpoints(run_id=run_id, limit=_PAGE, before=page[-1])
    if not count:
        raise no_such_run(run_id, store, options)
    if held_until is not None and not force:
        cancel = command_line("runs", "cancel", ids=[run_id], options=options)
        raise CommandError(
            f"run {run_id} was not deleted: a process works on it, and holds it until {when(held_until)} or longer; "
            f"end it first ({cancel}), or delete it all the same with --force"
        )
    return _Found(count, size)
