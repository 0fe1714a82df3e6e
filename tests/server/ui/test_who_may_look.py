"""Who sees the pages, and whose forms are taken."""

import asyncio
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.server.http.served import TOKEN, browser, serving, settings_of
from tests.server.ui.visiting import run_workflow, visiting
from workflows_mcp import CheckpointMetadata
from workflows_mcp.persistence.store import create_checkpoint_store
from workflows_mcp.server.ui import app
from workflows_mcp.server.ui.paths import UiOptions, path_to

ALL_PAGES = (
    "/ui",
    "/ui/waiting",
    "/ui/state?checkpoint=x",
    "/ui/diff?a=x",
    "/ui/answer?checkpoint=x",
    "/ui/login",
    "/ui/nothing",
    "/ui/static/ui.css",
)

OURS_ONLY = {"script-src", "style-src", "connect-src", "form-action"}

GUARDS = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


async def test_every_page_is_under_a_policy_that_lets_no_script_in(runs_file: Path) -> None:
    """Nor a frame, nor anything of another host; what is wrong is a page, too."""
    async with visiting(runs_file) as visitor:
        for path in ALL_PAGES:
            response = await visitor.get(path)
            policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
            assert policy.pop("img-src") == "'self' data:"
            assert {name for name, those in policy.items() if those == "'self'"} == OURS_ONLY
            assert {name for name, those in policy.items() if those == "'none'"} == policy.keys() - OURS_ONLY
            assert {name: response.headers[name] for name in GUARDS} == GUARDS
            assert response.headers["cache-control"] == ("no-cache" if "static" in path else "no-store")
            assert not re.search(r"<script(?![^>]* src=)|\sstyle=|\son\w+=|hx-on", response.text), path


async def test_with_a_token_nothing_is_seen_before_a_login(runs_file: Path) -> None:
    """Then the page that was asked for; the cookie is out of a script's reach, and is sent by no other site."""
    async with visiting(runs_file, http_token=TOKEN) as visitor:
        asked = await visitor.get("/ui/waiting?before=1.0,x")
        assert (asked.url.path, asked.status_code) == ("/ui/login", 200)
        assert "Waiting for you</h1>" not in asked.text
        wrong = await visitor.send("/ui/login", token="x" * 40)
        assert (wrong.status_code, "not one of this server" in wrong.text) == (401, True)
        visitor.http.follow_redirects = False
        right = await visitor.send(f"/ui/login?{asked.url.query.decode()}", token=TOKEN)
        assert (right.status_code, right.headers["location"]) == (303, "/ui/waiting?before=1.0,x")
        cookie = right.headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/ui"))
        assert "Secure" not in cookie
        assert TOKEN not in cookie
        assert (await visitor.get("/ui/waiting")).status_code == 200
        out = await visitor.send("/ui/logout")
        assert (out.status_code, (await visitor.get("/ui")).status_code) == (303, 303)


