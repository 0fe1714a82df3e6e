"""Who may look, and from where an answer may come, as a browser has it."""

import http.server
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from tests.server.ui.browser.conftest import POLLS_MS, OpenWindow, Serve
from tests.server.ui.browser.outcomes import until

if TYPE_CHECKING:
    from playwright.async_api import Page

TOKEN = "the-test-token-Zx81Qk27Lm93Rv55Tn60"


async def test_somebody_logs_in_and_out(runs: Path, serve: Serve, windows: OpenWindow) -> None:
    """And comes to the page that was asked for; no script can read what the browser is known by."""
    server = await serve(runs, WORKFLOWS_HTTP_TOKEN=TOKEN)
    async with windows(server.origin) as window:
        page = window.page
        await page.goto("/ui/waiting?before=")
        assert await page.get_by_role("heading", level=1).inner_text() == "Log in"
        assert await page.get_by_role("button", name="Log out").count() == 0
        await page.get_by_label("Token").fill("a guess")
        await page.keyboard.press("Enter")
        assert await page.get_by_role("alert").inner_text() == "That is not one of this server's tokens."
        window.had("status 401: POST .*/ui/login")
        await page.get_by_label("Token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/ui/waiting?before=")
        assert await page.evaluate("document.cookie") == ""
        [cookie] = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/ui")
        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url("**/ui/login")
        await page.goto("/ui")
        assert await page.get_by_role("heading", level=1).inner_text() == "Log in"


async def test_an_open_page_asks_for_the_token_once_its_session_is_over(
    runs: Path, serve: Serve, windows: OpenWindow
) -> None:
    """By itself, and comes back; but whoever has typed something keeps it, logs in beside it, and sends it then."""
    server = await serve(runs, WORKFLOWS_HTTP_TOKEN=TOKEN)
    async with windows(server.origin) as window:
        page = window.page
        await page.goto("/ui/run?id=onboard-adria-foods")
        await log_in(page)
        await page.context.clear_cookies()
        await page.evaluate(LOOK_NOW)
        await page.wait_for_url("**/ui/login?to=*", timeout=POLLS_MS)
        await log_in(page)
        assert page.url.endswith("/ui/run?id=onboard-adria-foods")
        field = page.get_by_label("Your answer")
        await field.fill("4711")
        await page.context.clear_cookies()
        await page.evaluate(LOOK_NOW)
        async with page.expect_popup() as opened:
            await page.get_by_role("link", name="Log in, in another tab").click()
        beside = await opened.value
        await log_in(beside)
        assert beside.url == page.url
        await beside.close()
        await page.evaluate(LOOK_NOW)
        await page.get_by_text("Your session is over").wait_for(state="hidden")
        assert await field.input_value() == "4711"
        await page.get_by_role("button", name="Answer", exact=True).click()
        assert "send it again" in await page.get_by_role("alert").inner_text()
        window.had("status 422: POST .*/ui/answer")
        await page.get_by_role("button", name="Answer", exact=True).click()
        await page.wait_for_url("**/ui/run?id=onboard-adria-foods*")
    await until(runs, "onboard-adria-foods", "success")


LOOK_NOW = "document.getElementById('run').dispatchEvent(new CustomEvent('every'))"
"""What an open page does every other second."""


async def log_in(page: "Page") -> None:
    """Show the token, and come to the page that was asked for."""
    await page.get_by_label("Token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await page.locator("#run").wait_for()


async def test_another_page_can_neither_answer_nor_show_this_one(runs: Path, serve: Serve, windows: OpenWindow) -> None:
    """Even one of the same machine, which browsers send the session's cookie for."""
    server = await serve(runs)
    async with windows(server.origin) as window:
        await window.page.goto("/ui/waiting")
        token = await window.page.locator("[name=form_token]").first.input_value()
        action = await window.page.locator("form[action*=answer]").first.get_attribute("action")
        content = f"""
            <form method="post" action="{server.origin}{action}">
            <input name="form_token" value="{token}"><button name="choice" value="0">Win a prize</button></form>
            <iframe src="{server.origin}/ui"></iframe>
        """
        with elsewhere(content) as address:
            await window.page.goto(address)
            assert window.page.frames[1].url.startswith("chrome-error:")
            await window.page.get_by_role("button", name="Win a prize").click()
            window.had("status 403: POST .*/ui/answer")
            assert "may not" in await window.page.inner_text("body")
            window.had("console error: Framing .*frame-ancestors 'none'")
    await until(runs, "release-4.3.0", "paused")


@contextmanager
def elsewhere(content: str) -> Iterator[str]:
    """The address of a page of somebody else's on the same machine."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(f"<!doctype html><title>Prizes</title><link rel=icon href=data:,>{content}".encode())

        def log_message(self, *_: object) -> None:
            """Write nothing to stderr."""

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            serving.join()
