"""Every page, as people look at it: light, dark, wide, on a phone, without a mouse, with a screen reader."""

from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.server.started import StartedServer
from tests.server.ui.browser.accessible import assert_accessible
from tests.server.ui.browser.conftest import OpenWindow
from tests.server.ui.browser.windows import PHONE, SMALL, WIDE
from tests.server.ui.pages import MORE, PAGES, paths_on_stage

LOOKS: dict[str, dict[str, Any]] = {
    f"{size}-{scheme}": {"viewport": viewport, "color_scheme": scheme}
    for size, viewport, scheme in (
        ("wide", WIDE, "light"),
        ("wide", WIDE, "dark"),
        ("phone", PHONE, "light"),
        ("small", SMALL, "dark"),
    )
}

LOOKS_IN_SHORT = ("wide-light", "small-dark")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def addresses(stage: Path, staged: StartedServer, closed: StartedServer) -> dict[str, str]:
    """Where each page is."""
    paths = await paths_on_stage(stage)
    return {page: f"{(closed if page == 'login' else staged).origin}{path}" for page, path in paths.items()}


@pytest.mark.parametrize(
    ("page", "look"),
    [*((page, look) for page in PAGES for look in LOOKS), *((page, look) for page in MORE for look in LOOKS_IN_SHORT)],
)
async def test_a_page_is_fit_for_everybody(
    page: str, look: str, addresses: dict[str, str], windows: OpenWindow
) -> None:
    """axe-core finds nothing; nothing is wider than the screen; nothing jumps while it comes."""
    async with windows(**LOOKS[look]) as window:
        await window.page.goto(addresses[page], wait_until="networkidle")
        if page == "no such run":
            window.had("status 404: GET")
        assert await window.page.locator("h1").count() == 1
        assert await window.jumps() == []
        assert await window.too_wide() == []
        await assert_accessible(window.page)


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_is_read_without_scripts(page: str, addresses: dict[str, str], windows: OpenWindow) -> None:
    """It says the same, and nothing that only a script could do is offered."""
    async with windows() as with_scripts, windows(java_script_enabled=False) as without:
        for window in (with_scripts, without):
            await window.page.goto(addresses[page], wait_until="networkidle")
        headings = [await window.page.locator("h1, h2, h3").all_inner_texts() for window in (with_scripts, without)]
        assert headings[0] == headings[1]
        assert await without.page.get_by_role("button", name="Copy").count() == 0
