"""Nobody but who may gets in: by name, by origin, by token, with a body of a fit size, in time."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.http.served import TOKEN, Served, browser, modern_call, serving, settings_of
from workflows_mcp.server.http import connections, guard

ROUTES = ("/mcp", "/metrics", "/healthz", "/readyz", "/nothing")
PROBES = ("/healthz", "/readyz")
OTHER = "another-token-Ab12Cd34Ef56Gh78Ij90"


@pytest.fixture
async def open_to_all(sqlite_template: Path) -> AsyncIterator[Served]:
    """A server that asks for no token."""
    async with serving(settings_of(sqlite_template)) as served:
        yield served


@pytest.fixture
async def guarded(sqlite_template: Path) -> AsyncIterator[Served]:
    """A server with two tokens, another name, and a page that may call it."""
    settings = settings_of(
        sqlite_template,
        http_token=f"{TOKEN},{OTHER}",
        http_allowed_hosts="mcp.example.org, internal:8443",
        http_allowed_origins="https://inspector.example.org:443",
        http_max_body_mb=0.01,
    )
    async with serving(settings) as served:
        yield served


async def status_of(url: str, method: str = "GET", **headers: str) -> int:
    """What a request comes to."""
    async with browser() as client:
        return (await client.request(method, url, headers=headers)).status_code


async def raw(served: Served, text: str) -> bytes:
    """What is answered to bytes as they stand, up to the end of the connection or of the headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        writer.write(text.replace("\n", "\r\n").encode())
        async with asyncio.timeout(5):
            return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    finally:
        writer.close()


async def test_a_stranger_s_name_is_refused_on_every_route(open_to_all: Served) -> None:
    """Whatever it resolves to, and however like ours it looks; a probe is answered by any name."""
    port = open_to_all.port
    strangers = (
        "evil.example",
        f"evil.example:{port}",
        f"localhost.evil.example:{port}",
        f"127.0.0.1.nip.example:{port}",
        f"localhost:{port}@evil.example",
        f"127.0.0.1:{port}.evil.example",
        "localhost:*",
        "[::1",
        "127.0.0.2",
        "10.0.0.1",
    )
    for route, host in itertools.product(ROUTES, strangers):
        assert await status_of(open_to_all.url + route, host=host) == (200 if route in PROBES else 421), host


async def test_a_request_without_a_name_or_with_two_is_refused(open_to_all: Served) -> None:
    """HTTP/1.0 needs no Host, and we do."""
    assert b" 421 " in await raw(open_to_all, "GET /metrics HTTP/1.0\n\n")
    assert b" 400 " in await raw(open_to_all, "GET /metrics HTTP/1.1\nHost: localhost\nHost: evil.example\n\n")


async def test_names_of_this_machine_and_those_that_were_given_are_taken(guarded: Served) -> None:
    """With any port, since a tunnel may have another one; a name that was given with a port, only with that."""
    url, token = f"{guarded.url}/metrics", f"Bearer {TOKEN}"
    for host in (
        "127.0.0.1",
        "localhost:9",
        "LOCALHOST",
        "[::1]:80",
        "mcp.example.org",
        "MCP.example.org:1",
        "internal:8443",
    ):
        assert await status_of(url, host=host, authorization=token) == 200, host
    for host in ("internal", "internal:8444", "x.mcp.example.org"):
        assert await status_of(url, host=host, authorization=token) == 421, host


async def test_a_page_of_another_origin_is_refused_on_every_route(open_to_all: Served) -> None:
    """Another port of this machine is another origin, too; and no answer tells a browser to show it."""
    port = open_to_all.port
    strangers = (
        "http://evil.example",
        f"http://localhost:{port}.evil.example",
        f"https://localhost:{port}",
        f"http://localhost:{port + 1}",
        "http://localhost",
        "null",
        "",
    )
    async with browser() as client:
        for route, origin, method in itertools.product(ROUTES, strangers, ("GET", "POST", "OPTIONS")):
            headers = {"origin": origin, "access-control-request-method": "POST"}
            answer = await client.request(method, open_to_all.url + route, headers=headers)
            assert answer.status_code == 403, (origin, method)
            assert not [name for name in answer.headers if name.startswith("access-control")]
        twice = [("origin", f"http://localhost:{port}"), ("origin", "http://evil.example")]
        assert (await client.get(open_to_all.mcp, headers=twice)).status_code == 403


async def test_a_page_that_may_call_can_do_so_from_a_browser(guarded: Served) -> None:
    """It asks without a token first, for the headers of MCP; then it may read the answers."""
    origin = "https://inspector.example.org"
    asking = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, mcp-protocol-version, mcp-param-x, x-other",
    }
    headers, body = modern_call("echo", text="hi")
    async with browser() as client:
        allowed = await client.options(guarded.mcp, headers=asking)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == origin
        assert allowed.headers["vary"] == "Origin"
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert (
            allowed.headers["access-control-allow-headers"]
            == "authorization, content-type, mcp-protocol-version, mcp-param-x"
        )
        refused = await client.post(guarded.mcp, headers={**headers, "origin": origin}, json=body)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin)
        headers |= {"origin": origin, "authorization": f"Bearer {TOKEN}"}
        answer = await client.post(guarded.mcp, headers=headers, json=body)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
        assert "mcp-session-id" in answer.headers["access-control-expose-headers"]


