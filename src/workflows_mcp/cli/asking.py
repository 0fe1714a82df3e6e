"""Asks whoever sits at the terminal before something is done that cannot be undone."""

import sys

from workflows_mcp.cli.failures import CommandError, UsageError, one_line
from workflows_mcp.cli.options import Options

__all__ = ["confirm"]


def confirm(question: str, *, yes: bool, options: Options) -> None:
    """Go on only when it was agreed to.

    Args:
        question: What is asked.
        yes: Whether that was typed already.
        options: What every command takes; nobody is asked with `--json`.

    Raises:
        UsageError: Nobody can be asked.
        CommandError: The answer is no.
    """
    if yes:
        return
    if options.json or not sys.stdin.isatty():
        raise UsageError(f"{one_line(question)} Say so with --yes: there is no terminal to ask on")
    sys.stderr.write(f"{one_line(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandError("nothing was changed")
