"""A cluster of several PostgreSQL hosts: one that does not answer leaves time for the next."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, quote, urlencode

import asyncpg

__all__ = ["PoolerRefusedError", "connect", "urls_of_hosts"]

_ELSEWHERE = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.TargetServerAttributeNotMatched,
)
"""What says nothing about the next host: this one is gone, starting, or not of the kind that is looked for."""


def urls_of_hosts(url: SplitResult, options: Mapping[str, str]) -> list[str]:
    """A URL for each host that a URL names, as the driver takes them; just one where it must choose by itself.

    Args:
        url: Of all hosts.
        options: The keys of its query, as the driver takes them.
    """
    login, at, hosts = url.netloc.rpartition("@")
    named = (hosts or options.get("host", "")).split(",")
    ports = options["port"].split(",") if "port" in options else []
    if len(named) == 1 or len(ports) not in {0, 1, len(named)} or options.get("target_session_attrs") in _COMPARED:
        return [_url(url, options)]
    urls = []
    for number, host in enumerate(named):
        own = dict(options)
        if ports:
            own["port"] = ports[number % len(ports)]
        if not hosts:
            own["host"] = host
        urls.append(_url(url._replace(netloc=f"{login}{at}{host if hosts else ''}"), own))
    return urls


_COMPARED = {"prefer-standby"}
"""What cannot be said of one host without asking the others."""


def _url(url: SplitResult, options: Mapping[str, str]) -> str:
    return url._replace(scheme="postgresql", query=urlencode(options, quote_via=quote)).geturl()


class PoolerRefusedError(Exception):
    """A pooler stands before the server, and refuses settings that are for the server. Not for callers."""


async def connect(urls: Sequence[str], end: float, options: Mapping[str, Any]) -> asyncpg.Connection:
    """Connect to the first host that can be used.

    A pooler has one code for all that it refuses, be it settings or because the server is gone. What succeeds without
    settings, and fails with them before that and after it, fails because of them.

    Args:
        urls: Of the hosts.
        end: Until when, by the monotonic clock, for all of them; each has an equal part of what is left.
        options: What the driver takes besides.

    Raises:
        PoolerRefusedError: It is a pooler that answers, and nobody said so.
        Exception: The driver's.
    """
    succeeds_without = False
    while True:
        try:
            return await _connect_to_first(urls, end, options)
        except asyncpg.ProtocolViolationError as error:
            refused = error
        if succeeds_without or not options.get("server_settings"):
            break
        with contextlib.suppress(Exception):
            (await _connect_to_first(urls, end, {**options, "server_settings": {}})).terminate()
            succeeds_without = True
        if not succeeds_without:
            break
    if succeeds_without:
        raise PoolerRefusedError
    raise refused


async def _connect_to_first(urls: Sequence[str], end: float, options: Mapping[str, Any]) -> asyncpg.Connection:
    """Connect until a moment. The driver would bound the time for all hosts together: a frozen one would leave none."""
    for number, url in enumerate(urls[:-1]):
        share = (end - time.monotonic()) / (len(urls) - number)
        try:
            return await asyncpg.connect(url, timeout=share, **options)
        except _ELSEWHERE:
            continue
    return await asyncpg.connect(urls[-1], timeout=max(end - time.monotonic(), 0), **options)
