"""Runs the commands and the code that documents show, each in a fork of one process that has imported everything.

Listens at the path that is its argument, to `client.py`, and ends with its stdin. A command is killed when its client
is, as by `kill -9`.
"""

import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.cli.forked import become
from workflows_mcp.cli import main

__all__ = ["COMMANDS", "serve"]


def serve(path: Path) -> None:
    """Answer until stdin is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who answers
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        print("ready", flush=True)  # noqa: T201 - the answer
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Run what is ordered: its process id is told when it has begun, and its exit code when it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as given:
        order = json.loads(given.read(int.from_bytes(size, "big")))
    lives, dies = os.pipe()  # its end is that of the command
    pid = os.fork()
    if pid == 0:
        connection.close()
        os.close(lives)
        become(order, *streams, act=partial(COMMANDS[order["name"]], order["words"]))
    for stream in (*streams, dies):
        os.close(stream)
    connection.sendall(f"{pid}\n".encode())
    if connection.fileno() in select.select([connection.fileno(), lives], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):  # the client may be gone
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _run_code(words: list[str]) -> None:
    exec(compile(words[0], "<document>", "exec"), {"__name__": "__main__"})


def _run_pytest(words: list[str]) -> None:
    sys.path.insert(0, "")
    sys.exit(pytest.main(words))


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "workflows-mcp": lambda _: main(),
    "python-code": _run_code,
    "pytest": _run_pytest,
}
"""What stands on PATH."""

_PLUGINS = ("_hypothesis_pytestplugin", "anyio.pytest_plugin", "hypothesis", "pytest_asyncio.plugin", "xdist.plugin")
"""What takes long to import of what pytest loads."""


if __name__ == "__main__":
    for plugin in _PLUGINS:
        importlib.import_module(plugin)
    serve(Path(sys.argv[1]))
