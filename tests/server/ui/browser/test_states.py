"""A state of any size is read in a moment, piece by piece, and what differs between two is found."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.server.started import StartedServer
from tests.server.ui.browser.conftest import SCRIPTS, OpenWindow, Serve
from workflows_mcp import SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.testing import make_state

KEYS = 5_000

LARGE: dict[str, Any] = {f"key {number:04}": {"number": number, "text": "x" * 40} for number in range(KEYS)}


@pytest_asyncio.fixture(loop_scope="session")
async def large(tmp_path: Path, serve: Serve) -> AsyncIterator[StartedServer]:
    """A server with a run whose state has many keys, and large texts, of which few have changed."""
    database = tmp_path / "runs.db"
    await upgrade_schema(database)
    story = "once upon a time, " * 20_000
    async with SQLAlchemyCheckpointStore(database) as store:
        for number, keys in enumerate((LARGE, {**LARGE, "key 4321": {"number": -1}, "key new": story})):
            context = {"many": keys, "story": story}
            state = make_state(f"large-{number}", run_id="large", created_at=time.time(), context=context)
            await store.save_checkpoint(state, follows="large-0" if number else None)
    yield await serve(database)


@SCRIPTS
async def test_a_state_with_many_keys_is_read_to_its_end(
    large: StartedServer, windows: OpenWindow, *, scripts: bool
) -> None:
    """A part of it at a time: the page comes at once, and is small; more comes when it is asked for."""
    async with windows(large.origin, java_script_enabled=scripts) as window:
        page = window.page
        response = await page.goto("/ui/state?checkpoint=large-0&path=/context/many")
        assert response is not None
        assert len(await response.body()) < 500_000
        assert await page.locator("body *").count() < 6_000
        shown = await page.locator(".tree .key", has_text="key ").count()
        assert 0 < shown < KEYS
        assert f"of {KEYS:,} keys are here" in await page.inner_text("main")
        await page.get_by_role("link", name="Show more").click()
        last_of_next = page.locator(".tree .key", has_text=f"key {2 * shown - 1:04}").first
        await last_of_next.wait_for()
        # With scripts it is added to what was there, and the focus goes on from where it was.
        assert (await page.locator(".tree .key", has_text="key 0000").count() > 0) == scripts
        if scripts:
            focused = await page.evaluate("document.activeElement.innerText")
            assert focused.startswith(f"key {shown:04}")
        await page.goto(f"/ui/state?checkpoint=large-0&path=/context/many&from={KEYS - 3}")
        assert await page.locator(".tree .key", has_text="key ").count() == 3


async def test_what_is_folded_opens_where_it_is_by_the_keyboard(large: StartedServer, windows: OpenWindow) -> None:
    """What is too long to be there from the beginning is loaded then, and in parts."""
    async with windows(large.origin) as window:
        page = window.page
        await page.goto("/ui/state?checkpoint=large-0")
        await page.locator("summary", has_text="once upon a time").focus()
        assert await page.locator("pre", has_text="once upon a time").count() == 0
        await page.keyboard.press("Enter")
        await page.locator("pre", has_text="once upon a time").wait_for()
        await page.get_by_role("link", name="Show more").last.focus()
        await page.keyboard.press("Enter")
        await page.locator("pre", has_text="once upon a time").nth(1).wait_for()


async def test_a_state_is_taken_along_as_a_file(large: StartedServer, windows: OpenWindow) -> None:
    """Whole, as JSON, under a name that says which it is."""
    async with windows(large.origin) as window:
        await window.page.goto("/ui/state?checkpoint=large-0")
        async with window.page.expect_download() as downloading:
            await window.page.get_by_role("link", name="Download it as JSON").click()
        downloaded = await downloading.value
        assert "large-0" in downloaded.suggested_filename
        assert json.loads(Path(await downloaded.path()).read_text())["context"]["many"] == LARGE


async def test_two_large_states_differ_in_what_has_changed(large: StartedServer, windows: OpenWindow) -> None:
    """In nothing else; large values are folded, and open where they are."""
    async with windows(large.origin) as window:
        page = window.page
        response = await page.goto("/ui/diff?a=large-0&b=large-1")
        assert response is not None
        assert len(await response.body()) < 100_000
        main = await page.inner_text("main")
        assert "key 4321" in main
        assert "key 0000" not in main
        await page.locator("summary", has_text="once upon a time").first.click()
        await page.locator("pre", has_text="once upon a time").first.wait_for()
