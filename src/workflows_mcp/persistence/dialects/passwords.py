"""Passwords that change while a store lives: asked for anew whenever a connection is made.

None of them, and nothing that a command prints, comes into a message, a log or the context of an error.
"""

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

from workflows_mcp.errors import StoreConfigurationError, StoreUnavailableError
from workflows_mcp.persistence.commands import run, words_of
from workflows_mcp.persistence.dialects.thread import CallThread
from workflows_mcp.settings import Settings

__all__ = ["Ask", "Password", "asking", "from_settings"]

T = TypeVar("T")

Password: TypeAlias = Callable[[], str | Awaitable[str]]
"""What a caller gives: a function, or a coroutine function, that returns the password of the moment."""

Give: TypeAlias = Callable[[bool, float], Awaitable[str]]
"""Gives the password of the moment, or raises a `CheckpointStoreError` that says why there is none. It is told whether
one was refused just now, so that none must be given from memory, and for how many seconds it is waited for."""

_SECONDS_KEPT = 3.0
"""How long what a command printed is good for: a store opens its connections within a moment, and one command is
enough for them."""

_LONGEST = 64 * 2**10
"""Bytes. AWS's tokens have about 1,500."""

_FUNCTION = "the function that was passed as `password`"

_COMMAND = "the program of WORKFLOWS_DATABASE_PASSWORD_COMMAND"
"""None of its words is shown: each may be a secret, also the first, where somebody wrote `TOKEN=… vault` as for a
shell."""


class Ask:
    """Asks for the password of the moment.

    Args:
        source: Who gives it, for messages.
        give: Does.
    """

    def __init__(self, source: str, give: Give) -> None:
        self._source = source
        self._give = give

    async def __call__(self, *, is_fresh: bool, seconds: float) -> str:
        """Ask.

        Args:
            is_fresh: Whether one was refused just now, so that none must be given from memory.
            seconds: How long to wait for it.

        Raises:
            CheckpointStoreError: There is none, or none in time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._give(is_fresh, seconds)
        raise _late(self._source)

    def within(self, loop: asyncio.AbstractEventLoop) -> "Ask":
        """The same, for use in another event loop than the one where it is to be asked.

        A caller's function may use what belongs to the caller's loop, such as a connection to a vault.
        """

        async def give(is_fresh: bool, seconds: float) -> str:  # noqa: FBT001 - see `Give`
            there = asyncio.run_coroutine_threadsafe(_awaited(self._give(is_fresh, seconds)), loop)
            return await asyncio.wrap_future(there)

        return Ask(self._source, give)


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _late(source: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"no password came in time from {source}, so that no connection can be made; try again"
    )


def asking(password: Password) -> Ask:
    """Ask a caller's function. One that is no coroutine function is called in a thread, where it may block."""

    async def give(_is_fresh: bool, _seconds: float) -> str:  # noqa: FBT001 - see `Give`
        found: object = None
        failed: str | None = None
        try:
            found = await _call(password)
        except Exception as error:  # noqa: BLE001 - whatever it is: its text may quote the password
            failed = type(error).__name__
        if failed is not None:
            raise StoreUnavailableError(f"{_FUNCTION} failed ({failed}), so that no connection can be made; try again")
        if not isinstance(found, str):
            raise StoreConfigurationError(f"{_FUNCTION} returned {type(found).__name__}; it must return a str")
        return _checked(found, f"{_FUNCTION} returned")

    return Ask(_FUNCTION, give)


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
        return Ask(_COMMAND, _Command(_words_of(command.get_secret_value())).give)
    return None if file is None else Ask(_named(file), lambda _is_fresh, _seconds: _read(file))


def _named(file: Path) -> str:
    return f"the file {str(file)!r} of WORKFLOWS_DATABASE_PASSWORD_FILE"


async def _read(file: Path) -> str:
    problem, content = None, b""
    try:
        content = await _in_thread(lambda: _beginning_of(file))
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    if problem is not None:
        raise StoreConfigurationError(f"{_named(file)} {problem}; check its path and mode")
    return _text_of(content, f"{_named(file)} holds")


def _beginning_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_LONGEST + 1)


def _words_of(command: str) -> list[str]:
    words = words_of(command)
    if not words:
        raise StoreConfigurationError(
            "WORKFLOWS_DATABASE_PASSWORD_COMMAND is no command: it has no word, or a quotation without an end"
        )
    return words


class _Command:
    """Runs a command, not through a shell, and takes what it prints. Who asks at about the same time shares it."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._turn = threading.Lock()
        self._last: tuple[float, str] | None = None

    async def give(self, is_fresh: bool, seconds: float) -> str:  # noqa: FBT001 - see `Give`
        """See `Give`."""
        now = time.monotonic()
        return await _in_thread(lambda: self._password(now if is_fresh else now - _SECONDS_KEPT, now + seconds))

    def _password(self, oldest: float, end: float) -> str:
        """What it printed, not before some moment, and until another one, when nobody waits any more."""
        if not self._turn.acquire(timeout=max(end - time.monotonic(), 0)):
            raise _late(_COMMAND)
        try:
            began = time.monotonic()
            if self._last is None or self._last[0] < oldest:
                self._last = began, _text_of(self._output(end - began), f"{_COMMAND} printed")
            return self._last[1]
        finally:
            self._turn.release()

    def _output(self, seconds: float) -> bytes:
        done = run(self._words, seconds, _LONGEST, own_session=True)
        if isinstance(done, str):
            raise StoreConfigurationError(
                f"{_COMMAND} cannot be run ({done}); name a program by its path, without a shell's syntax"
            )
        if len(done.output) > _LONGEST or done.code == 0:
            return done.output
        if done.code is None:
            raise _late(_COMMAND)
        raise StoreUnavailableError(
            f"{_COMMAND} ended with exit code {done.code}; run it yourself to see why. What it prints is not shown"
        )


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
