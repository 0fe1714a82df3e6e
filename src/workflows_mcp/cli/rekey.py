"""`checkpoints rekey`: seals what is stored with the newest key."""

import asyncio
import dataclasses
import functools
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.failures import EXIT_ERROR, InterruptedRunError, one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, command_line
from workflows_mcp.cli.page import Page, print_json, say
from workflows_mcp.cli.progress import progress
from workflows_mcp.cli.signals import cancelled_by_signals
from workflows_mcp.documents import document

if TYPE_CHECKING:
    from workflows_mcp.persistence.rekeying import Rekeyed

__all__ = ["rekey_command"]


async def rekey_command(
    *,
    decrypt: Annotated[bool, Parameter(negative=())] = False,
    batch: Annotated[int, Parameter(validator=Number(gte=1, lte=500))] = 100,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Seal all checkpoints with the newest key, those that are in plain text included, while others save and load.

    It may be stopped at any time, and goes on where it was when it is run again.

    Args:
        decrypt: Take the seals off instead; WORKFLOWS_ENCRYPTION must be off.
        batch: The most checkpoints of one commit.
        options: What every command takes.

    Returns:
        0; 1 when some could not be opened, or are saved by processes with other keys, or locked.
    """
    from workflows_mcp.persistence.rekeying import rekey_checkpoints

    words = ("checkpoints", "rekey", *(["--decrypt"] if decrypt else []))
    async with open_store(options) as store:
        try:
            with cancelled_by_signals(), progress("checkpoints", "looked at") as told:
                looked_at = functools.partial(told, "looked at")
                done = await rekey_checkpoints(store, decrypt=decrypt, batch=batch, on_progress=looked_at)
        except asyncio.CancelledError:
            again = command_line(*words, options=options)
            raise InterruptedRunError(f"what is done stays done; go on with: {again}") from None
    if options.json:
        print_json(dataclasses.asdict(done))
    else:
        _tell(done, options, decrypt=decrypt)
    return EXIT_ERROR if done.failed or done.left else 0


def _tell(done: "Rekeyed", options: Options, *, decrypt: bool) -> None:
    page = Page(sys.stdout)
    what = "are in plain text now" if decrypt else "were sealed"
    page.line(f"{done.changed:,} of {done.total:,} checkpoints {what}")
    for checkpoint_id, why in done.failures.items():
        say(one_line(f"left as it is: {checkpoint_id!r}: {why}"))
    if done.failed > len(done.failures):
        say(f"left as they are: {done.failed - len(done.failures):,} more")
    if done.left:
        say(
            f"{done.left:,} were saved with another key meanwhile, or somebody holds a lock on them: give all "
            "processes the same keys, and run this again"
        )
    elif not done.failed and not decrypt:
        page.line(
            "This database needs no other key than the newest; its backups need those that they were made with; see: "
            f"{command_line('keys', 'list', options=options)}"
        )
    if done.changed:
        vacuum = command_line("db", "vacuum", options=options)
        page.line(f"Free space of the database may still hold what was there before; give it back with: {vacuum}")
        page.line(f"What else may hold it: {document('encryption')}")
