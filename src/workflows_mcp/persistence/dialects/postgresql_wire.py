"""Whether what is sent to PostgreSQL can be read on the way."""

import asyncio
import ipaddress
from typing import cast

from sqlalchemy.ext.asyncio import AsyncConnection

from workflows_mcp.persistence.checks import Report
from workflows_mcp.settings import Settings

__all__ = ["is_far", "look_at_encryption"]


async def look_at_encryption(
    connection: AsyncConnection, report: Report, settings: Settings, *, tls: str | None, client: str | None
) -> None:
    """Whether others may read on the way what is sent: to what answers here and, behind a pooler, to the server.

    Args:
        connection: The way to what answers.
        report: Where to tell.
        settings: Whether that is a pooler.
        tls: How the server says that it was reached; None: in plain text.
        client: The address from which it was reached; None: by a socket's file.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    transport = cast("asyncio.Transport", driver._transport)  # type: ignore[union-attr]  # noqa: SLF001 - nothing else tells
    cipher, peer = transport.get_extra_info("cipher"), transport.get_extra_info("peername")
    address = peer[0] if isinstance(peer, tuple) else None  # of a socket's file it is a text
    if cipher is None and is_far(address):
        report.notice(
            "TLS",
            "the connection goes over a network in plain text: who listens there can read and change it",
            "switch TLS on there, and add sslmode=verify-full and sslrootcert to the URL",
        )
    elif settings.pgbouncer and tls is None and is_far(client):
        report.notice(
            "TLS",
            "PgBouncer's way to the server goes over a network in plain text",
            "set server_tls_sslmode = verify-full in pgbouncer.ini",
        )
    elif cipher is None:
        report.ok("TLS", "none, and what is sent does not leave this machine")
    else:
        report.ok("TLS", f"{cipher[1]}, {cipher[0]}")


def is_far(address: str | None) -> bool:
    """Whether an address is another machine's; None: that of a socket's file."""
    return address is not None and not ipaddress.ip_address(address.partition("%")[0]).is_loopback
