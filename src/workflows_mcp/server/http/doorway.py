"""Where the server listens. The port is had before a database is opened, or a run claimed."""

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workflows_mcp.errors import StoreConfigurationError

__all__ = ["Doorway", "PortTakenError", "open_doorway"]

_BACKLOG = 2048

_THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - nothing listens there for its sake

_UNREACHABLE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class PortTakenError(Exception):
    """The address cannot be listened on; the message says why, and what to do."""


@dataclass(frozen=True)
class Doorway:
    """Sockets that listen. Who comes before the server has begun is kept waiting, and served then.

    Attributes:
        sockets: At least one; `localhost` often has two addresses.
        host: As it was asked for.
    """

    sockets: tuple[socket.socket, ...]
    host: str

    @property
    def port(self) -> int:
        """The port, the same for all of them."""
        return int(self.sockets[0].getsockname()[1])

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can come in."""
        return all(ipaddress.ip_address(one.getsockname()[0].partition("%")[0]).is_loopback for one in self.sockets)

    @property
    def origin(self) -> str:
        """How it is called, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def origin_here(self) -> str:
        """How a browser on this machine calls it: what stands for all addresses is none that is answered to."""
        host = _THIS_MACHINE.get(self.sockets[0].getsockname()[0])
        return self.origin if host is None else f"http://{host}:{self.port}"

    def listen(self) -> None:
        """Let more wait for the server than it takes in at once."""
        for one in self.sockets:
            one.listen(_BACKLOG)

    def close(self) -> None:
        """Let go of the port."""
        for one in self.sockets:
            one.close()


@contextlib.contextmanager
def open_doorway(host: str, port: int) -> Iterator[Doorway]:
    """Have a port, which is let go of at the end.

    Args:
        host: An address, or a name that has one.
        port: The TCP port; 0: one that is free.

    Raises:
        PortTakenError: Somebody else has it, or it is not for us.
        StoreConfigurationError: The host has no address of this machine.
    """
    doorway = _bind(host, port)
    try:
        yield doorway
    finally:
        doorway.close()


def _bind(host: str, port: int) -> Doorway:
    bound: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            # Port 0 is any: the first address takes one, and the others the same.
            place = (address[0], bound[0].getsockname()[1] if bound else port, *address[2:])
            with contextlib.suppress(_NotHereError):
                bound.append(_bound(family, place))
    except BaseException:
        for one in bound:
            one.close()
        raise
    if not bound:
        raise StoreConfigurationError(
            f"{host!r} is no address of this machine; WORKFLOWS_HTTP_HOST or --host takes one that is, such as "
            "127.0.0.1 or 0.0.0.0"
        )
    return Doorway(tuple(bound), host)


class _NotHereError(Exception):
    """This machine does not have the address."""


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    problem = ""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return list(dict.fromkeys((family, address) for family, *_, address in found))
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except UnicodeError:
        problem = "it is no host's name"
    raise StoreConfigurationError(f"the host {host!r} has no address ({problem}); check WORKFLOWS_HTTP_HOST or --host")


def _bound(family: socket.AddressFamily, place: tuple[Any, ...]) -> socket.socket:
    failed: OSError | None = None
    try:
        # With its protocol, by which asyncio knows that small writes must not wait: 40 ms for each answer else.
        one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        failed = error
    else:
        # Else the port of a server that has just ended is kept for a minute.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            one.bind(place)
            # At once: of two sockets that are only bound, both would have the port.
            one.listen(_BACKLOG)
        except OSError as error:
            one.close()
            failed = error
    if failed is None:
        return one
    if failed.errno in _UNREACHABLE:
        raise _NotHereError
    raise PortTakenError(_told(failed, place[0], place[1]))


def _told(error: OSError, address: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {address} is in use, perhaps by another server of this kind; end that one, or choose "
            "another port with --port, or 0 for any"
        )
    if error.errno == errno.EACCES:
        return f"port {port} of {address} is not for this user; choose one from 1024 on with --port"
    return f"port {port} of {address} cannot be had: {os.strerror(error.errno or 0)}; choose another one with --port"
