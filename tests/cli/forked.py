"""Runs command lines, each in a process of its own that is forked from one which has imported everything.

Starting Python and importing SQLAlchemy takes a second a time, and there are many command lines to be tested. Reads
orders from stdin, one a line, and writes `[exit code, stdout, stderr]` of each to stdout, all as JSON.
"""

import json
import os
import sys
import tempfile
from typing import IO, Any

import alembic.command

import workflows_mcp.cli.app
import workflows_mcp.engine.executor
import workflows_mcp.persistence.schema
import workflows_mcp.persistence.store
import workflows_mcp.persistence.transfer
from workflows_mcp.cli import main

__all__ = ["run"]

# Named, so that nobody takes the imports for unused.
PRELOADED = (alembic.command, workflows_mcp.cli.app, workflows_mcp.engine, workflows_mcp.persistence)


def run(order: dict[str, Any]) -> tuple[int, str, str]:
    """Run one command line in a fork of this process.

    Args:
        order: `words`; `cwd`, `env` and `stdin`: its folder, its whole environment, and what it can read.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(order["stdin"].encode())
        given.seek(0)
        pid = os.fork()
        if pid == 0:
            _become(order, given, out, err)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), _text(out), _text(err)


def _become(order: dict[str, Any], *streams: IO[bytes]) -> None:
    for ours, theirs in enumerate(streams):
        os.dup2(theirs.fileno(), ours)
    sys.stdin = os.fdopen(0, encoding="utf-8")  # without what the other one has read ahead
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    tempfile.tempdir = None  # TMPDIR may be another one
    sys.argv[1:] = order["words"]
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
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)  # noqa: T201 - the answer