async def test_whoever_logs_out_late_is_out(runs_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though to be there makes a session last longer; and nothing that was sent in it before is taken after it."""
    now = time.time()
    monkeypatch.setattr("workflows_mcp.server.ui.sessions.time", SimpleNamespace(time=lambda: now))
    async with visiting(runs_file, UiOptions(read_only=True), http_token=TOKEN) as visitor:
        await visitor.get("/ui/login")
        assert (await visitor.send("/ui/login", token=TOKEN)).url.path == "/ui", "also where nothing can be changed"
        visitor.http.follow_redirects = False
        now += 7 * 3600
        [told] = (await visitor.send("/ui/logout")).headers.get_list("set-cookie")
        assert "Max-Age=0" in told
        assert not visitor.http.cookies
        assert (await visitor.get("/ui")).status_code == 303


async def test_no_page_but_the_login_is_seen_or_sent_without_one(runs_file: Path, tmp_path: Path) -> None:
    """Whatever pages there are, with the visitor's own form token: each leads to the login, and does nothing."""
    paused = await run_workflow(runs_file, tmp_path, "approve", "secret-run")
    checkpoint_id = paused.checkpoint_id or ""
    query = {"id": "secret-run", "checkpoint": checkpoint_id, "a": checkpoint_id}
    before = await _stored(runs_file)
    async with visiting(runs_file, http_token=TOKEN) as visitor:
        await visitor.get("/ui/login")
        visitor.http.follow_redirects = False
        inner = [name.removeprefix("/") for name in app._PAGES if name not in {"/login", "/logout"}]
        assert len(inner) == len(app._PAGES) - 2 >= 13
        for path in [path_to(name, **query) for name in inner] + ["/ui/run/?id=secret-run"]:
            got = await visitor.get(path)
            assert (got.status_code, got.headers["location"].partition("?")[0]) == (303, "/ui/login"), path
            part = await visitor.get(path, **{"hx-request": "true"})
            assert (part.status_code, part.headers["hx-redirect"].partition("?")[0]) == (204, "/ui/login"), path
            sent = await visitor.send(path, choice="0", run_id="another", inputs="")
            assert (sent.status_code, 'name="token"' in sent.text) == (401, True), path
            assert not any("Deploy?" in one.text for one in (got, part, sent)), path
        assert [(await visitor.send(f"/ui{name}")).status_code for name in ("/login", "/logout")] == [401, 303]
    assert await _stored(runs_file) == before


async def _stored(file: Path) -> list[CheckpointMetadata]:
    async with create_checkpoint_store(str(file)) as store:
        return await store.list_checkpoints()


async def test_the_cookie_of_a_page_that_came_by_tls_goes_nowhere_else(runs_file: Path) -> None:
    """By whatever proxy; its origin is that of the host that was called."""
    async with visiting(runs_file, http_token=TOKEN, http_allowed_hosts="runs.example.org") as visitor:
        by_name = {"host": "runs.example.org"}
        await visitor.get("/ui/login", **by_name)
        visitor.http.follow_redirects = False
        response = await visitor.send("/ui/login", {**by_name, "origin": "https://runs.example.org"}, token=TOKEN)
        assert (response.status_code, "Secure" in response.headers["set-cookie"]) == (303, True)


async def test_no_form_of_a_stranger_is_waited_for(runs_file: Path) -> None:
    """Who it comes from is known by its head: only a login has a body without one, and a short one."""
    form = "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n{}\r\n\r\n"
    async with visiting(runs_file, http_token=TOKEN) as visitor:
        await visitor.get("/ui/login")
        port = int(visitor.url.rpartition(":")[2])
        for path, of_body, status in (
            ("/ui/answer?checkpoint=x", "Content-Length: 9", b" 401 "),
            ("/ui/fork?checkpoint=x", "Transfer-Encoding: chunked", b" 401 "),
            ("/ui/waiting", "Content-Length: 4194304", b" 401 "),
            ("/ui/nothing", "Content-Length: 9", b" 404 "),
            ("/ui/login", "Content-Length: 4097", b" 413 "),
            ("/ui/logout", "Content-Length: 4194304", b" 413 "),
        ):
            head = form.format(path, f"{of_body}\r\nCookie: workflows_mcp_{port}=99999999999.x.y").encode()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            async with asyncio.timeout(2):
                assert status in await reader.readline(), path
            writer.close()
        visitor.http.follow_redirects = False
        assert (await visitor.send("/ui/login", token=TOKEN.ljust(3_000))).status_code == 303
    many: dict[str, Any] = {f"n{number}": "" for number in range(60)}
    async with visiting(runs_file) as visitor:
        await visitor.get("/ui/login")
        assert (await visitor.send("/ui/login", **many)).status_code == 400, "no form of ours has so many fields"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(visitor.url.rpartition(":")[2]))
        writer.write(form.format("/ui/waiting", "Content-Length: 4194304").encode())
        async with asyncio.timeout(2):
            assert b" 405 " in await reader.readline(), "nobody waits for what no page takes, whoever sends it"
        writer.close()


STRANGERS = (
    "https://evil.example/",
    "//evil.example",
    "/ui\\evil",
    "/uix",
    "/ui/login",
    "/ui?\nx",
    "/ui/../other",
    "/ui/x/%2E./other",
    "/ui/..",
)


async def test_a_login_leads_nowhere_but_to_our_pages(runs_file: Path) -> None:
    """A link of a stranger's cannot send people on to the stranger."""
    async with visiting(runs_file, http_token=TOKEN) as visitor:
        visitor.http.follow_redirects = False
        for to in STRANGERS:
            visitor.http.cookies.clear()
            await visitor.get("/ui/login")
            response = await visitor.http.post(
                f"{visitor.url}/ui/login",
                params={"to": to},
                data={"form_token": visitor.form_token, "token": TOKEN},
                headers={"origin": visitor.url},
            )
            assert (response.status_code, response.headers["location"]) == (303, "/ui"), to


