"""Every page, as people look at it: light, dark, wide, on a phone, without a mouse, with a screen reader."""

from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.server.started import StartedServer
from tests.server.ui.browser.accessible import assert_accessible
from tests.server.ui.browser.conftest import OpenWindow
from tests.server.ui.browser.windows import PHONE, WIDE
from tests.server.ui.pages import PAGES, paths_on_stage

LOOKS: dict[str, dict[str, Any]] = {
    f"{size}-{scheme}": {"viewport": viewport, "color_scheme": scheme}
    for size, viewport in (("wide", WIDE), ("phone", PHONE))
    for scheme in ("light", "dark")
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def paths(stage: Path) -> dict[str, str]:
    """Where each page is."""
    return await paths_on_stage(stage)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("page", PAGES)
async def test_a_page_is_fit_for_everybody(
    page: str, look: str, paths: dict[str, str], staged: StartedServer, windows: OpenWindow
) -> None:
    """axe-core finds nothing; nothing is wider than the screen; nothing jumps while it comes."""
    async with windows(staged.origin, **LOOKS[look]) as window:
        await window.page.goto(paths[page], wait_until="networkidle")
        assert await window.layout_shift() < 0.01
        assert await window.too_wide() == []
        await assert_accessible(window.page)
