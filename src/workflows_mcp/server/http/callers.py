"""Whom the server takes a request from: by what name it is called, and from whose page in a browser.

A page of a stranger's, open in the browser of somebody who can reach the server, must not reach it too: neither by its
own name, which the stranger lets point to this machine (DNS rebinding), nor as a page of another origin.
"""

import re
from dataclasses import dataclass

__all__ = ["Callers", "is_same_origin"]

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:@/\[\]\s]+)(?::[0-9]{1,5})?")

_THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Callers:
    """Who may call.

    Attributes:
        port: Where the server listens.
        hosts: Names by which it may be called besides this machine's; with a port, only with that one.
        origins: Whose pages may call it besides its own.
    """

    port: int
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def may_call(self, host: str | None, arrived_at: str | None) -> bool:
        """Whether the server answers to a name.

        The port does not matter where it was not given: it may be another one, through a tunnel, and no stranger
        has a say in the name. Nor has one in the address to which a connection was made, which is a name too.

        Args:
            host: The Host of the request; None: it has none, or more than one.
            arrived_at: The address of this machine to which the connection was made; None: it is not known.
        """
        if host is None:
            return False
        called = host.lower()
        found = _HOST.fullmatch(called)
        if found is None:
            return False
        name = found[1]
        if called in self.hosts or name in self.hosts or name in _THIS_MACHINE:
            return True
        return arrived_at is not None and name in {arrived_at.lower(), f"[{arrived_at.lower()}]"}

    def may_call_from(self, origin: str) -> bool:
        """Whether pages of an origin may call."""
        return origin.lower() in self.origins or origin in {f"http://{name}:{self.port}" for name in _THIS_MACHINE}


def is_same_origin(origin: str, host: str | None) -> bool:
    """Whether a page came from the host that it calls now, by a name that the server answers to.

    Its scheme does not matter: whoever speaks TLS with browsers for this server hands their requests on without.
    """
    scheme, separator, called = origin.partition("://")
    return bool(separator) and scheme in {"http", "https"} and host is not None and called.lower() == host.lower()
