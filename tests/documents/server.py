"""Runs the commands and the code that documents show, each in a fork of one process that has imported everything.

Listens at the path that is its argument, to `client.py`, and ends with its stdin.
"""

import json
import os
import select
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tests.cli.forked import become
from workflows_mcp.cli import main

__all__ = ["serve"]


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
    pid = os.fork()
    if pid == 0:
        connection.close()
        become(order, *streams, act=partial(_run_code, order) if order["is_code"] else main)
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _run_code(order: dict[str, Any]) -> None:
    exec(compile(order["words"][0], "<document>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
