"""Runs command lines, each in a process of its own that is forked from one which has imported everything.

Starting Python and importing SQLAlchemy takes a second a time, and there are many command lines to be tested. Reads
orders from stdin, one a line, and writes `[exit code, stdout, stderr]` of each to stdout, all as JSON.
"""

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import IO, Any, NoReturn

import aiosqlite
import alembic.command
import alembic.migration
import asyncpg

import workflows_mcp.cli.app
import workflows_mcp.cli.entry
import workflows_mcp.engine.executor
import workflows_mcp.persistence.dialects.postgresql
import workflows_mcp.persistence.dialects.sqlite
import workflows_mcp.persistence.health
import workflows_mcp.persistence.schema
import workflows_mcp.persistence.store
import workflows_mcp.persistence.transfer
from workflows_mcp.cli import main

__all__ = ["become", "run"]

# Named, so that nobody takes the imports for unused.
PRELOADED = (aiosqlite, alembic, asyncpg, workflows_mcp.cli, workflows_mcp.engine, workflows_mcp.persistence)

# What a process compiles for its first store of a kind is compiled here, once.
for _url in ("checkpoints.db", "postgresql://nobody@localhost/nothing"):
    workflows_mcp.SQLAlchemyCheckpointStore(_url, settings=workflows_mcp.settings.Settings())


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
            become(order, given.fileno(), out.fileno(), err.fileno())
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), _text(out), _text(err)


def become(order: dict[str, Any], *streams: int, act: Callable[[], None] = main) -> NoReturn:
    """Turn this process, a fork, into the one that was ordered, up to its end.

    Args:
        order: See `run`.
        streams: The file descriptors that become its stdin, stdout and stderr.
        act: What it does.
    """
    for ours, theirs in enumerate(streams):
        os.dup2(theirs, ours)
    # Without what the other one has read ahead, and without what it knows of its own.
    sys.stdin = os.fdopen(0, encoding="utf-8")
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1 if number == 2 else -1, encoding="utf-8") for number in (1, 2))
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    tempfile.tempdir = None  # TMPDIR may be another one
    sys.argv[1:] = order["words"]
    code = 1
    try:
        act()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - as Python itself ends
        traceback.print_exc()
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
