"""A person's browser as far as HTTP goes: it keeps cookies, and sends the forms that pages hold."""

import contextlib
import html
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.server.conversation import write_workflows
from tests.server.http.served import Served, browser, serving, settings_of
from workflows_mcp import WorkflowExecutor, WorkflowResult
from workflows_mcp.engine.library import WorkflowLibrary
from workflows_mcp.persistence.store import create_checkpoint_store
from workflows_mcp.server.ui.paths import UiOptions
from workflows_mcp.settings import Settings

__all__ = ["Visitor", "damage", "run_workflow", "text_of", "visiting"]

_FORM_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]+)"')


@dataclass
class Visitor:
    """Somebody who looks at pages.

    Attributes:
        http: Keeps the cookies.
        url: Where the server is.
        settings: Its settings.
        form_token: What the last page with a form told it to send.
    """

    http: httpx2.AsyncClient
    url: str
    settings: Settings
    form_token: str = ""

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        """Load a page."""
        return self._noted(await self.http.get(f"{self.url}{path}", headers=headers))

    async def send(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> httpx2.Response:
        """Send a form of the page that was loaded last, and follow where that leads."""
        data = {"form_token": self.form_token, **fields}
        sent = {"origin": self.url, **(headers or {})}
        return self._noted(await self.http.post(f"{self.url}{path}", data=data, headers=sent))

    def _noted(self, response: httpx2.Response) -> httpx2.Response:
        found = _FORM_TOKEN.search(response.text)
        self.form_token = self.form_token if found is None else found[1]
        return response


@asynccontextmanager
async def visiting(
    database: Path | str, options: UiOptions | None = None, **settings: object
) -> AsyncIterator[Visitor]:
    """A server with pages, and somebody who looks at them."""
    chosen = settings_of(database, **settings)
    async with serving(chosen, ui=options or UiOptions()) as served, visitor_of(served, chosen) as visitor:
        yield visitor


@asynccontextmanager
async def visitor_of(served: Served, settings: Settings) -> AsyncIterator[Visitor]:
    """One more person."""
    async with browser(follow_redirects=True) as http:
        yield Visitor(http, served.url, settings)


async def run_workflow(
    database: Path | str, folder: Path, workflow: str, run_id: str, **inputs: object
) -> WorkflowResult:
    """Run one of the workflows that tests have, up to its end or its question."""
    async with create_checkpoint_store(str(database)) as store:
        executor = WorkflowExecutor(store, library=WorkflowLibrary([write_workflows(folder)]))
        return await executor.execute_workflow(workflow, inputs, run_id=run_id)


def damage(file: Path, checkpoint_id: str) -> None:
    """Change a payload behind the store's back."""
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE checkpoints SET payload = x'00ff' WHERE checkpoint_id = ?", (checkpoint_id,))


def text_of(response: httpx2.Response) -> str:
    """What a page says, without its elements, in one line."""
    body = response.text.partition("<body>")[2] or response.text
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())
