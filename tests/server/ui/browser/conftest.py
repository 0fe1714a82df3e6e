"""Chromium, and windows in it. All of a process's tests share one, and the event loop that it is driven from."""

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.server.ui.browser.missing import chromium, missing
from tests.server.ui.browser.windows import Window, open_window

if TYPE_CHECKING:
    from playwright.async_api import Browser

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nothing is made ready for what cannot be run; and what drives the browser belongs to one event loop."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            if missing():
                item.add_marker(pytest.mark.skip("needs a browser: see the last line"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator["Browser"]:
    """Chromium, without a window on any screen."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        # Tests may be run by root, whom Chromium's own sandbox is not for; they look at nobody else's pages.
        started = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield started
        await started.close()


OpenWindow = Callable[..., AbstractAsyncContextManager[Window]]
"""`open_window` with the browser."""


@pytest.fixture
def windows(browser: "Browser") -> OpenWindow:
    """Opens windows; see `open_window`."""
    return functools.partial(open_window, browser)
