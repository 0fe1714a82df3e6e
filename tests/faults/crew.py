"""Processes for the harnesses, each to be stopped or killed by its id, and what they write down for one another.

They are forked from one that has imported everything: starting Python and importing SQLAlchemy takes a second a time.
"""

import asyncio
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import sqlalchemy.dialects.postgresql.asyncpg
import sqlalchemy.dialects.sqlite.aiosqlite

import workflows_mcp.engine.executor
import workflows_mcp.persistence.schema
import workflows_mcp.persistence.store
from tests.cli.forked import become

__all__ = ["Journal", "Start", "append", "fork", "join", "report_warnings", "start", "start_command"]

# Named, so that nobody takes the imports for unused.
PRELOADED = (alembic.command, alembic.config, sqlalchemy.dialects, workflows_mcp.engine, workflows_mcp.persistence)

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])

Work = Callable[..., Coroutine[Any, Any, None]]


def start(work: Work, *arguments: object) -> ForkServerProcess:
    """Start a process that does some work.

    Args:
        work: A coroutine function of a module.
        arguments: What it is called with.
    """
    return fork(_run, work, arguments)


def start_command(words: list[str], environment: dict[str, str], out: Path, err: Path) -> ForkServerProcess:
    """Start `workflows-mcp` with some words, in this folder.

    Args:
        words: What follows its name.
        environment: All of it.
        out: What it prints is written there.
        err: The same of its stderr.
    """
    return fork(_command, words, environment, out, err)


def fork(act: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """Start a process that calls a function of a module."""
    server = forkserver._forkserver
    if forkserver.get_inherited_fds() is not None:
        # This process was forked from one that has imported everything, which is to fork the next ones, too: Python
        # means it to, says its source, and has another one import all of it again.
        server.ensure_running = resource_tracker.ensure_running  # type: ignore[method-assign]
    process = _PROCESSES.Process(target=_act, args=(os.getpgrp(), dict(os.environ), act, arguments), daemon=True)
    process.start()
    return process


def _act(group: int, environment: dict[str, str], act: Callable[..., None], arguments: tuple[object, ...]) -> None:
    """Do it as if this process were forked from the one that has started it."""
    os.setpgid(0, group)
    os.environ.clear()
    os.environ.update(environment)
    act(*arguments)


def _run(work: Work, arguments: tuple[object, ...]) -> None:
    asyncio.run(work(*arguments))


def _command(words: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    streams = [os.open(os.devnull, os.O_RDONLY), *(os.open(one, os.O_WRONLY | os.O_CREAT, 0o600) for one in (out, err))]
    become({"words": words, "cwd": str(Path.cwd()), "env": environment}, *streams)


async def join(process: ForkServerProcess) -> int:
    """Wait for the end of a process; its exit code."""
    while process.exitcode is None:
        await asyncio.sleep(0.005)
    return process.exitcode


def append(path: Path, line: str) -> None:
    """Add a line to a file that other processes add to as well: whole, whenever the process is killed."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


@dataclass(frozen=True)
class Start:
    """A block began to run.

    Attributes:
        at: When, in Unix seconds.
        path: Which one, as `deploy[eu]/check`.
        pid: In which process.
    """

    at: float
    path: str
    pid: int


@dataclass(frozen=True)
class Journal:
    """The starts of blocks, as the blocks themselves wrote them down.

    Attributes:
        folder: Holds a file for each run.
    """

    folder: Path

    @property
    def size(self) -> int:
        """How much has been written down, in bytes."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def file(self, run_id: str) -> Path:
        """The file of a run: lines of a time, a path and a process's id."""
        return self.folder / run_id

    def note(self, run_id: str, path: str) -> None:
        """Write down that a block begins to run now, in this process."""
        append(self.file(run_id), f"{time.time():.6f} {path} {os.getpid()}")

    def starts(self, run_id: str) -> Iterator[Start]:
        """What has begun in a run so far."""
        file = self.file(run_id)
        for line in file.read_text().splitlines() if file.exists() else ():
            at, path, pid = line.split()
            yield Start(float(at), path, int(pid))


def report_warnings(file: Path) -> None:
    """Write down what this process warns of: nothing that a harness does is worth a warning."""
    handler = logging.FileHandler(file)
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
