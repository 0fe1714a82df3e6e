"""Connections to PostgreSQL that were lost, and may still write: none of them does, whichever host comes next."""

import asyncio
from typing import cast

import asyncpg
import pytest

from tests.conftest import running_server
from tests.migrations import raw
from tests.persistence.test_writer import until_fetched
from workflows_mcp import StoreConfigurationError
from workflows_mcp.persistence import line as line_module
from workflows_mcp.persistence.dialects import HeldConnection
from workflows_mcp.persistence.dialects.postgresql_held import HeldPostgreSQLConnection, hold
from workflows_mcp.persistence.dialects.postgresql_saving import Saving
from workflows_mcp.persistence.line import Line


async def hold_at(url: str) -> HeldPostgreSQLConnection:
    """A connection that is held, and saves nothing."""
    return await hold(await asyncpg.connect(url), cast("Saving", None), 5.0, is_shared=True)


def line_to(urls: list[str]) -> tuple[Line, list[HeldPostgreSQLConnection]]:
    """A line that connects to one server after the other, and its connections."""
    opened: list[HeldPostgreSQLConnection] = []

    async def connect() -> HeldConnection:
        opened.append(await hold_at(urls[len(opened)]))
        return opened[-1]

    return Line(connect, lambda: StoreConfigurationError("closed")), opened


async def lose(held: HeldConnection) -> None:
    """Stop listening to a statement that goes on."""
    async with asyncio.timeout(0.1):
        await held.change("SELECT pg_sleep(20)", ())


def pid_of(held: HeldPostgreSQLConnection) -> int:
    """Its process at the server."""
    assert held.process is not None
    return cast("int", held.process[0])


def counted(pid: int) -> str:
    """A query that tells whether there is such a process."""
    return f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"


async def ask(held: HeldConnection) -> None:
    """Use a connection."""
    await held.fetch("SELECT 1", ())


async def test_a_lost_connection_is_ended_at_its_own_server(postgres_server: str) -> None:
    """Another host of the cluster knows nothing of its process, which is alive all the same."""
    with running_server() as server:
        other = server.get_uri()
        line, opened = line_to([postgres_server, other, postgres_server, other])
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await line.call(lose)
        first, second = opened
        assert line._lost == [first, second]
        assert await raw.fetch(postgres_server, counted(pid_of(first))) == [(1,)]
        await line.call(ask)
        assert line._lost == [second]
        await until_fetched(postgres_server, counted(pid_of(first)), 0)
        assert await raw.fetch(other, counted(pid_of(second))) == [(1,)]
        with pytest.raises(TimeoutError):
            await line.call(lose)
        await line.call(ask)
        assert line._lost == [opened[2]]
        await until_fetched(other, counted(pid_of(second)), 0)
        await raw.fetch(postgres_server, f"SELECT pg_terminate_backend({pid_of(opened[2])})")
        await line.close()


async def test_the_oldest_lost_connections_are_forgotten(postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those to servers that never come back would be too many some day."""
    monkeypatch.setattr(line_module, "_MOST_LOST", 2)
    line, opened = line_to([postgres_server] * 4)
    for n in range(4):
        with pytest.raises(TimeoutError):
            await line.call(lose)
        opened[n].process = (pid_of(opened[n]), n, n)  # as though it were one to another server
    assert line._lost == opened[2:]
    for held in opened:
        await raw.fetch(postgres_server, f"SELECT pg_terminate_backend({pid_of(held)})")
    await line.close()


async def test_a_connection_never_ends_itself(postgres_server: str) -> None:
    """A pooler may hand out the very process that was lost, which has read all that it was sent before."""
    held = await hold_at(postgres_server)
    assert await held.end(held)
    await ask(held)
    await held.close()
