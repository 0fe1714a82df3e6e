"""A browser that is opened on a page, while whoever opens it goes on."""

import asyncio
import contextlib
import threading
import webbrowser

from workflows_mcp.cli.failures import one_line
from workflows_mcp.cli.page import say
from workflows_mcp.cli.signals import first_signal

__all__ = ["open_browser"]


def open_browser(url: str) -> None:
    """Open a browser on a page; called in an event loop, which goes on meanwhile. That none could be opened is said.

    A browser may be a program in the terminal, or be waited for by what starts it, for as long as somebody looks. So
    this is done in a thread, which nobody waits for at the end of the process.
    """
    loop = asyncio.get_running_loop()

    def work() -> None:
        try:
            is_open = webbrowser.open(url)
        except Exception:  # noqa: BLE001 - whatever it is: the pages are served nevertheless
            is_open = False
        if not is_open:
            with contextlib.suppress(RuntimeError):  # the event loop is over
                # There: a thread that writes while the process ends would break it off.
                loop.call_soon_threadsafe(_tell_failure, url)

    threading.Thread(target=work, name="open a browser", daemon=True).start()


def _tell_failure(url: str) -> None:
    if first_signal() is None:  # else it was ended together with this process
        say(one_line(f"no browser could be opened, or it failed; the pages are at {url}"))
