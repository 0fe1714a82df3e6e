"""The pages by their paths: who may see them, what a form must bring, and what is told when something fails."""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from workflows_mcp.errors import WorkflowsError
from workflows_mcp.server.http.exchange import Pages, Receive, Scope, Send
from workflows_mcp.server.http.tokens import Tokens
from workflows_mcp.server.services import Services
from workflows_mcp.server.ui import actions, difference, health, login, run, runs, states, waiting
from workflows_mcp.server.ui.page import STATIC, Ui, Visit, redirect
from workflows_mcp.server.ui.paths import UI_PATH, UiOptions, path_to
from workflows_mcp.server.ui.problems import Problem, problem_of, problem_of_any
from workflows_mcp.server.ui.sessions import Sessions

__all__ = ["build_ui"]

View = Callable[[Ui, Visit], Awaitable[Response]]

_MOST_FIELDS = 50

_MOST_OF_A_STRANGER = 4 * 2**10
"""Bytes of a form that anybody may send: a token, and the token of the form."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    # Not `no-referrer`: with it, browsers do not tell which origin a form comes from.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Nothing is loaded but from here, no script stands in a page, and no page stands in another one."""


@dataclass(frozen=True)
class _Page:
    """What is at a path.

    Attributes:
        show: Answers a GET; None: there is nothing to be seen.
        take: Takes a form; None: there is none.
        again: Shows a form again that is too old to be taken, with what was typed; None: it is only told.
        is_public: Whether it can be seen without a login.
        changes: Whether its form changes what is stored.
    """

    show: View | None = None
    take: View | None = None
    again: View | None = None
    is_public: bool = False
    changes: bool = True


_PAGES = {
    "": _Page(runs.show_runs),
    "/counts": _Page(runs.show_counts),
    "/run": _Page(run.show_run),
    "/cancel": _Page(None, actions.cancel_run),
    "/fork": _Page(actions.show_fork, actions.fork_run, actions.ask_fork_again),
    "/waiting": _Page(waiting.show_waiting),
    "/diff": _Page(difference.show_difference),
    "/state": _Page(states.show_state),
    "/state.json": _Page(states.download_state),
    "/answer": _Page(waiting.show_question, waiting.take_answer, waiting.ask_again),
    "/health": _Page(health.show_health),
    "/health/checks": _Page(health.show_checks),
    "/health/figures": _Page(health.show_figures),
    "/login": _Page(login.show_login, login.log_in, login.log_in_again, is_public=True, changes=False),
    "/logout": _Page(None, login.log_out, is_public=True, changes=False),
}
"""All pages, by their paths below `UI_PATH`."""


