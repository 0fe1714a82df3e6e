"""The `workflows-mcp` command."""

import sys

__all__ = ["main"]


def main() -> None:
    """Do what the command line says, and end the process with the exit code for it.

    0: it went well, or the run waits for an answer. 1: it failed. 2: the command line itself is wrong. 3: the run was
    cancelled. 130: interrupted.
    """
    try:
        from workflows_mcp.cli.entry import run_command_line

        code = run_command_line(sys.argv[1:])
    except KeyboardInterrupt:  # before, or after, there was anything to interrupt
        code = 130
    sys.exit(code)
