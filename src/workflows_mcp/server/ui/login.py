"""Logging in with a token of the server, and out again."""

import re

from starlette.responses import Response

from workflows_mcp.server.ui.page import Ui, Visit, redirect
from workflows_mcp.server.ui.paths import UI_PATH, path_to

__all__ = ["log_in", "log_out", "show_login"]

_OURS = re.compile(rf"{UI_PATH}(?:[/?][!-\[\]-~]*)?")
"""Paths of pages of ours: no other server's, however a browser may read it."""


async def show_login(ui: Ui, visit: Visit) -> Response:
    """The form that asks for a token."""
    if visit.session.is_allowed:
        return redirect(_wanted(visit))
    return ui.render(visit, "login.html", to=_wanted(visit), is_wrong=False)


async def log_in(ui: Ui, visit: Visit) -> Response:
    """Begin a session for whoever shows a token."""
    session = ui.sessions.log_in(visit.form.get("token", "").strip())
    if session is None:
        return ui.render(visit, "login.html", status=401, to=_wanted(visit), is_wrong=True)
    response = redirect(_wanted(visit))
    ui.sessions.keep(session, visit.request, response)
    return response


async def log_out(ui: Ui, visit: Visit) -> Response:
    """End a session in the browser that has it."""
    response = redirect(path_to("login"))
    ui.sessions.forget(visit.request, response)
    return response


def _wanted(visit: Visit) -> str:
    """Where to go after that."""
    to = visit.asked("to") or UI_PATH
    return to if _OURS.fullmatch(to) and not to.startswith(path_to("log")) else UI_PATH
