"""A page that is left open stays true, and leaves in peace whoever reads or types."""

import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.server.started import StartedServer
from tests.server.ui.browser.conftest import POLLS_MS, OpenWindow, Serve, end
from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.testing import make_state


async def save(database: Path, run_id: str, **fields: object) -> None:
    """Save the first checkpoint of a run."""
    async with SQLAlchemyCheckpointStore(database) as store:
        await store.save_checkpoint(make_state(f"{run_id}-0", run_id=run_id, created_at=time.time(), **fields))


async def test_a_run_that_begins_shows_up_and_what_is_typed_stays(
    runs: Path, serve: Serve, windows: OpenWindow
) -> None:
    """The list is renewed around whoever types, reads further down, or has a row in focus."""
    server = await serve(runs)
    async with windows(server.origin) as window:
        page = window.page
        await page.goto("/ui")
        await page.get_by_label("Text in the id").fill("inv")
        focused = page.get_by_role("link", name="invoice-2041")
        await focused.focus()
        await page.evaluate("window.first = document.querySelector('#runs a[href*=\"invoice-2041\"]')")
        before = await page.evaluate("scrollY")
        await save(runs, "begun just now")
        await page.get_by_role("link", name="begun just now").wait_for(timeout=POLLS_MS)
        assert await page.get_by_label("Text in the id").input_value() == "inv"
        assert await page.evaluate("document.activeElement === window.first && first.isConnected")
        assert await page.evaluate("scrollY") >= before > 0


async def test_a_page_on_which_nothing_happens_does_not_move(staged: StartedServer, windows: OpenWindow) -> None:
    """Not by a hair, however often it asks."""
    async with windows(staged.origin) as window:
        for path in ("/ui", "/ui/waiting"):
            await window.page.goto(path, wait_until="networkidle")
            for _ in range(2):
                async with window.page.expect_response(lambda one: one.url.startswith(f"{staged.origin}/ui")):
                    pass
            assert await window.jumps() == []


async def test_a_server_that_is_away_is_told_of_until_it_is_back(runs: Path, serve: Serve, windows: OpenWindow) -> None:
    """What was there stays to be read."""
    server = await serve(runs)
    async with windows(server.origin) as window:
        page = window.page
        told = page.get_by_text("The server does not answer: what you see may be old.")
        await page.goto("/ui", wait_until="networkidle")
        assert not await told.is_visible()
        async with page.expect_event("requestfailed", timeout=POLLS_MS):
            await end(server)
        await told.wait_for(timeout=POLLS_MS)
        assert await page.get_by_role("link", name="invoice-2041").is_visible()
        await serve(runs, port=urlsplit(server.origin).port)
        await told.wait_for(state="hidden", timeout=POLLS_MS)
        window.had("console error: Failed to load resource: net::ERR_")
        window.had("console error: htmx: htmx:error: Failed to fetch")
        window.may_have_had("status 503: GET")  # was asked while the server was ending
