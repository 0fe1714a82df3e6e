"""From the words of a command line to an exit code: the only place that ends in an error for people."""

import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import TextIO

from workflows_mcp.cli.failures import EXIT_INTERRUPTED, explain
from workflows_mcp.cli.log import begin_logging, configure_logging, log_failure
from workflows_mcp.cli.signals import ignore_late_signals, interrupted_exit_code, obey_signals

__all__ = ["run_command_line"]

_EXIT_CLOSED_PIPE = 128 + signal.SIGPIPE


def run_command_line(words: Sequence[str]) -> int:
    """Do what the words say; without any, `serve`. Whatever goes wrong becomes one line on stderr.

    Returns:
        The exit code.
    """
    words = words or ["serve"]  # MCP clients start the bare command
    _prepare_streams()
    begin_logging(words)
    obey_signals()
    try:
        code = _call(words)
        ignore_late_signals()
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
        code = _EXIT_CLOSED_PIPE
    except BaseException as error:  # a bug too must end in one line
        if isinstance(error, SystemExit):
            raise
        ignore_late_signals()
        code = _report(error)
    try:
        sys.stderr.flush()
    except OSError:  # nobody reads it any more, which is no reason to fail
        _silence(sys.stderr)
    return interrupted_exit_code() if code == EXIT_INTERRUPTED else code


def _call(words: Sequence[str]) -> int:
    if list(words) == ["--version"]:  # asked by scripts, and needs nothing of the rest
        import workflows_mcp

        print(workflows_mcp.__version__)  # noqa: T201 - the answer
        return 0
    if list(words) == ["serve"]:  # a client waits for the first answer, and what reads words takes a tenth of a second
        return _serve()
    from workflows_mcp.cli.app import build_app

    app = build_app()
    code = app(list(words), print_error=False, exit_on_error=False, result_action="return_value")
    return code if isinstance(code, int) else 0


def _serve() -> int:
    """Do what `serve` does without any options."""
    import asyncio

    from workflows_mcp.cli.serve_client import serve_client
    from workflows_mcp.settings import load_settings

    settings = load_settings()
    configure_logging(settings)
    return asyncio.run(serve_client(settings))


def _report(error: BaseException) -> int:
    if os.environ.get("WORKFLOWS_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    failure = explain(error)
    try:
        sys.stdout.flush()
        if not log_failure(failure.line, failure.code):
            sys.stderr.write(f"{failure.line}\n")
        sys.stderr.flush()
    except OSError:
        _silence(sys.stdout)
        _silence(sys.stderr)
    return failure.code


def _prepare_streams() -> None:
    """Make stdout and stderr fit to take any text, whatever the locale, also when they were closed.

    A stdin that was closed is an empty one, and no file that is opened later gets its number.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - open to the end
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open to the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _silence(stream: TextIO) -> None:
    """Keep the interpreter from writing what is left to a pipe that nobody reads."""
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - a file descriptor is wanted
        os.dup2(nothing.fileno(), stream.fileno())