async def test_a_forged_or_old_cookie_is_none(runs_file: Path) -> None:
    """Nor is one whose time was put off, or that another token was shown for."""
    async with visiting(runs_file, http_token=TOKEN) as visitor:
        await visitor.get("/ui/login")
        await visitor.send("/ui/login", token=TOKEN)
        [(name, value)] = visitor.http.cookies.items()
        expires, nonce, signature = value.split(".")
        visitor.http.follow_redirects = False
        visitor.http.cookies.clear()
        forged = (
            f"{int(expires) + 1}.{nonce}.{signature}",
            f"{expires}.{nonce}x.{signature}",
            f"99999999999.{nonce}.{'0' * 64}",
            f"1.{nonce}.{signature}",
            f"{'9' * 400}.x.y",
            "x",
            "",
        )
        assert (await visitor.get("/ui", cookie=f"{name}={value}")).status_code == 200
        for text in forged:
            response = await visitor.get("/ui", cookie=f"{name}={text}")
            assert (response.status_code, response.headers["location"][:9]) == (303, "/ui/login"), text
    async with visiting(runs_file, http_token=f"another-{TOKEN}") as visitor:
        visitor.http.follow_redirects = False
        assert (await visitor.get("/ui", cookie=f"{name}={value}")).status_code == 303


async def test_a_link_of_another_site_ends_no_session(runs_file: Path) -> None:
    """It comes without the cookie: it is followed once more from a page of ours, and sets none of its own."""
    async with visiting(runs_file, http_token=TOKEN) as visitor:
        visitor.http.follow_redirects = False
        linked = await visitor.get("/ui/waiting", **{"sec-fetch-site": "cross-site"})
        assert (linked.status_code, 'http-equiv="refresh"' in linked.text) == (200, True)
        assert "set-cookie" not in linked.headers
        again = await visitor.get("/ui/waiting", **{"sec-fetch-site": "same-origin"})
        assert (again.status_code, "set-cookie" in again.headers) == (303, False)


async def test_no_other_page_can_send_a_form(runs_file: Path, tmp_path: Path) -> None:
    """By its origin, by the token that it does not know, by a kind of body that needs no leave."""
    paused = await run_workflow(runs_file, tmp_path, "approve", "r1")
    path = f"/ui/answer?checkpoint={paused.checkpoint_id}"
    async with visiting(runs_file, http_allowed_origins="https://inspector.example.org") as visitor:
        await visitor.get("/ui/waiting")
        for origin in ("https://evil.example", "null", "https://inspector.example.org", "http://127.0.0.1:1"):
            assert (await visitor.send(path, {"origin": origin}, choice="0")).status_code == 403, origin
        good = visitor.form_token
        for token in ("", "0" * 64, "é", good[:-1]):
            refused = await visitor.send("/ui/cancel?id=r1", form_token=token)
            assert (refused.status_code, "too old" in refused.text) == (403, True)
            assert 'href="/ui/run?id=r1"' in refused.text
            asked = await visitor.send(path, form_token=token, choice="0")
            assert (asked.status_code, "send it again" in asked.text) == (422, True)
        as_text = {"content-type": "text/plain", "origin": visitor.url}
        response = await visitor.http.post(
            f"{visitor.url}{path}", content=f"form_token={good}&choice=0", headers=as_text
        )
        assert response.status_code == 415
        assert "Deploy?" in (await visitor.get("/ui/waiting")).text


async def test_what_was_typed_before_the_server_was_started_anew_is_there_to_be_sent_again(
    runs_file: Path, tmp_path: Path
) -> None:
    """In the same form, which is taken then; nothing was done before."""
    asked = await run_workflow(runs_file, tmp_path, "anything", "r1")
    async with visiting(runs_file) as visitor:
        await visitor.get("/ui/waiting")
        old = visitor.form_token
    async with visiting(runs_file) as visitor:
        fork = f"/ui/fork?checkpoint={asked.checkpoint_id}"
        again = await visitor.send(fork, form_token=old, run_id="r 2", inputs="{}")
        assert (again.status_code, "send it again" in again.text) == (422, True)
        assert all(part in again.text for part in ('value="r 2"', ">\n{}</textarea>"))
        answer = f"/ui/answer?checkpoint={asked.checkpoint_id}"
        again = await visitor.send(answer, form_token=old, response="typed with care")
        assert (again.status_code, ">\ntyped with care</textarea>" in again.text) == (422, True)
        assert "send it again. The run still waits" in again.text
        assert visitor.form_token != old
        visitor.http.follow_redirects = False
        assert (await visitor.send(answer, response="typed with care")).status_code == 303


