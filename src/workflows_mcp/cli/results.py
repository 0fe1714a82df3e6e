"""What a run has come to, told to people and to programs."""

import json
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from workflows_mcp.cli.failures import EXIT_CANCELLED, EXIT_ERROR, one_line
from workflows_mcp.cli.log import is_json
from workflows_mcp.cli.options import Options, command_line
from workflows_mcp.cli.page import Page, print_json, say
from workflows_mcp.engine.deep import text_if_shallow
from workflows_mcp.wiring import is_in_memory

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint_store import CheckpointStore
    from workflows_mcp.engine.executor import WorkflowResult

__all__ = ["print_result", "print_results", "show_outputs", "show_result", "tell_end", "what_is_taken"]

_MOST_CHOICES = 20


async def print_result(result: "WorkflowResult", store: "CheckpointStore", options: Options) -> int:
    """Print a result on stdout, and on stderr why it is no success.

    Args:
        result: What the run has come to.
        store: Keeps it, and with it what its question takes.
        options: What was typed.

    Returns:
        The exit code.
    """
    if options.json:
        print_json(result.to_dict())
    else:
        await _show(result, store, options)
    return tell_end(result, options)


async def print_results(results: "list[WorkflowResult]", store: "CheckpointStore", options: Options) -> int:
    """The same for any number of runs.

    Returns:
        The exit code: of a failure, if there is one among them.
    """
    if options.json:
        print_json({"runs": [result.to_dict() for result in results]})
    else:
        for result in results:
            await _show(result, store, options)
    codes = [tell_end(result, options) for result in results]
    return EXIT_ERROR if EXIT_ERROR in codes else max(codes, default=0)


def show_result(result: "WorkflowResult", pause_metadata: Mapping[str, Any] | None, options: Options) -> None:
    """Print a result on stdout for people: its outputs, or its question and the command that answers it.

    Args:
        result: What the run has come to.
        pause_metadata: What its question told besides.
        options: What was typed.
    """
    page = Page(sys.stdout)
    page.line(f"{result.status}: run {result.run_id}", style="bold green" if result.is_success else "bold yellow")
    if result.is_success:
        show_outputs(page, result.outputs)
    if not result.is_paused or result.checkpoint_id is None:
        return
    taken = what_is_taken(pause_metadata)
    page.line()
    page.line(result.prompt or "")
    page.line()
    if is_in_memory(options.settings()):
        page.line("This run was kept in memory and ends here: name a database to be able to answer.")
        return
    page.line(f"Answer with TEXT, {taken}:" if taken else "Answer with:")
    page.line(
        "  " + command_line("resume", "--response", "TEXT", ids=[result.checkpoint_id], options=options), style="bold"
    )
    if options.leaves_out_password:
        page.line("(with the password in place of ***, or in ~/.pgpass and without PGPASSWORD)")


def tell_end(result: "WorkflowResult", options: Options) -> int:
    """Say on stderr why a result is no success, if it is none.

    Returns:
        The exit code.
    """
    if result.is_success or result.is_paused:
        return 0
    sys.stdout.flush()
    say(f"error: {one_line(_what_went_wrong(result, options))}")
    return EXIT_CANCELLED if result.status == "cancelled" else EXIT_ERROR


def what_is_taken(pause_metadata: Mapping[str, Any] | None) -> str | None:
    """What a question takes for an answer; None: any text."""
    told = pause_metadata or {}
    choices = told.get("choices")
    if isinstance(choices, list) and choices:  # anything else is no question of ours
        more = len(choices) - _MOST_CHOICES
        named = text_if_shallow(lambda: ", ".join(map(str, choices[:_MOST_CHOICES])))
        return f"one of: {named}{f' and {more} more' if more > 0 else ''}"
    return text_if_shallow(lambda: f"which must match {told['pattern']}") if "pattern" in told else None


def show_outputs(page: Page, outputs: dict[str, object]) -> None:
    """Print a run's outputs, each under its name."""
    for name, value in outputs.items():
        text = value if isinstance(value, str) else text_if_shallow(partial(json.dumps, value, ensure_ascii=False))
        lines = text.rstrip("\n").split("\n")
        if len(lines) == 1:
            page.line(f"  {name}: {lines[0]}")
            continue
        page.line(f"  {name}:")
        for line in lines:
            page.line(f"    {line}".rstrip())


async def _show(result: "WorkflowResult", store: "CheckpointStore", options: Options) -> None:
    asking = result.checkpoint_id if result.is_paused else None
    state = None if asking is None else await store.load_checkpoint(asking)
    show_result(result, None if state is None else state.pause_metadata, options)


def _what_went_wrong(result: "WorkflowResult", options: Options) -> str:
    if result.status == "failure":
        if is_json():  # a log outlives the run, and what a block printed has no place in it
            return (
                f"run {result.run_id} failed; why: {command_line('runs', 'show', ids=[result.run_id], options=options)}"
            )
        return f"run {result.run_id} failed: {result.error}"
    if result.status == "cancelled":
        fork = command_line("runs", "fork", ids=[result.checkpoint_id or ""], options=options)
        return f"run {result.run_id} was cancelled; a run of its own begins where it was with: {fork}"
    return (
        f"run {result.run_id} is at work in another process, or its process died; if it died, go on with: "
        + command_line("recover", ids=[result.run_id], options=options)
    )
