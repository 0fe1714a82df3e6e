"""Logging in with a token of the server, and out again."""

import re

from starlette.responses import Response

from workflows_mcp.server.ui.page import Ui, Visit, redirect
from workflows_mcp.server.ui.paths import UI_PATH, path_to

__all__ = ["ask_to_log_in", "log_in", "log_in_again", "log_out", "page_in", "show_login"]

_OURS = re.compile(rf"{UI_PATH}(?:[/?][!-\[\]-~]*)?")
"""Paths of pages of ours: no other server's, however a browser may read it."""

_UPWARDS = re.compile(r"/(?:\.|%2e){1,2}(?=[/?]|$)", re.IGNORECASE)
"""Segments by which browsers leave a path again: `.` and `..`, also in escapes."""

_ADDRESS = re.compile(r"https?://[^/?#]*([^#]*)(?:#.*)?")


async def show_login(ui: Ui, visit: Visit) -> Response:
    """The form that asks for a token."""
    if visit.session.is_allowed:
        return redirect(_wanted(visit))
    return ask_to_log_in(ui, visit, to=_wanted(visit))


def ask_to_log_in(
    ui: Ui, visit: Visit, *, to: str, status: int = 200, told: str | None = None, flaw: str | None = None
) -> Response:
    """The form that asks for a token.

    Args:
        ui: What the pages share.
        visit: What was asked for.
        to: The path to go to then.
        status: HTTP's.
        told: Why it is asked for.
        flaw: What is wrong with the token that was shown.
    """
    return ui.render(visit, "login.html", status=status, to=to, told=told, flaw=flaw)


async def log_in(ui: Ui, visit: Visit) -> Response:
    """Begin a session for whoever shows a token."""
    session = ui.sessions.log_in(visit.form.get("token", "").strip(), visit.request)
    if session is None:
        return ask_to_log_in(ui, visit, to=_wanted(visit), status=401, flaw="That is not one of this server's tokens.")
    response = redirect(_wanted(visit))
    ui.sessions.keep(session, visit.request, response)
    return response


async def log_in_again(ui: Ui, visit: Visit) -> Response:
    """For a form that is too old: nobody who has logged in meanwhile, in another tab, has to once more."""
    if visit.session.is_allowed:
        return redirect(_wanted(visit))
    return ask_to_log_in(ui, visit, to=_wanted(visit), status=422, flaw="This page was too old: show it once more.")


async def log_out(ui: Ui, visit: Visit) -> Response:
    """End a session in the browser that has it."""
    response = redirect(path_to("login"))
    ui.sessions.forget(visit.request, response)
    return response


def page_in(address: str) -> str:
    """The path of the page of ours at an address, with its query; of the first page, if it is none."""
    found = _ADDRESS.fullmatch(address)
    return _ours(found[1] if found is not None else "")


def _wanted(visit: Visit) -> str:
    """Where to go after that."""
    return _ours(visit.asked("to") or "")


def _ours(to: str) -> str:
    is_ours = _OURS.fullmatch(to) and not _UPWARDS.search(to.partition("?")[0])
    return to if is_ours and not to.startswith(path_to("log")) else UI_PATH
