"""A person's window on the pages: a context of the browser in which nothing goes wrong unnoticed."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.server.ui.browser.missing import chromium

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Dialog, Page, Request, Response, WebError

__all__ = ["ATTACK", "PHONE", "SMALL", "WIDE", "Window", "open_browser", "open_window"]

WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
SMALL = {"width": 320, "height": 568}

ATTACK = "stolen"
"""A function that every page has, and that nobody but hostile content calls."""

_NOTE_JUMPS = """
window.jumps = [];
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) {
    // Whoever has just clicked expects something to move; a word that moves by a pixel is nothing to see.
    if (entry.hadRecentInput || entry.value < 0.00005) continue;
    const moved = entry.sources.map(one => one.node?.cloneNode().outerHTML ?? one.node?.nodeName ?? 'something');
    window.jumps.push(`${entry.value.toFixed(4)}: ${moved.join(' ')}`);
  }
}).observe({type: 'layout-shift', buffered: true});
"""

_TOO_WIDE = """
() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const wide = [...document.body.querySelectorAll('*')].filter(one => one.getBoundingClientRect().right > width);
  return [`${document.documentElement.scrollWidth} > ${width}`, ...wide.map(one => one.cloneNode().outerHTML)];
}
"""

_STATUS = "Failed to load resource: the server responded with a status of "


class Window:
    """A window of one person: a page, with cookies of its own, and all that must not happen there.

    Attributes:
        page: What is looked at.
        wrong: What has happened.

    Args:
        page: What is looked at.
    """

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.wrong: list[str] = []

    async def watch(self) -> None:
        """Begin to look at this page, and at all that it opens."""
        context = self.page.context
        context.on("console", self._on_console)
        context.on("weberror", self._on_error)
        context.on("request", self._on_request)
        context.on("response", self._on_response)
        context.on("dialog", self._on_dialog)
        await context.expose_function(ATTACK, self._on_attack)
        await context.add_init_script(_NOTE_JUMPS)

    def had(self, pattern: str) -> None:
        """See that something has gone wrong that had to, and forget it.

        Args:
            pattern: A regular expression for a line of `wrong`.

        Raises:
            AssertionError: It has not.
        """
        assert self.may_have_had(pattern), f"nothing was like {pattern!r}: {self.wrong}"

    def may_have_had(self, pattern: str) -> bool:
        """Forget what has gone wrong that may, and tell whether it has.

        Args:
            pattern: A regular expression for a line of `wrong`.
        """
        found = [one for one in self.wrong if re.match(pattern, one)]
        self.wrong = [one for one in self.wrong if one not in found]
        return bool(found)

    async def jumps(self) -> list[str]:
        """What has been pushed elsewhere since the page was opened, with how much of the screen that was."""
        # What is laid out by now is told two frames later.
        later = "new Promise(tell => requestAnimationFrame(() => requestAnimationFrame(() => tell(window.jumps))))"
        return list(await self.page.evaluate(later))

    async def too_wide(self) -> list[str]:
        """What stands out of the screen, and would have people scroll sideways, but for what scrolls within its own."""
        return list(await self.page.evaluate(_TOO_WIDE))

    def _on_console(self, message: "ConsoleMessage") -> None:
        # A refusal is told by its response, below.
        if message.type in {"error", "warning"} and not message.text.startswith(_STATUS):
            self.wrong.append(f"console {message.type}: {message.text} ({message.location.get('url', '')})")

    def _on_error(self, error: "WebError") -> None:
        self.wrong.append(f"error in a script: {error.error}")

    def _on_request(self, request: "Request") -> None:
        address = urlsplit(request.url)
        if address.hostname not in {"127.0.0.1", None}:  # `data:` and `about:` have none
            self.wrong.append(f"a request to another host: {request.method} {request.url}")

    def _on_response(self, response: "Response") -> None:
        if response.status >= 400:
            self.wrong.append(f"status {response.status}: {response.request.method} {response.url}")

    async def _on_dialog(self, dialog: "Dialog") -> None:
        self.wrong.append(f"a dialog: {dialog.type} {dialog.message!r}")
        await dialog.dismiss()

    def _on_attack(self, *what: object) -> None:
        self.wrong.append(f"content was run as a script: {what}")


@asynccontextmanager
async def open_browser(*arguments: str) -> AsyncIterator["Browser"]:
    """Start Chromium, without a window on any screen.

    Args:
        arguments: More of its command line.
    """
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        # Tests may be run by root, whom Chromium's own sandbox is not for; they look at nobody else's pages.
        words = ["--no-sandbox", *arguments]
        async with await playwright.chromium.launch(executable_path=chromium(), args=words) as browser:
            yield browser


@asynccontextmanager
async def open_window(browser: "Browser", origin: str | None = None, **options: Any) -> AsyncIterator[Window]:
    """Open a window for somebody who has not been here before; nothing may have gone wrong in it by its end.

    Args:
        browser: Where.
        origin: What paths are relative to.
        options: Of `Browser.new_context`: `color_scheme`, `viewport`, `java_script_enabled` and so on.

    Raises:
        AssertionError: Something went wrong in it: an error or a warning in the console, a breach of the
            Content-Security-Policy among them; an error in a script; a request to another host; a status of 400 and
            above; a dialog; content that was run as a script.
    """
    given = {"viewport": WIDE, "locale": "en-GB", "timezone_id": "UTC", "base_url": origin, **options}
    context = await browser.new_context(**given)
    context.set_default_timeout(10_000)
    try:
        window = Window(await context.new_page())
        await window.watch()
        yield window
        await window.page.evaluate("0")  # what was told before this is heard by now
    finally:
        await context.close()
    assert not window.wrong, "\n".join(window.wrong)
