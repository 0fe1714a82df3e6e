"""`watch`: what a run is doing, wherever it runs."""

import asyncio
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.failures import InterruptedRunError
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id
from workflows_mcp.cli.results import show_result, tell_end
from workflows_mcp.cli.runs import no_such_run
from workflows_mcp.cli.signals import cancelled_by_signals
from workflows_mcp.cli.views import result_of_view, view_run

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint_store import CheckpointStore
    from workflows_mcp.engine.run_details import RunDetails

__all__ = ["watch"]


async def watch(
    run_id: Annotated[str, Parameter(name="RUN_ID")],
    /,
    *,
    keep: Annotated[bool, Parameter(negative=())] = False,
    wait: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Watch a run, whichever process works on it: its blocks and waves as they go, up to its end or its question.

    What is shown is what was saved: after each wave, or each block if the run is told to. On a terminal it is a table
    that is kept up to date; elsewhere a line for each change; with --json an object a line, the first with all blocks,
    the others with those that changed.

    Args:
        run_id: The run.
        keep: Go on when the run waits for an answer, up to its end.
        wait: Wait for the run to begin, if there is none of this id yet.
        options: What every command takes.

    Returns:
        0: the run succeeded, or waits for an answer; 1: it failed; 3: it was cancelled. To stop watching does nothing
        to the run.
    """
    check_id("the run's id", run_id)
    async with open_store(options) as store:
        try:
            with cancelled_by_signals():
                return await _watch(store, run_id, options, keep=keep, wait=wait)
        except asyncio.CancelledError:
            raise InterruptedRunError("the run was only watched, and is as it was") from None


async def _watch(store: "CheckpointStore", run_id: str, options: Options, *, keep: bool, wait: bool) -> int:
    from workflows_mcp.engine.secrets import Secrets
    from workflows_mcp.engine.watching import views_of_run
    from workflows_mcp.errors import CheckpointNotFoundError

    last: RunDetails | None = None
    with view_run(options, keep=keep) as view:
        try:
            views = views_of_run(
                store,
                run_id,
                Secrets(),
                keep=keep,
                wait=wait,
                on_unavailable=view.tell_trouble,
                on_available=view.end_trouble,
            )
            async for last in views:
                view.show(last)
        except CheckpointNotFoundError:
            if last is not None:
                raise
            raise no_such_run(run_id, store, options, ": --wait waits until it begins") from None
    assert last is not None
    result = result_of_view(last)
    if not options.json:
        show_result(result, last.pause_metadata, options)
    return tell_end(result, options)
