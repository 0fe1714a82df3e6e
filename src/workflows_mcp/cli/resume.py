"""`resume`: the answer to the question that a run waits with."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.failures import CommandError, UsageError
from workflows_mcp.cli.log import is_json
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id, command_line
from workflows_mcp.cli.page import Page
from workflows_mcp.cli.results import print_result, what_is_taken
from workflows_mcp.cli.work import watched

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint import CheckpointState

__all__ = ["resume"]


def resume(
    checkpoint_id: Annotated[str, Parameter(name="CHECKPOINT")],
    /,
    *,
    response: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    definition: Literal["saved", "current"] = "saved",
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Answer the question that a run waits with, and let it go on.

    Args:
        checkpoint_id: The checkpoint that waits, as `run` printed it; `runs list --status paused` shows them all.
        response: The answer; `-` reads it from stdin. Without it you are asked, on a terminal.
        definition: Go on with the workflow as it was `saved` with the run, or as it is in the library now, `current`.
        options: What every command takes.

    Returns:
        0: the run succeeded, or waits for the next answer; 1: it failed; 3: it was cancelled.
    """
    check_id("the checkpoint's id", checkpoint_id)
    # Read outside the event loop, which would keep Ctrl-C from ending a read.
    if response == "-":
        response = sys.stdin.read().removesuffix("\n")
    elif response is None:
        response = _ask(checkpoint_id, options)
    return asyncio.run(_resume(checkpoint_id, response, definition, options))


async def _resume(checkpoint_id: str, response: str, definition: Literal["saved", "current"], options: Options) -> int:
    from workflows_mcp.errors import CheckpointAlreadyClaimedError, CheckpointNotFoundError

    async with open_store(options) as store:
        try:
            result = await watched(
                store,
                lambda executor: executor.resume_workflow(checkpoint_id, response, definition=definition),
                options,
            )
        except CheckpointNotFoundError:
            raise _not_waiting(checkpoint_id, "there is no such checkpoint", options) from None
        except CheckpointAlreadyClaimedError:
            state = await store.load_checkpoint(checkpoint_id)
            run_id = "" if state is None or state.run_id is None else state.run_id
            raise CommandError(
                f"checkpoint {checkpoint_id!r} was answered already, or is being answered now: run {run_id} goes on "
                f"without this answer; see {command_line('runs', 'show', ids=[run_id], options=options)}"
            ) from None
        return await print_result(result, store, options)


def _ask(checkpoint_id: str, options: Options) -> str:
    """The answer of whoever sits at the terminal, asked for until it is one that the block takes."""
    state = asyncio.run(_load_waiting(checkpoint_id, options))
    taken = what_is_taken(state.pause_metadata)
    if not sys.stdin.isatty() or is_json():
        text = f"TEXT, {taken}" if taken else "TEXT"
        raise UsageError(f"give the answer with --response {text}; with --response - it is read from stdin")
    page = Page(sys.stderr)
    try:
        page.line(state.pause_prompt or "")
        if taken:
            page.line(f"({taken})")
        while True:
            answer = _read_line()
            flaw = _flaw_of(answer, state)
            if flaw is None:
                return answer
            page.line(flaw)
    except OSError:
        raise CommandError("the question cannot be shown on stderr; the run still waits") from None


def _read_line() -> str:
    sys.stderr.write("> ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise CommandError("no answer was given; the run still waits")
    return answer.removesuffix("\n")


def _flaw_of(answer: str, state: "CheckpointState") -> str | None:
    """Why the block does not take an answer; None: it does."""
    from workflows_mcp.engine.progress import Progress

    question = next(Progress.from_state(state, lambda _: None).questions())
    try:
        question.outputs_for(answer)
    except ValueError as error:
        return str(error)
    return None


def _not_waiting(checkpoint_id: str, why: str, options: Options) -> CommandError:
    listing = command_line("runs", "list", "--status", "paused", options=options)
    return CommandError(f"checkpoint {checkpoint_id!r} does not wait for an answer: {why}; what waits: {listing}")


async def _load_waiting(checkpoint_id: str, options: Options) -> "CheckpointState":
    from workflows_mcp.engine.stored import listing_of

    async with open_store(options) as store:
        state = await store.load_checkpoint(checkpoint_id)
        metadata = None if state is None else await listing_of(store, state)
    if state is None or metadata is None:
        raise _not_waiting(checkpoint_id, "there is no such checkpoint", options)
    if not metadata.is_paused:
        why = "it was answered, or its run cancelled" if state.is_paused else f"it is {state.status.value}"
        raise _not_waiting(checkpoint_id, why, options)
    return state