async def test_a_session_that_is_over_leads_back_to_where_it_was(runs_file: Path, tmp_path: Path) -> None:
    """A part of a page sends the whole of it, and knows only pages of ours; a form is told to be sent again."""
    asked = await run_workflow(runs_file, tmp_path, "anything", "r1")
    answer = f"/ui/answer?checkpoint={asked.checkpoint_id}"
    async with visiting(runs_file, http_token=TOKEN) as visitor:
        for shown, to in (
            (f"{visitor.url}/ui/run?id=a%26b&at=c#x", "/ui/run?id=a%26b&at=c"),
            ("https://runs.example.org/ui", "/ui"),
            ("https://evil.example/evil?/ui", "/ui"),
            (f"{visitor.url}/ui/login?to=x", "/ui"),
            ("javascript:alert(1)//", "/ui"),
            ("", "/ui"),
        ):
            part = await visitor.get("/ui/run?id=x", **{"hx-request": "true", "hx-current-url": shown})
            assert (part.status_code, part.headers["hx-redirect"]) == (204, path_to("login", to=to)), shown
        login = await visitor.send(answer, response="typed")
        assert (login.status_code, "what you sent is not kept" in login.text) == (401, True)
        assert f'action="{path_to("login", to=answer)}"' in login.text
        assert path_to("login", to="/ui/run?id=r1") in (await visitor.send("/ui/cancel?id=r1")).text
        in_time = visitor.form_token
        assert "What is it?" in (await visitor.send(path_to("login", to=answer), token=TOKEN)).text
        other_tab = await visitor.send(path_to("login", to="/ui/health"), form_token=in_time, token=TOKEN)
        assert (other_tab.status_code, other_tab.url.path) == (200, "/ui/health"), "who is in need not log in"


async def test_a_session_that_is_used_goes_on_for_a_week(runs_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its forms stay good, and its cookie stays one for TLS alone; a page that is merely open makes it no longer."""
    began = now = time.time()
    monkeypatch.setattr("workflows_mcp.server.ui.sessions.time", SimpleNamespace(time=lambda: now))
    by_tls = {"host": "runs.example.org", "origin": "https://runs.example.org"}
    async with visiting(runs_file, http_token=TOKEN, http_allowed_hosts="runs.example.org") as visitor:
        await visitor.get("/ui/login", **by_tls)
        visitor.http.follow_redirects = False
        cookies = [(await visitor.send("/ui/login", by_tls, token=TOKEN)).headers["set-cookie"]]

        async def look_after(hours: float, **headers: str) -> bool:
            """Whether the session is still one."""
            nonlocal now
            now += hours * 3600
            shown = {"host": by_tls["host"], "cookie": cookies[-1].partition(";")[0]}
            page = await visitor.get("/ui/waiting", **shown, **headers)
            cookies.extend(page.headers.get_list("set-cookie"))
            return page.status_code == 200

        assert await look_after(5.9)
        form_token = visitor.form_token
        assert await look_after(0.2, **{"hx-request": "true"})
        assert len(cookies) == 1
        while await look_after(5):
            assert visitor.form_token == form_token
            assert now - began < 8 * 24 * 3600, "it never ends"
        assert 7 * 24 <= (now - began) / 3600 < 7 * 24 + 5
        assert len(set(cookies)) > 12, "it was given more time again and again"
        assert all({"Secure", "HttpOnly", "SameSite=strict", "Path=/ui"} <= set(one.split("; ")) for one in cookies)


async def test_pages_are_not_read_by_pages_of_other_origins(runs_file: Path) -> None:
    """Not even of those that may speak MCP: nothing allows a browser to show them."""
    async with visiting(runs_file, http_allowed_origins="https://inspector.example.org") as visitor:
        response = await visitor.get("/ui", origin="https://inspector.example.org")
        assert response.status_code == 403
        assert not any(name.startswith("access-control") for name in response.headers)
        assert (await visitor.get("/ui", host="evil.example")).status_code == 421


async def test_read_only_pages_show_all_and_change_nothing(runs_file: Path, tmp_path: Path) -> None:
    """There is no form, and one that is sent all the same is refused."""
    paused = await run_workflow(runs_file, tmp_path, "approve", "r1")
    async with visiting(runs_file, UiOptions(read_only=True)) as visitor:
        page = await visitor.get("/ui/waiting")
        assert ("Deploy?" in page.text, "<form" in page.text, "read-only" in page.text) == (True, False, True)
        refused = await visitor.send(f"/ui/answer?checkpoint={paused.checkpoint_id}", choice="0")
        assert (refused.status_code, "read-only: nothing was done" in refused.text) == (403, True)


async def test_without_pages_there_are_none(runs_file: Path) -> None:
    """WORKFLOWS_HTTP_UI=false."""
    async with serving(settings_of(runs_file)) as served, browser() as http:
        assert (await http.get(f"{served.url}/ui")).status_code == 404


async def test_the_server_s_bare_name_leads_to_the_pages(runs_file: Path) -> None:
    """Where there are some, and for those who call it by a name that it has."""
    async with visiting(runs_file) as visitor:
        assert (await visitor.get("/")).url.path == "/ui"
        assert (await visitor.get("/", host="evil.example")).status_code == 421
