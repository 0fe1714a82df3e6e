"""How a server begins and ends: what is under way is answered, and the port is free at once."""

import asyncio
import socket
import time
from pathlib import Path

import httpx2
import pytest

from tests.server.http.served import browser, modern_call, serving, settings_of
from workflows_mcp.errors import StoreConfigurationError
from workflows_mcp.server.http.doorway import PortTakenError, open_doorway


@pytest.mark.parametrize("stateless", [False, True])
async def test_clients_of_both_protocols_are_served(sqlite_template: Path, *, stateless: bool) -> None:
    """Those of older ones in sessions, or without any."""
    async with serving(settings_of(sqlite_template, http_stateless=stateless)) as served:
        for mode in ("auto", "legacy"):
            async with served.client(mode=mode) as client:
                assert {tool.name for tool in (await client.list_tools()).tools} == {"echo", "wait"}
                assert (await client.call_tool("echo", {"text": mode})).structured_content == {"result": mode}
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
        async with browser() as plain:
            answer = await plain.post(
                served.mcp,
                headers={"accept": "application/json, text/event-stream"},
                json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about},
            )
        assert (answer.status_code, "mcp-session-id" in answer.headers) == (200, not stateless)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_call_that_is_under_way_is_answered_when_the_server_is_stopped(
    sqlite_template: Path, mode: str
) -> None:
    """Meanwhile the port is free, nobody new gets in, and runs have the time that the settings give them."""
    ending = asyncio.Event()
    at_the_end = asyncio.Event()

    async def end_runs(_seconds: float) -> None:
        ending.set()
        await at_the_end.wait()
        served.gate.set()

    async with serving(settings_of(sqlite_template, http_grace_seconds=7.5), end_runs=end_runs) as served:
        async with served.client(mode=mode) as client, browser() as kept:
            assert (await kept.get(f"{served.url}/readyz")).status_code == 200
            await client.list_tools()  # else it asks for them before it takes the answer
            call = asyncio.create_task(client.call_tool("wait"))
            await served.waiting.wait()
            served.stop.set()
            await ending.wait()
            with pytest.raises(httpx2.ConnectError):
                await kept.get(f"{served.url}/healthz")
            with open_doorway("127.0.0.1", served.port) as free:
                assert free.port == served.port
            at_the_end.set()
            assert (await call).structured_content == {"result": "done"}
        await served.finish()
        assert served.ended == [7.5]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_call_that_does_not_end_is_cut_off(
    sqlite_template: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment after the runs have ended; the client is told, and no stream keeps the server."""
    monkeypatch.setattr("workflows_mcp.server.http.serving._LAST_WORDS_SECONDS", 0.1)
    async with serving(settings_of(sqlite_template)) as served, served.client(mode=mode) as client:
        call = asyncio.create_task(client.call_tool("wait"))
        await served.waiting.wait()
        began = time.monotonic()
        await served.finish()
        assert time.monotonic() - began < 2
        if mode == "legacy":
            call.cancel()  # it would try to connect again for a while
        with pytest.raises((Exception, asyncio.CancelledError)):
            await asyncio.wait_for(call, 10)


async def test_a_listener_does_not_hold_up_the_end(sqlite_template: Path) -> None:
    """A client of an older protocol holds a stream open for as long as it lives."""
    async with serving(settings_of(sqlite_template)) as served, served.client(mode="legacy") as client:
        await client.call_tool("echo", {"text": "hi"})
        began = time.monotonic()
        await served.finish()
        assert time.monotonic() - began < 0.9


async def test_a_server_that_is_cancelled_ends_at_once(sqlite_template: Path) -> None:
    """The second signal: neither runs nor calls are waited for."""
    ending = asyncio.Event()

    async def end_runs(_seconds: float) -> None:
        ending.set()
        await asyncio.Event().wait()

    async with serving(settings_of(sqlite_template), end_runs=end_runs) as served, browser() as client:
        headers, body = modern_call("wait")
        call = asyncio.create_task(client.post(served.mcp, headers=headers, json=body))
        await served.waiting.wait()
        served.stop.set()
        await ending.wait()
        assert served.task is not None
        served.task.cancel()
        async with asyncio.timeout(2):
            await asyncio.wait({served.task})
        assert served.task.cancelled()
        answer = await call
        assert (answer.status_code, "being stopped" in answer.text) == (503, True)


async def test_a_server_begins_where_another_one_has_just_ended(sqlite_template: Path) -> None:
    """Though connections to that one are still closing."""
    port = 0
    for _ in range(2):
        async with serving(settings_of(sqlite_template), port=port) as served, served.client(mode="legacy") as client:
            port = port or served.port
            assert served.port == port
            await client.call_tool("echo", {"text": "hi"})
            await served.finish()


def test_a_port_that_is_in_use_is_told() -> None:
    """Before a database is opened; also when nobody has come in there yet."""
    with (
        open_doorway("127.0.0.1", 0) as first,
        pytest.raises(PortTakenError, match=f"port {first.port} .* is in use"),
        open_doorway("127.0.0.1", first.port),
    ):
        pass


def test_a_doorway_knows_who_can_come_in() -> None:
    """By the addresses themselves: a name tells nothing."""
    for host, is_loopback in {"127.0.0.1": True, "localhost": True, "127.8.8.8": True, "0.0.0.0": False}.items():
        with open_doorway(host, 0) as doorway:
            assert doorway.is_loopback == is_loopback, host


def test_a_doorway_knows_how_it_is_called_here() -> None:
    """All addresses together are none that the server answers to: a browser is sent to one of them."""
    for host, called in {"127.8.8.8": "127.8.8.8", "localhost": "localhost", "0.0.0.0": "127.0.0.1"}.items():
        with open_doorway(host, 0) as doorway:
            assert doorway.origin_here == f"http://{called}:{doorway.port}"


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "a b", "x" * 300])
def test_a_host_that_is_not_this_machine_s_is_refused(host: str) -> None:
    """With what to look at."""
    with pytest.raises(StoreConfigurationError, match="WORKFLOWS_HTTP_HOST"), open_doorway(host, 0):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine knows no IPv6")
async def test_the_server_answers_over_ipv6(sqlite_template: Path) -> None:
    """By its address in brackets."""
    try:
        with open_doorway("::1", 0):
            pass
    except StoreConfigurationError:
        pytest.skip("this machine has no IPv6 address")
    async with serving(settings_of(sqlite_template, http_host="::1")) as served, served.client() as client:
        assert served.url.startswith("http://[::1]:")
        assert (await client.call_tool("echo", {"text": "hi"})).structured_content == {"result": "hi"}
