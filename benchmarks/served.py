"""Servers in processes of their own, at free ports of the loopback interface."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

__all__ = ["ServerNotStartedError", "serving"]

_SECONDS_TO_START = 60.0


class ServerNotStartedError(Exception):
    """A server did not answer."""


@contextmanager
def serving(command_at: Callable[[int], Sequence[str]], environment: Mapping[str, str]) -> Iterator[int]:
    """A server, up to the end of the block; yields its port once something listens there.

    Args:
        command_at: The command that serves at a port.
        environment: All that stands in its environment.

    Raises:
        ServerNotStartedError: It ended, or nothing listens after a minute.
    """
    port = _free_port()
    command = command_at(port)
    process = subprocess.Popen(  # noqa: S603 - this Python, and our own words
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + _SECONDS_TO_START
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > end:
                raise ServerNotStartedError(f"this did not start a server: {' '.join(command)}")
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
