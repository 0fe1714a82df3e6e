"""`runs delete`: all that is stored of a run goes for good."""

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Annotated

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
    found = asyncio.run(_look(run_id, options))
    if found.held_until is not None and not force:
        cancel = command_line("runs", "cancel", run_id, options=options)
        raise CommandError(
            f"run {run_id} was not deleted: a process works on it, and holds it until {when(found.held_until)} or "
            f"longer; end it first ({cancel}), or delete it all the same with --force"
        )
    what = f"{found.checkpoints:,} checkpoints, {shown_bytes(found.stored_bytes)}"
    confirm(f"Run {run_id} is deleted for good: {what}.", yes=yes, options=options)
    deleted = asyncio.run(_erase(run_id, options, vacuum=vacuum))
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
        held_until: When the lease ends by which a process holds it, in Unix seconds; None: nobody does.
    """

    checkpoints: int
    stored_bytes: int
    held_until: float | None


async def _look(run_id: str, options: Options) -> _Found:
    count = size = 0
    held_until: float | None = None
    async with open_store(options) as store:
        page = await store.list_checkpoints(run_id=run_id, limit=_PAGE)
        while page:
            count += len(page)
            size += sum(one.stored_bytes for one in page)
            ends = [one.lease_expires_at for one in page if (one.lease_expires_at or 0.0) > time.time()]
            held_until = max([held_until, *ends], key=lambda one: one or 0.0)
            page = await store.list_checkpoints(run_id=run_id, limit=_PAGE, before=page[-1])
    if not count:
        raise no_such_run(run_id, options)
    return _Found(count, size, held_until)


async def _erase(run_id: str, options: Options, *, vacuum: bool) -> int:
    async with open_store(options) as store:
        deleted = await store.delete_run(run_id)
        if vacuum:
            with busy("making the space of what was deleted usable"):
                await store.vacuum()
    return deleted
