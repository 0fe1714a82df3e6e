"""Nothing goes wrong in a window without its test failing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.server.ui.browser.accessible import assert_accessible
from tests.server.ui.browser.conftest import OpenWindow
from tests.server.ui.browser.windows import Window

if TYPE_CHECKING:
    from playwright.async_api import Route

ORIGIN = "http://127.0.0.1:1"

SOUND = '<!doctype html><html lang="en"><title>Sound</title><main><h1>Sound</h1>{}</main>'


@asynccontextmanager
async def showing(
    windows: OpenWindow, content: str, *, status: int = 200, policy: str = "img-src *"
) -> AsyncIterator[Window]:
    """A window on a page of this content, which no server is needed for."""

    async def answer(route: "Route") -> None:
        headers = {"content-type": "text/html", "content-security-policy": policy}
        await route.fulfill(status=status, headers=headers, body=SOUND.format(content))

    async with windows(ORIGIN) as window:
        await window.page.route(f"{ORIGIN}/**", answer)
        await window.page.goto("/")
        yield window


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<script>console.error('no, no')</script>", "^console error: no, no"),
        ("<script>console.warn('hm')</script>", "^console warning: hm"),
        ("<script>nothing.there()</script>", "^error in a script: .*nothing is not defined"),
        ("<script>alert('hi')</script>", "^a dialog: alert 'hi'"),
        ('<img src="http://elsewhere.test/a" alt="">', "^a request to another host: GET http://elsewhere.test/a"),
        ("<img src=x alt='' onerror=stolen(1)>", r"^content was run as a script: \(1,\)"),
    ],
)
async def test_what_goes_wrong_in_a_window_fails_its_test(windows: OpenWindow, content: str, message: str) -> None:
    """Whatever else the test looks at."""
    with pytest.raises(AssertionError, match=message):
        async with showing(windows, content):
            pass


async def test_a_breach_of_the_policy_fails_its_test(windows: OpenWindow) -> None:
    """Also where nothing can be seen of it."""
    with pytest.raises(AssertionError, match=r"^console error: .*Content Security Policy"):
        async with showing(windows, "<script>1</script>", policy="script-src 'self'"):
            pass


async def test_a_refusal_fails_a_test_that_does_not_expect_it(windows: OpenWindow) -> None:
    """By its status, whatever was asked for; and a test that does, where there is none."""
    with pytest.raises(AssertionError, match=f"^status 404: GET {ORIGIN}/$"):
        async with showing(windows, "", status=404):
            pass
    async with showing(windows, "", status=404) as window:
        window.had("status 404: GET")
        with pytest.raises(AssertionError, match=r"^nothing was like 'status 404: GET'"):
            window.had("status 404: GET")


async def test_what_is_not_accessible_is_told_with_what_to_do(windows: OpenWindow) -> None:
    """Under a policy that lets no page run a script. A sound page passes."""
    async with showing(windows, "<p>Text</p>", policy="default-src 'none'") as window:
        await assert_accessible(window.page)
        await window.page.evaluate("document.querySelector('p').innerHTML = '<button></button>'")
        with pytest.raises(AssertionError, match=r"button-name \(critical\)[^$]*<button></button>\n.*Fix any"):
            await assert_accessible(window.page)


async def test_a_page_that_jumps_is_measured(windows: OpenWindow) -> None:
    """What is pushed down by what comes late is told; of a page that stands still there is nothing to tell."""
    async with showing(windows, "<p>Text</p>") as window:
        assert await window.jumps() == []
        await window.page.evaluate(
            "document.querySelector('p').before(...Array(9).fill(0).map(() => new Option('late')))"
        )
        [jump] = await window.jumps()
        assert "<p>" in jump
