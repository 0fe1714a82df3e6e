"""Runs a command that prints a secret. Neither what it prints nor its words get into an error or its context."""

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import IO

__all__ = ["Printed", "run", "words_of"]

_PAUSE = 0.05
"""How often a command is looked at that says nothing: whether it has ended, though what it started lives on."""

_SECONDS_TO_DIE = 1.0
"""How long a command that was killed is waited for. One that hangs in the kernel may never end."""


@dataclass(frozen=True)
class Printed:
    """What came of a command.

    Attributes:
        output: What it printed on stdout, up to one byte more than was allowed.
        code: Its exit code; None: it was killed, since its time was up or it printed too much.
    """

    output: bytes = field(repr=False)
    code: int | None


def words_of(command: str) -> list[str]:
    """The words of a command, as a shell splits them; none where it has none, or a quotation without an end."""
    with contextlib.suppress(ValueError):
        return shlex.split(command)
    return []


def run(words: list[str], seconds: float, most: int, *, own_session: bool) -> Printed | str:
    """Run a command, not through a shell, and wait for its end.

    What it has started in the background may live on, and may hold its stdout open: nobody waits for that.

    Args:
        words: The program and its arguments.
        seconds: After these it is killed.
        most: Bytes. It is killed when it prints more.
        own_session: Whether it gets a session of its own, so that what it has started is killed with it. It cannot
            ask for anything on the terminal then.

    Returns:
        What came of it, or why it cannot be run.
    """
    end = time.monotonic() + seconds
    try:
        process = subprocess.Popen(  # noqa: S603 - whoever sets the settings is who starts this process
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=own_session,
        )
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or "it holds U+0000"
    assert process.stdout is not None
    try:
        with process.stdout as stream:
            output = _read(process, stream, end, most)
        if len(output) <= most:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return Printed(output, process.wait(max(end - time.monotonic(), 0)))
        return Printed(output, None)
    finally:
        _kill(process, own_session=own_session)


def _read(process: "subprocess.Popen[bytes]", stream: IO[bytes], end: float, most: int) -> bytes:
    """What it prints until it ends, its time is up, or it is too much."""
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while len(output) <= most and (left := end - time.monotonic()) > 0:
            # Asked first: what it has printed before its end is then there to be read.
            has_ended = process.poll() is not None
            if selector.select(0 if has_ended else min(left, _PAUSE)):
                read = os.read(stream.fileno(), most + 1 - len(output))
                if not read:
                    break
                output += read
            elif has_ended:
                break
    return output


def _kill(process: "subprocess.Popen[bytes]", *, own_session: bool) -> None:
    """Kill a command that has not ended, with all that it has started if it has a session of its own."""
    if process.poll() is not None:
        return  # its number may be somebody else's by now
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if own_session:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_SECONDS_TO_DIE)
