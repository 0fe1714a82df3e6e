"""What a run has come to, told to people and to programs."""

import json
import sys
from typing import TYPE_CHECKING

from workflows_mcp.cli.database import is_in_memory
from workflows_mcp.cli.failures import EXIT_ERROR, one_line
from workflows_mcp.cli.options import Options, command_line
from workflows_mcp.cli.page import Page, print_json, say

if TYPE_CHECKING:
    from workflows_mcp.engine.executor import WorkflowResult

__all__ = ["print_result", "show_outputs"]


def print_result(result: "WorkflowResult", options: Options) -> int:
    """Print a result on stdout, and on stderr why it is a failure.

    Returns:
        The exit code.
    """
    if options.json:
        print_json(result.to_dict())
    else:
        _show(result, options)
    if result.is_success or result.is_paused:
        return 0
    sys.stdout.flush()
    say(f"error: {one_line(_what_went_wrong(result, options))}")
    return EXIT_ERROR


def _show(result: "WorkflowResult", options: Options) -> None:
    page = Page(sys.stdout)
    page.line(f"{result.status}: run {result.run_id}", style="bold green" if result.is_success else "bold yellow")
    if result.is_success:
        show_outputs(page, result.outputs)
    if not result.is_paused or result.checkpoint_id is None:
        return
    page.line()
    page.line(result.prompt or "")
    page.line()
    if is_in_memory(options.settings()):
        page.line("This run was kept in memory and ends here: name a database to be able to answer.")
        return
    page.line("Answer with:")
    page.line("  " + command_line("resume", result.checkpoint_id, "--response", "TEXT", options=options), style="bold")
    if options.database_url is not None and options.words()[1] != options.database_url:
        page.line("(with the password put back into the URL, or the URL in WORKFLOWS_DATABASE_URL)")


def show_outputs(page: Page, outputs: dict[str, object]) -> None:
    """Print a run's outputs, each under its name."""
    for name, value in outputs.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines = text.rstrip("\n").split("\n")
        if len(lines) == 1:
            page.line(f"  {name}: {lines[0]}")
            continue
        page.line(f"  {name}:")
        for line in lines:
            page.line(f"    {line}".rstrip())


def _what_went_wrong(result: "WorkflowResult", options: Options) -> str:
    if result.status == "failure":
        return f"run {result.run_id} failed: {result.error}"
    if result.status == "cancelled":
        return f"run {result.run_id} was cancelled"
    return (
        f"run {result.run_id} is at work in another process, or its process died; if it died, go on with: "
        + command_line("recover", result.run_id, options=options)
    )
