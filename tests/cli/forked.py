"""Runs many command lines, each in a process of its own that is forked from one which has imported everything.

Starting Python and importing SQLAlchemy takes a second a time, and a table of forty command lines is to be tested.
Reads a JSON list of command lines from stdin, writes `[exit code, stdout, stderr]` of each to stdout as JSON.
"""

import json
import os
import sys
import tempfile
from typing import IO

import alembic.command

import workflows_mcp.cli.app
import workflows_mcp.engine.executor
import workflows_mcp.persistence.schema
import workflows_mcp.persistence.store
from workflows_mcp.cli import main

__all__ = ["run"]

# Named, so that nobody takes the imports for unused.
PRELOADED = (alembic.command, workflows_mcp.cli.app, workflows_mcp.engine, workflows_mcp.persistence)


def run(words: list[str]) -> tuple[int, str, str]:
    """Run one command line in a fork of this process."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            _become(words, out, err)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), _text(out), _text(err)


def _become(words: list[str], out: IO[bytes], err: IO[bytes]) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for theirs, ours in ((nothing, 0), (out.fileno(), 1), (err.fileno(), 2)):
        os.dup2(theirs, ours)
    sys.argv[1:] = words
    code = 1
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


if __name__ == "__main__":
    json.dump([run(words) for words in json.load(sys.stdin)], sys.stdout)
