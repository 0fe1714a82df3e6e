"""Logging in to PostgreSQL, with a password that may have changed a moment ago."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from workflows_mcp.persistence.dialects.passwords import Ask
from workflows_mcp.persistence.dialects.postgresql_hosts import connect

__all__ = ["Login", "LoginRefusedError"]

_SHARE = 0.8
"""How much of the time that is left a password may take. One that comes with the deadline is of no use, and who asked
would hear of the deadline alone."""

_PAUSE = 1.0
"""Seconds. How long what a pooler has refused is taken for refused, without another login."""

_REFUSED = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.ProtocolViolationError)
"""What a wrong password may be: a server that has it checked by somebody else (PAM, LDAP, a cloud's tokens) has no code
of its own for that, and neither has a pooler."""


class LoginRefusedError(Exception):
    """A pooler lets nobody in, and does not say whether that is the login's fault. Not for callers."""


class Login:
    """Opens the connections of an engine.

    A pooler has one code for a wrong password and for a server that is down for a moment, so that a login that it
    refuses is worth another try. It is made once a second by all who want a connection, lest a wrong password be asked
    for and sent as often as a loop goes round: there are servers that lock an account for less.

    Args:
        urls: Of the hosts.
        seconds: To connect, for all hosts.
        deadline: Of the calls that wait for a connection.
        ask: Gives the password; None: the URL does, or what the driver finds.
    """

    def __init__(self, urls: Sequence[str], seconds: float, deadline: float, ask: Ask | None) -> None:
        self._urls = urls
        self._seconds = seconds
        self._deadline = deadline
        self._ask = ask
        self._next_try: float | None = None
        """When a pooler is asked again, after it has refused; None: it has not."""

    async def __call__(self, **options: Any) -> asyncpg.Connection:  # noqa: ANN401 - the driver's
        """Open one.

        Args:
            options: What the driver takes besides.

        Raises:
            LoginRefusedError: A pooler refuses it.
            PoolerRefusedError: It is a pooler that answers, and nobody said so.
            CheckpointStoreError: No password can be had.
            Exception: The driver's.
        """
        is_repeat = self._next_try is not None
        if self._next_try is not None:
            now = time.monotonic()
            if now < self._next_try:
                raise LoginRefusedError
            self._next_try = now + _PAUSE  # this one is the second's
        is_refused = False
        try:
            return await self._log_in(options, is_repeat=is_repeat)
        except asyncpg.ProtocolViolationError:
            is_refused = True
        finally:
            self._next_try = time.monotonic() + _PAUSE if is_refused else None
        raise LoginRefusedError

    async def _log_in(self, options: Mapping[str, Any], *, is_repeat: bool) -> asyncpg.Connection:
        """Log in. What is refused is asked for once more, unless that was done a second ago."""
        began = time.monotonic()
        end = began + self._seconds
        if self._ask is None:
            return await connect(self._urls, end, options)
        refused: Exception | None = None
        tried = ""
        for is_fresh in (True,) if is_repeat else (False, True):
            left = began + min(self._seconds, self._deadline) - time.monotonic()
            password = await self._ask(is_fresh=is_fresh, seconds=max(_SHARE * left, 0))
            if refused is not None and password == tried:
                break
            try:
                return await connect(self._urls, end, {**options, "password": password})
            except _REFUSED as error:
                refused, tried = error, password  # it may have been changed a moment ago
        assert refused is not None
        raise refused
