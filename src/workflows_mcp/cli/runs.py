"""`run`, `resume`, `recover`: the commands that let a workflow work."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from workflows_mcp.cli.database import is_in_memory, open_store
from workflows_mcp.cli.failures import CommandError, InterruptedRunError, UsageError, one_line
from workflows_mcp.cli.live import Watcher, watch_run
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id, command_line
from workflows_mcp.cli.page import Page, say
from workflows_mcp.cli.results import print_result
from workflows_mcp.cli.signals import cancelled_by_signals

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint import CheckpointState
    from workflows_mcp.engine.checkpoint_store import CheckpointStore
    from workflows_mcp.engine.executor import WorkflowExecutor, WorkflowResult

__all__ = ["parse_inputs", "recover", "resume", "run"]

_Work = Callable[["WorkflowExecutor"], Awaitable["WorkflowResult"]]


async def run(
    file: Path,
    /,
    *,
    inputs: Annotated[list[str] | None, Parameter(name="--input", negative=(), allow_leading_hyphen=True)] = None,
    run_id: str | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Run a workflow, to its end or to a question.

    Args:
        file: The workflow's YAML file.
        inputs: An input of the workflow, as NAME=VALUE; once for each input.
        run_id: Names the run. One that there is already does not run again; its result is shown.
        options: What every command takes.

    Returns:
        0: it succeeded, or waits for an answer; 1: it failed, or somebody else is at it.
    """
    given = parse_inputs(inputs or [])
    if run_id is not None:
        check_id("--run-id", run_id)
    from workflows_mcp.engine.executor import WorkflowExecutor

    # Read before there is a database, so that a mistake in it does not leave a new one behind.
    workflow = WorkflowExecutor().load_workflow(file)
    async with open_store(options, create=True, memory=True) as store:
        result = await _watched(
            store, lambda executor: executor.execute_workflow(workflow, given, run_id=run_id), options, name_idle=True
        )
    return print_result(result, options)


def resume(
    checkpoint_id: Annotated[str, Parameter(name="CHECKPOINT")],
    /,
    *,
    response: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Answer the question that a run waits with, and let it go on.

    Args:
        checkpoint_id: The checkpoint that waits, as `run` printed it. `checkpoints list --paused` shows those of all
            pauses, answered ones too: the newest of its run waits.
        response: The answer; `-` reads it from stdin. Without it you are asked, on a terminal.
        options: What every command takes.

    Returns:
        0: the run succeeded, or waits for the next answer; 1: it failed.
    """
    check_id("the checkpoint's id", checkpoint_id)
    # Read outside the event loop, which would keep Ctrl-C from ending a read.
    if response == "-":
        response = sys.stdin.read().removesuffix("\n")
    elif response is None:
        response = _ask(checkpoint_id, options)
    return asyncio.run(_resume(checkpoint_id, response, options))


async def recover(run_id: Annotated[str, Parameter(name="RUN_ID")], /, *, options: Options = DEFAULT_OPTIONS) -> int:
    """Let a run go on whose process died, from its newest checkpoint.

    Make sure that the process is dead: nothing keeps two of them from running the same blocks.

    Args:
        run_id: The run, as `run` printed it. The newest checkpoint of a run that has not ended and does not wait says
            running: `checkpoints list --run RUN_ID --limit 1`.
        options: What every command takes.

    Returns:
        0: the run succeeded, or waits for an answer; 1: it failed.
    """
    check_id("the run's id", run_id)
    async with open_store(options) as store:
        result = await _watched(store, lambda executor: executor.recover(run_id), options)
    return print_result(result, options)


def parse_inputs(words: list[str]) -> dict[str, str]:
    """The inputs that were typed as `NAME=VALUE`.

    Raises:
        UsageError: One is not of this form, or was given twice.
    """
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise UsageError(f"--input takes NAME=VALUE, and {word!r} is not of that form")
        if name in given:
            raise UsageError(f"--input {name}=… was given twice")
        given[name] = value
    return given


async def _resume(checkpoint_id: str, response: str, options: Options) -> int:
    from workflows_mcp.errors import CheckpointAlreadyClaimedError, CheckpointNotFoundError

    async with open_store(options) as store:
        try:
            result = await _watched(store, lambda executor: executor.resume_workflow(checkpoint_id, response), options)
        except CheckpointNotFoundError:
            raise _not_waiting(checkpoint_id, "there is no such checkpoint", options) from None
        except CheckpointAlreadyClaimedError as error:
            state = await store.load_checkpoint(checkpoint_id)
            run_id = "" if state is None or state.run_id is None else state.run_id
            listing = command_line("checkpoints", "list", "--run", run_id, "--limit", "1", options=options)
            raise CommandError(f"{error}: {listing}") from None
    return print_result(result, options)


def _ask(checkpoint_id: str, options: Options) -> str:
    if not sys.stdin.isatty():
        raise UsageError("give the answer with --response TEXT; with --response - it is read from stdin")
    state = asyncio.run(_load(checkpoint_id, options))
    if state is None:
        raise _not_waiting(checkpoint_id, "there is no such checkpoint", options)
    if not state.is_paused:
        raise _not_waiting(checkpoint_id, f"it is {state.status.value}", options)
    try:
        Page(sys.stderr).line(state.pause_prompt or "")
        sys.stderr.write("> ")
        sys.stderr.flush()
    except OSError:
        raise CommandError("the question cannot be shown on stderr; the run still waits") from None
    answer = sys.stdin.readline()
    if not answer:
        raise CommandError("no answer was given; the run still waits")
    return answer.removesuffix("\n")


def _not_waiting(checkpoint_id: str, why: str, options: Options) -> CommandError:
    listing = command_line("checkpoints", "list", "--paused", options=options)
    return CommandError(f"checkpoint {checkpoint_id!r} does not wait for an answer: {why}; those that do: {listing}")


async def _load(checkpoint_id: str, options: Options) -> "CheckpointState | None":
    async with open_store(options) as store:
        return await store.load_checkpoint(checkpoint_id)


async def _watched(
    store: "CheckpointStore", work: _Work, options: Options, *, name_idle: bool = False
) -> "WorkflowResult":
    """Let an executor do some work, and show on stderr what it does; or, with `name_idle`, that it did nothing."""
    from workflows_mcp.engine.executor import WorkflowExecutor
    from workflows_mcp.errors import CheckpointStoreError

    async with watch_run(Page(sys.stderr)) as watcher:
        try:
            with cancelled_by_signals():
                result = await work(WorkflowExecutor(store, on_event=watcher))
        except CheckpointStoreError as error:
            if watcher.run_id is None:
                raise
            raise CommandError(f"{error}; {_how_to_go_on(watcher, options)}") from error
        except asyncio.CancelledError:
            raise InterruptedRunError(_how_to_go_on(watcher, options)) from None
    if name_idle and watcher.run_id is None:
        say(one_line(f"run {result.run_id} is there already: nothing ran"))
    return result


def _how_to_go_on(watcher: Watcher, options: Options) -> str:
    if watcher.run_id is None:
        return "the run had not begun"
    if is_in_memory(options.settings()):
        return "the run was kept in memory, and is gone"
    return f"go on with: {command_line('recover', watcher.run_id, options=options)}"