async def test_without_a_token_there_is_nothing_but_probes(guarded: Served) -> None:
    """Whatever stands in its place; 401 says what to send."""
    shown: tuple[dict[str, str], ...] = (
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN},{OTHER}"},
        {"authorization": f"Bearer {TOKEN} more"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
    )
    async with browser() as client:
        for route in ("/mcp", "/metrics"):
            for headers in shown:
                answer = await client.get(f"{guarded.url}{route}", headers=headers)
                assert answer.status_code == 401, headers
                assert answer.headers["www-authenticate"].startswith("Bearer")
            twice = [("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer other")]
            assert (await client.get(f"{guarded.url}{route}", headers=twice)).status_code == 401
            assert (await client.get(f"{guarded.url}{route}?token={TOKEN}")).status_code == 401
        for route in PROBES:
            assert (await client.get(f"{guarded.url}{route}")).status_code == 200
        for token in (f"Bearer {TOKEN}", f"bearer  {OTHER}"):
            assert (await client.get(f"{guarded.url}/metrics", headers={"authorization": token})).status_code == 200


async def test_the_sdk_s_client_gets_in_with_any_of_the_tokens(guarded: Served) -> None:
    """And with none but these."""
    for token in (TOKEN, OTHER):
        async with guarded.client(token) as client:
            assert (await client.call_tool("echo", {"text": "hi"})).structured_content == {"result": "hi"}
    with pytest.raises(Exception) as caught:  # noqa: PT011 - a group of the SDK's errors
        async with guarded.client("wrong-" + TOKEN) as client:
            await client.list_tools()
    assert TOKEN not in str(caught.value)


async def test_a_body_that_is_too_large_is_not_read(guarded: Served) -> None:
    """Declared or in chunks that never end; nor is one where there should be none."""
    login = {"authorization": f"Bearer {TOKEN}"}
    async with browser() as client:
        declared = await client.post(guarded.mcp, headers=login, content=b"x" * 2**22)
        assert (declared.status_code, "WORKFLOWS_HTTP_MAX_BODY_MB" in declared.text) == (413, True)
    head = f"HTTP/1.1\nHost: localhost\nAuthorization: Bearer {TOKEN}\nTransfer-Encoding: chunked\n\n"
    assert b" 413 " in await raw(guarded, f"POST /mcp {head}" + f"2000\n{'x' * 0x2000}\n" * 2)
    assert b" 413 " in await raw(guarded, f"GET /metrics {head}1\nx\n")
    # What is declared too large is not waited for.
    declared_only = head.replace("Transfer-Encoding: chunked", "Content-Length: 999999999")
    assert b" 413 " in await raw(guarded, f"POST /mcp {declared_only}")
    # Nobody's body is read before his token.
    assert b" 401 " in await raw(guarded, "POST /mcp HTTP/1.1\nHost: localhost\nContent-Length: 999999999\n\n")


async def test_a_client_that_dawdles_is_not_waited_for(guarded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for a body, nor for headers, nor for a first byte."""
    monkeypatch.setattr(guard, "_BODY_SECONDS", 0.1)
    monkeypatch.setattr(connections, "_REQUEST_SECONDS", 0.1)
    head = f"POST /mcp HTTP/1.1\nHost: localhost\nAuthorization: Bearer {TOKEN}\nContent-Length: 10\n\n"
    assert b" 408 " in await raw(guarded, head + "12345")
    assert await raw(guarded, "GET /healthz HTTP/1.1\nHost: local") == b""
    assert await raw(guarded, "") == b""
    # Nor for a second request over a connection that is kept.
    reader, writer = await asyncio.open_connection("127.0.0.1", guarded.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"}\n")
    writer.write(b"GET /he")
    async with asyncio.timeout(3):
        assert await reader.read() == b""
    writer.close()


async def test_headers_have_a_limit(guarded: Served) -> None:
    """What has no end is not collected."""
    assert b" 400 " in await raw(guarded, f"GET /healthz HTTP/1.1\nHost: localhost\nX: {'x' * 70_000}")


async def test_no_log_line_holds_what_was_sent(guarded: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Not at any level: no token, no query, no path that is none of ours, no body."""
    caplog.set_level(logging.DEBUG, logger="workflows_mcp")
    async with browser() as client:
        await client.get(f"{guarded.url}/metrics?token={TOKEN}", headers={"authorization": f"Bearer {TOKEN}"})
        await client.get(f"{guarded.url}/{TOKEN}", headers={"authorization": f"Bearer {TOKEN[::-1]}"})
        headers, body = modern_call("echo", text="body-canary")
        await client.post(guarded.mcp, headers={**headers, "authorization": f"Bearer {TOKEN}"}, json=body)
        await client.post(guarded.mcp, headers={"authorization": f"Bearer {TOKEN[::-1]}"}, json=body)
    shown = " ".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "GET /metrics: 200" in shown
    assert "was refused (401)" in shown
    for canary in (TOKEN, TOKEN[::-1], "token=", "body-canary"):
        assert canary not in shown
