"""Whatever stands in a checkpoint, or in an address, is text on a page."""

from pathlib import Path

import pytest_asyncio

from tests.server.ui.browser.conftest import OpenWindow, Serve
from tests.server.ui.browser.hostile import WAITING, attack, hostile_paths, save_hostile_runs
from tests.server.ui.browser.outcomes import outputs_of


@pytest_asyncio.fixture(loop_scope="session")
async def hostile(tmp_path: Path) -> Path:
    """A database of runs whose every text is an attack."""
    await save_hostile_runs(tmp_path / "runs.db")
    return tmp_path / "runs.db"


async def test_no_page_takes_a_text_for_more_than_that(hostile: Path, serve: Serve, windows: OpenWindow) -> None:
    """Nothing is run, loaded, or sent elsewhere; what attacks is there to be read, its marks included."""
    server = await serve(hostile)
    async with windows(server.origin) as window:
        for name, path in (await hostile_paths(hostile)).items():
            await window.page.goto(path, wait_until="networkidle")
            await window.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            told = await window.page.inner_text("main")
            assert "has failed" not in told, name
            assert await window.page.locator("main [src], main [onerror], main [onload], main script").count() == 0, (
                name
            )
            assert await window.page.locator("a[href^=javascript]").count() == 0, name
            elsewhere = window.page.locator("a[href*='//']:not([href^='/ui'])")
            assert await elsewhere.count() == 0, name
            window.wrong = [one for one in window.wrong if not one.startswith(("status 400: ", "status 404: "))]
            assert window.wrong == [], name


async def test_a_hostile_choice_is_answered_as_it_is(hostile: Path, serve: Serve, windows: OpenWindow) -> None:
    """The run goes on with its every character."""
    server = await serve(hostile)
    async with windows(server.origin) as window:
        await window.page.goto("/ui/waiting")
        await window.page.get_by_role("button", name=attack("said")).click()
        await window.page.wait_for_url("**/ui/run?*")
    assert await outputs_of(hostile, WAITING) == {"answer": attack("said")}