def build_ui(services: Services, tokens: Tokens, options: UiOptions) -> Pages:
    """The pages, which are to stand behind the guard of the server.

    Args:
        services: What the server works with.
        tokens: What people must show to log in.
        options: How the pages are served.
    """
    ui = Ui(services, Sessions(tokens), options)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        request = Request(scope, receive)
        response = _file(ui, request) or await _page(ui, request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["Server-Timing"] = f"app;dur={(time.perf_counter() - began) * 1000:.1f}"
        await response(scope, receive, send)

    def most_body(scope: Scope) -> int | None:
        request = Request(scope)
        page = _page_at(request)
        if request.method != "POST" or page is None or page.take is None:
            return 0
        if page.is_public:
            return _MOST_OF_A_STRANGER
        return None if ui.sessions.of(request).is_allowed else 0

    return Pages(serve, most_body)


def _page_at(request: Request) -> _Page | None:
    return _PAGES.get(request.url.path.removeprefix(UI_PATH).rstrip("/"))


def _file(ui: Ui, request: Request) -> Response | None:
    """A file that pages load; None: it is none."""
    name = request.url.path.removeprefix(f"{UI_PATH}/static/")
    if name not in STATIC or request.method == "POST":
        return None
    digest, content = ui.files[name]
    # It may be kept for good under an address that names its content.
    is_named = request.query_params.get("v") == digest
    caching = "public, max-age=31536000, immutable" if is_named else "no-cache"
    return Response(content, media_type=STATIC[name], headers={"Cache-Control": caching})


async def _page(ui: Ui, request: Request) -> Response:
    visit = Visit(request, ui.sessions.of(request))
    try:
        response = await _answer(ui, visit)
    except Problem as problem:
        response = ui.tell(visit, problem)
    except WorkflowsError as error:
        response = ui.tell(visit, problem_of(error))
    except Exception as error:  # noqa: BLE001 - whatever it is: its text may show what a run works on
        response = ui.tell(visit, problem_of_any(error))
    # Not when an open page asks for a part of itself: that somebody is there does not say.
    longer = None if visit.is_fragment else ui.sessions.prolonged(visit.session)
    if longer is not None and "set-cookie" not in response.headers:
        ui.sessions.keep(longer, request, response)
    return response


async def _answer(ui: Ui, visit: Visit) -> Response:
    request = visit.request
    page = _page_at(request)
    if page is None:
        raise Problem(
            404, "There is no such page", "The address is wrong, or of another version.", {"All runs": UI_PATH}
        )
    if not page.is_public and not visit.session.is_allowed:
        return _to_login(ui, visit, page)
    if request.method != "POST":
        if page.show is None:
            raise Problem(405, "This only takes a form", "There is nothing to be seen here.", {"All runs": UI_PATH})
        return await page.show(ui, visit)
    if page.take is None:
        raise Problem(405, "This takes no form", "It can only be looked at.", {"All runs": UI_PATH})
    if page.changes and ui.options.read_only:
        raise Problem(
            403, "These pages only show", "Whoever runs this server has started it read-only: nothing was done."
        )
    visit = dataclasses.replace(visit, form=await _form(request))
    if not visit.session.is_form_token(visit.form.get("form_token", "")):
        if page.again is not None:
            return await page.again(ui, visit)
        raise Problem(
            403,
            "This form is too old",
            "Nothing was done: the page was opened before the server was started anew, or in a session that is over. "
            "Load it again, and send it once more.",
            _where_it_was(visit, page),
        )
    return await page.take(ui, visit)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; of several with one name the last one counts."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "This is no form", "A form is sent as application/x-www-form-urlencoded.")
    body = (await request.body()).decode(errors="replace")
    try:
        # In a thread: a body may be as large as the server takes.
        fields = await asyncio.to_thread(parse_qsl, body, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Problem(400, "This is no form", "It has too many fields.") from None
    return dict(fields)


def _to_login(ui: Ui, visit: Visit, page: _Page) -> Response:
    """Have somebody log in, and come back to what was asked for, or to where it can be asked for again."""
    request = visit.request
    if visit.is_fragment:  # the whole page has to go there, and not a part of it
        there = login.page_in(request.headers.get("hx-current-url", ""))
        return Response(status_code=204, headers={"HX-Redirect": path_to("login", to=there)})
    if request.method == "POST":
        [there, *_] = _where_it_was(visit, page).values()
        told = "Your session was over: nothing was done, and what you sent is not kept. Log in, and send it again."
        return login.ask_to_log_in(ui, visit, to=there, status=401, told=told)
    if request.headers.get("sec-fetch-site") == "cross-site":
        return ui.render(visit, "again.html")  # a link of another site came without the cookie, which may be there
    return redirect(path_to("login", to=_path_of(request)))


def _where_it_was(visit: Visit, page: _Page) -> dict[str, str]:
    """Where a form stands that was sent: by its own address, or on the page of a run."""
    run_id, everything = visit.asked("id"), {"All runs": UI_PATH}
    if page.show is not None:
        return {"The page": _path_of(visit.request)} | everything
    return everything if run_id is None else {"The run": path_to("run", id=run_id)} | everything


def _path_of(request: Request) -> str:
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{request.url.path}{query}"
