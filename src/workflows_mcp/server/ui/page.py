"""What every page has at hand, and how it is rendered."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from workflows_mcp.server.services import Services
from workflows_mcp.server.ui.counts import Counts
from workflows_mcp.server.ui.formatting import FILTERS
from workflows_mcp.server.ui.paths import UI_PATH, UiOptions, path_to
from workflows_mcp.server.ui.problems import Problem
from workflows_mcp.server.ui.sessions import Session, Sessions
from workflows_mcp.server.visible import visible

__all__ = ["STATIC", "Ui", "Visit", "redirect"]

STATIC = {
    "htmx.min.js": "text/javascript",
    "ui.js": "text/javascript",
    "ui.css": "text/css",
    "icon.svg": "image/svg+xml",
}
"""The files that pages load, and their kinds."""


@dataclass(frozen=True)
class Visit:
    """A request for a page.

    Attributes:
        request: As Starlette has it.
        session: Who asks.
        form: What was sent with it, if it is a form.
    """

    request: Request
    session: Session
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_fragment(self) -> bool:
        """Whether a page that is open asks for a part of itself."""
        return self.request.headers.get("hx-request") == "true"

    def asked(self, name: str) -> str | None:
        """A value of the query; None: it has none, or an empty one."""
        return self.request.query_params.get(name) or None

    def needed(self, name: str) -> str:
        """A value that the query must have.

        Raises:
            Problem: It has none.
        """
        value = self.asked(name)
        if value is None:
            raise Problem(
                400, "Something is missing", f"The address of this page needs {name!r}.", {"All runs": UI_PATH}
            )
        return value


class Ui:
    """What the pages share.

    Attributes:
        services: What the server works with.
        sessions: Who looks.
        options: How they are served.
        counts: What the store holds, counted.
        comparing: Held while two states are compared, each of which may be large: one comparison at a time.

    Args:
        services: What the server works with.
        sessions: Who looks.
        options: How they are served.
    """

    def __init__(self, services: Services, sessions: Sessions, options: UiOptions) -> None:
        self.services = services
        self.sessions = sessions
        self.options = options
        self.comparing = asyncio.Lock()
        self.counts = Counts(services, options.words)
        self._templates = Environment(
            loader=PackageLoader("workflows_mcp.server.ui"),
            autoescape=True,
            auto_reload=False,
            cache_size=-1,
            finalize=_finalized,
            lstrip_blocks=True,
            trim_blocks=True,
            undefined=StrictUndefined,
        )
        self._templates.filters.update(FILTERS)
        self._templates.globals.update(
            path_to=path_to,
            static=lambda name: path_to(f"static/{name}", v=self.files[name][0]),
            read_only=options.read_only,
            need_login=sessions.need_login,
            command=self.command,
        )
        for name in self._templates.list_templates():
            self._templates.get_template(name)

    @cached_property
    def files(self) -> dict[str, tuple[str, bytes]]:
        """The files that pages load: a digest and the content of each, by its name."""
        folder = resources.files("workflows_mcp.server.ui") / "static"
        contents = {name: (folder / name).read_bytes() for name in STATIC}
        return {name: (hashlib.sha256(content).hexdigest()[:16], content) for name, content in contents.items()}

    def command(self, *words: str, ids: Sequence[str] = ()) -> str:
        """A command to type, which leads to the same database: see `command_to_type`."""
        return self.options.command(*words, ids=ids)

    def render(
        self,
        visit: Visit,
        template: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: object,
    ) -> Response:
        """A page, or a part of one.

        Args:
            visit: What was asked for.
            template: Its name.
            status: HTTP's.
            headers: What the answer has besides.
            values: What the template shows. A text is escaped there, and what would hide in it is made visible.
        """
        made = self._templates.get_template(template).render(
            session=visit.session, form_token=visit.session.form_token, current=visit.request.url.path, **values
        )
        # What no UTF-8 stands for becomes a question mark: one odd row is not to hide all others.
        return HTMLResponse(made.encode(errors="replace"), status, headers)

    def tell(self, visit: Visit, problem: Problem) -> Response:
        """A page that says what is the matter; for a part of a page a few words."""
        template = "_problem.html" if visit.is_fragment else "problem.html"
        return self.render(visit, template, status=problem.status, problem=problem)


def redirect(path: str) -> Response:
    """Have the browser get another page, after a form was sent."""
    return RedirectResponse(path, 303)


def _finalized(value: Any) -> Any:  # noqa: ANN401 - whatever a template shows
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
