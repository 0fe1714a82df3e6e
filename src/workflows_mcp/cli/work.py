"""Lets an executor work on a run, while somebody watches and may break it off."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from workflows_mcp.cli.failures import CommandError, InterruptedRunError, one_line
from workflows_mcp.cli.live import Watcher, watch_run
from workflows_mcp.cli.options import Options, command_line
from workflows_mcp.cli.page import Page, say
from workflows_mcp.cli.signals import cancelled_by_signals
from workflows_mcp.wiring import is_in_memory, make_executor

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint_store import CheckpointStore
    from workflows_mcp.engine.executor import WorkflowExecutor

__all__ = ["watched"]

T = TypeVar("T")


async def watched(
    store: "CheckpointStore",
    work: Callable[["WorkflowExecutor"], Awaitable[T]],
    options: Options,
    *,
    idle: Callable[[T], str] | None = None,
    many: bool = False,
) -> T:
    """Let an executor work, show on stderr what it does, and stop it at a signal.

    Args:
        store: Keeps the run.
        work: What the executor is asked for.
        options: What was typed.
        idle: What is said when nothing had to be done; None: nothing.
        many: Whether it may work on several runs.

    Raises:
        CommandError: The store failed, or the run is somebody else's now; the message says how it goes on.
        InterruptedRunError: It was stopped by a signal.
        WorkflowsError: See `WorkflowExecutor`.
    """
    from workflows_mcp.errors import CheckpointStoreError

    settings = options.settings()
    async with watch_run(Page(sys.stderr), many=many) as watcher:
        try:
            with cancelled_by_signals():
                result = await work(make_executor(store, settings, on_event=watcher))
        except CheckpointStoreError as error:
            if watcher.run_id is None or many:
                raise
            raise CommandError(f"{error}; {_what_next(error, watcher.run_id, options)}") from error
        except asyncio.CancelledError:
            raise InterruptedRunError(_how_to_go_on(watcher, options, many=many)) from None
    if idle is not None and watcher.run_id is None:
        say(one_line(idle(result)))
    return result


def _what_next(error: Exception, run_id: str, options: Options) -> str:
    from workflows_mcp.errors import CheckpointAlreadyClaimedError, LeaseLostError

    if isinstance(error, LeaseLostError | CheckpointAlreadyClaimedError):
        return f"see what becomes of it: {command_line('runs', 'show', ids=[run_id], options=options)}"
    return f"go on with: {command_line('recover', ids=[run_id], options=options)}"


def _how_to_go_on(watcher: Watcher, options: Options, *, many: bool) -> str:
    if many:
        return f"go on with: {command_line('recover', options=options)}"
    if watcher.run_id is None:
        return "nothing had begun"
    if is_in_memory(options.settings()):
        return "the run was kept in memory, and is gone"
    return f"go on with: {command_line('recover', ids=[watcher.run_id], options=options)}"
