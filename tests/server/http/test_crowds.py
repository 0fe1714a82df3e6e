"""Whoever opens many connections, or reads nothing, keeps nobody out and takes no file that the work needs."""

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.server.http.served import TOKEN, Served, browser, modern_call, serving, settings_of
from workflows_mcp.server.http import connections, room
from workflows_mcp.server.ui.paths import UiOptions

PROBE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LOGIN = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def crowd() -> Iterator[list[socket.socket]]:
    """Sockets of a stranger, which are closed at the end."""
    sockets: list[socket.socket] = []
    yield sockets
    for one in sockets:
        one.close()


@pytest.fixture
async def small(sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """A server that has room for four connections."""
    monkeypatch.setattr("workflows_mcp.server.http.serving.most_connections", lambda: 4)
    async with serving(settings_of(sqlite_template, http_token=TOKEN), ui=UiOptions()) as served:
        yield served


async def connect(served: Served, crowd: list[socket.socket], count: int, receives: int | None = None) -> None:
    """Open connections, and say nothing."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        one = socket.socket()
        crowd.append(one)
        one.settimeout(0)
        if receives is not None:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        await loop.sock_connect(one, ("127.0.0.1", served.port))


async def metrics(client: httpx2.AsyncClient, served: Served) -> str:
    """What is counted."""
    return (await client.get(f"{served.url}/metrics", headers=LOGIN)).text


async def test_silent_connections_take_no_files_from_the_work(
    sqlite_template: Path, crowd: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thirds of them are never accepted, or closed at once: a call goes on, and files can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(settings_of(sqlite_template)) as _:
        pass  # what a first server loads is not counted
    open_now = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(room, "_files", lambda: 128)
    async with serving(settings_of(sqlite_template, http_token=TOKEN)) as served, browser(headers=LOGIN) as client:
        headers, body = modern_call("wait")
        call = asyncio.create_task(client.post(served.mcp, headers=headers, json=body))
        await served.waiting.wait()
        # In one burst: the server's side of them is accepted only once this task waits for something.
        for _ in range(300):
            one = socket.socket()
            crowd.append(one)
            one.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", served.port))
        most = 0
        for _ in range(400):
            await asyncio.sleep(0)
            most = max(most, len(list(Path("/proc/self/fd").iterdir())) - open_now - len(crowd))
        assert 96 <= most <= 96 + 24, "the rest are the database's, and a few that are about to be closed"
        served.gate.set()
        assert "done" in (await call).text
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


async def test_strangers_who_hold_all_connections_keep_nobody_out(
    small: Served, crowd: list[socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    """Those on which nothing is answered give way, the oldest first; it is counted, and told once."""
    loop = asyncio.get_running_loop()
    await connect(small, crowd, 9)
    for one in crowd[-2:]:  # nor do those that have been answered
        await loop.sock_sendall(one, PROBE)
        assert b" 200 " in await loop.sock_recv(one, 1000)
    async with browser() as client:
        assert 'workflows_http_connections_closed_total{reason="crowded"} ' in await metrics(client, small)
        for one in crowd[:5]:
            with contextlib.suppress(ConnectionResetError):
                assert await loop.sock_recv(one, 1) == b""
    told = [record for record in caplog.records if "connections were closed" in record.getMessage()]
    assert [record.levelno for record in told] == [logging.WARNING]


@pytest.mark.parametrize("path", ["/ui/login", "/ui/answer?checkpoint=x"])
async def test_strangers_whose_bodies_never_come_keep_nobody_out(
    small: Served, crowd: list[socket.socket], path: str
) -> None:
    """Not even by the one form that is taken of somebody who shows no token."""
    await connect(small, crowd, 9)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n".encode()
    for one in crowd:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # those that have given way already
            await asyncio.get_running_loop().sock_sendall(one, head)
    await asyncio.sleep(0)  # so that their heads are read before anything else is
    async with asyncio.timeout(5), browser() as client:
        assert 'workflows_http_connections_closed_total{reason="crowded"} ' in await metrics(client, small)


async def test_calls_that_are_under_way_do_not_give_way(small: Served, crowd: list[socket.socket]) -> None:
    """Where all are at work, the newest is closed."""
    headers, body = modern_call("wait")
    async with contextlib.AsyncExitStack() as clients:
        calls = []
        for _ in range(4):
            client = await clients.enter_async_context(browser(headers=LOGIN))
            small.waiting.clear()
            calls.append(asyncio.create_task(client.post(small.mcp, headers=headers, json=body)))
            await small.waiting.wait()
        await connect(small, crowd, 6)
        for one in crowd:
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(one, 1) == b""
        small.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*calls)] == [200] * 4


async def test_requests_have_a_limit_too(small: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go on whose clients have gone away."""
    gate = asyncio.Event()
    monkeypatch.setattr("workflows_mcp.server.http.guard.Guard.__call__", lambda *_: gate.wait())
    for _ in range(4):
        _, writer = await asyncio.open_connection("127.0.0.1", small.port)
        writer.write(PROBE)
        writer.close()
    async with browser() as client:
        answer = await client.get(f"{small.url}/healthz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    gate.set()


async def test_a_client_that_reads_nothing_is_not_waited_for(
    sqlite_template: Path, crowd: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does not take would be kept for it without end, and its connection with it."""
    monkeypatch.setattr(connections, "_REQUEST_SECONDS", 0.2)
    headers, body = modern_call("echo", text="x" * 2_000_000)
    async with serving(settings_of(sqlite_template)) as served, browser() as client:
        await connect(served, crowd, 1, receives=2304)
        request = client.build_request("POST", served.mcp, headers=headers, json=body)
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        sent = f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + request.read()
        await asyncio.get_running_loop().sock_sendall(crowd[0], sent)
        async with asyncio.timeout(5):
            while 'connections_closed_total{reason="unread"} 1.0' not in await metrics(client, served):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)


async def test_a_client_that_reads_slowly_gets_its_answer(
    sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes, as long as it goes on."""
    monkeypatch.setattr(connections, "_REQUEST_SECONDS", 0.4)
    text = "x" * 2_000_000
    headers, body = modern_call("echo", text=text)
    async with (
        serving(settings_of(sqlite_template)) as served,
        browser() as client,
        client.stream("POST", served.mcp, headers=headers, json=body) as answer,
    ):
        got = 0
        async for piece in answer.aiter_bytes(100_000):
            got += len(piece)
            await asyncio.sleep(0.03)
        assert got > 2 * len(text), "it is in the text and in the structured content"


async def test_what_is_no_http_is_counted_and_told(sqlite_template: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With no word of what it was."""
    caplog.set_level(logging.INFO, logger="workflows_mcp")
    async with serving(settings_of(sqlite_template)) as served:
        for sent in (b"\x16\x03\x01 canary\r\n\r\n", b"GET /canary HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(sent)
            assert b" 400 " in await reader.readline()
            writer.close()
        async with browser() as client:
            found = await metrics(client, served)
    assert 'workflows_http_requests_total{route="other",status="400"} 2.0' in found
    assert caplog.text.count("a request from 127.0.0.1 was refused (400)") == 2
    assert "canary" not in caplog.text


async def test_a_body_that_nobody_asked_for_is_not_waited_for(sqlite_template: Path) -> None:
    """Whoever has no token could hold a connection by it."""
    async with serving(settings_of(sqlite_template, http_token=TOKEN)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(PROBE.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"))
        async with asyncio.timeout(2):
            assert b" 413 " in await reader.readline()
        writer.close()
