"""Passwords that change while a store lives: asked for anew whenever a connection is made.

None of them, and nothing that a command prints, comes into a message, a log or the context of an error.
"""

import contextlib
import inspect
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

from workflows_mcp.errors import StoreConfigurationError, StoreUnavailableError
from workflows_mcp.persistence.dialects.thread import CallThread
from workflows_mcp.settings import Settings

__all__ = ["Ask", "Password", "asking", "from_settings"]

T = TypeVar("T")

Password: TypeAlias = Callable[[], str | Awaitable[str]]
"""What a caller gives: a function, or a coroutine function, that returns the password of the moment."""

Ask: TypeAlias = Callable[[bool], Awaitable[str]]
"""The password of the moment, or a `CheckpointStoreError` that says why there is none. It is told whether one was
refused just now, so that none must be given from memory."""

_SECONDS_KEPT = 3.0
"""How long what a command printed is good for: a store opens its connections within a moment, and one command is
enough for them."""

_LONGEST = 64 * 2**10
"""Bytes. AWS's tokens have about 1,500."""


def asking(password: Password) -> Ask:
    """Ask a caller's function. One that is no coroutine function is called in a thread, where it may block."""

    async def ask(_is_fresh: bool) -> str:  # noqa: FBT001 - see `Ask`
        found: object = None
        failed: str | None = None
        try:
            found = await _call(password)
        except Exception as error:  # noqa: BLE001 - whatever it is: its text may quote the password
            failed = type(error).__name__
        if failed is not None:
            raise StoreUnavailableError(
                f"the function that was passed as `password` failed ({failed}), so that no connection can be made; try "
                "again"
            )
        if not isinstance(found, str):
            raise StoreConfigurationError(
                f"the function that was passed as `password` returned {type(found).__name__}; it must return a str"
            )
        return _checked(found, "the function that was passed as `password` returned")

    return ask


async def _call(password: Password) -> object:
    if inspect.iscoroutinefunction(password):
        return await password()
    found = await _in_thread(password)
    return await found if inspect.isawaitable(found) else found


async def _in_thread(work: Callable[[], T]) -> T:
    """Call what may block. What hangs, hangs in a daemon's thread, which keeps no program from ending."""
    thread = CallThread("workflows-mcp-password")
    try:
        return await thread.call(work)
    finally:
        thread.stop()


def from_settings(settings: Settings) -> Ask | None:
    """What the settings say: a command, or a file; None: neither.

    Raises:
        StoreConfigurationError: They say both, or a command that cannot be one.
    """
    command, file = settings.database_password_command, settings.database_password_file
    if command is not None and file is not None:
        raise StoreConfigurationError(
            "WORKFLOWS_DATABASE_PASSWORD_COMMAND and WORKFLOWS_DATABASE_PASSWORD_FILE are both set; unset one of them"
        )
    if command is not None:
        return _Command(_words_of(command.get_secret_value()), settings.deadline_seconds)
    return None if file is None else lambda _is_fresh: _read(file)


async def _read(file: Path) -> str:
    problem, content = None, b""
    try:
        content = await _in_thread(lambda: _beginning_of(file))
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    if problem is not None:
        raise StoreConfigurationError(
            f"the file {str(file)!r} of WORKFLOWS_DATABASE_PASSWORD_FILE {problem}; check its path and mode"
        )
    return _text_of(content, f"the file {str(file)!r} of WORKFLOWS_DATABASE_PASSWORD_FILE holds")


def _beginning_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_LONGEST + 1)


def _words_of(command: str) -> list[str]:
    words: list[str] = []
    with contextlib.suppress(ValueError):  # an open quotation
        words = shlex.split(command)
    if not words:
        raise StoreConfigurationError(
            "WORKFLOWS_DATABASE_PASSWORD_COMMAND is no command: it has no word, or a quotation without an end"
        )
    return words


class _Command:
    """Runs a command, not through a shell, and takes what it prints. Who asks at about the same time shares it."""

    def __init__(self, words: list[str], seconds: float) -> None:
        self._words = words
        self._seconds = seconds
        self._turn = threading.Lock()
        self._last: tuple[float, str] | None = None

    async def __call__(self, is_fresh: bool) -> str:  # noqa: FBT001 - see `Ask`
        now = time.monotonic()
        oldest = now if is_fresh else now - _SECONDS_KEPT
        return await _in_thread(lambda: self._password(oldest))

    def _password(self, oldest: float) -> str:
        """What it printed, not before some moment."""
        with self._turn:
            began = time.monotonic()
            if self._last is None or self._last[0] < oldest:
                self._last = began, _text_of(self._output(), f"{self._name} printed")
            return self._last[1]

    @property
    def _name(self) -> str:
        """Without its arguments: one may be a secret."""
        return f"the program {self._words[0]!r} of WORKFLOWS_DATABASE_PASSWORD_COMMAND"

    def _output(self) -> bytes:
        reason = None
        try:
            process = subprocess.Popen(  # noqa: S603 - what the settings name is run as such
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that what it has started can be ended with it
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it holds U+0000"
        if reason is not None:
            raise StoreConfigurationError(
                f"{self._name} cannot be run ({reason}); name a program by its path, without a shell's syntax"
            )
        return self._output_of(process)

    def _output_of(self, process: "subprocess.Popen[bytes]") -> bytes:
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            _kill(process)

        timer = threading.Timer(self._seconds, end)
        timer.daemon = True
        timer.start()
        assert process.stdout is not None
        with process.stdout as stream:
            output = stream.read(_LONGEST + 1)
        if len(output) > _LONGEST:
            _kill(process)  # there may be no end to it
        code = process.wait()
        timer.cancel()
        if is_late.is_set():
            raise StoreUnavailableError(f"{self._name} did not end within {self._seconds:g} s; try again")
        if code and len(output) <= _LONGEST:
            raise StoreUnavailableError(
                f"{self._name} ended with exit code {code}; run it yourself to see why. What it prints is not shown"
            )
        return output


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a command with all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _text_of(content: bytes, what: str) -> str:
    """A line's text, without its end."""
    text = None
    if len(content) <= _LONGEST:
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode()
    if text is None:
        raise StoreConfigurationError(f"{what} something that is no password: not UTF-8, or more than 64 KiB")
    return _checked(text.removesuffix("\n").removesuffix("\r"), what)


def _checked(password: str, what: str) -> str:
    if not password or "\0" in password or "\n" in password:
        raise StoreConfigurationError(
            f"{what} something that is no password: nothing, several lines, or U+0000; it must be the password alone"
        )
    return password
