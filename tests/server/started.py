"""`workflows-mcp serve --http` and `ui` in processes of their own, to be killed and stopped.

They are forked from one that has imported nearly everything: starting Python anew takes a second and more a time.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.faults.crew import fork, join

__all__ = ["Prepare", "StartedServer", "start_server", "start_ui"]

_SECONDS_TO_START = 30.0

_ADDRESS = re.compile(r"^serving .*? at (\S+/(?:mcp|ui))\b", re.MULTILINE)

Prepare = Callable[[], None]
"""What a process does before it serves: a function of a module, or a `partial` of one."""


@dataclass(frozen=True)
class StartedServer:
    """A server that answers.

    Attributes:
        url: Where MCP is spoken; of `ui`, where its pages are.
        process: Its process.
        log: What it has written to stdout and stderr.
    """

    url: str
    process: ForkServerProcess
    log: Path

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def origin(self) -> str:
        """Its address without a path."""
        return self.url.rpartition("/")[0]

    async def kill(self) -> None:
        """End it as the system does when there is no memory left: without a word."""
        self.process.kill()
        await join(self.process)

    async def stop(self) -> int:
        """End it as whoever runs servers does; its exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return await join(self.process)


async def start_server(
    folder: Path, environment: Mapping[str, str], *words: str, prepare: Prepare | None = None
) -> StartedServer:
    """Start `serve --http` on a port that is free, and wait until it answers.

    Args:
        folder: Where it works, and writes what it has to say.
        environment: All that stands in its environment, besides the path.
        words: More words of its command line.
        prepare: What it does before.

    Raises:
        RuntimeError: It ended, or has not begun to answer in time.
    """
    return await _start(folder, environment, ["serve", "--http", "--port", "0", *words], prepare)


async def start_ui(folder: Path, environment: Mapping[str, str], *words: str, port: int = 0) -> StartedServer:
    """Start `ui` in the same way.

    Args:
        folder: Where it works, and writes what it has to say.
        environment: All that stands in its environment, besides the path.
        words: More words of its command line.
        port: Where it listens; 0: on one that is free.

    Raises:
        RuntimeError: It ended, or has not begun to answer in time.
    """
    return await _start(folder, environment, ["ui", "--port", str(port), *words], None)


async def _start(
    folder: Path, environment: Mapping[str, str], words: list[str], prepare: Prepare | None
) -> StartedServer:
    log = folder / f"server-{len(list(folder.glob('server-*.log')))}.log"
    log.touch()
    whole = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder), **environment}
    process = fork(_serve, words, folder, whole, log, prepare)
    loop = asyncio.get_running_loop()
    end = loop.time() + _SECONDS_TO_START
    while (found := _ADDRESS.search(log.read_text())) is None:
        if process.exitcode is not None or loop.time() > end:
            process.kill()
            raise RuntimeError(f"a server did not start:\n{log.read_text()}")
        await asyncio.sleep(0.01)
    return StartedServer(found[1], process, log)


def _serve(words: list[str], folder: Path, environment: Mapping[str, str], log: Path, prepare: Prepare | None) -> None:
    from workflows_mcp.cli.entry import run_command_line

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    if prepare is not None:
        prepare()
    sys.exit(run_command_line(words))
