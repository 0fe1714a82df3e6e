"""Chromium, windows, and servers. All of a process's tests share one event loop, which Chromium is driven from."""

import fcntl
import functools
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.server.started import StartedServer, start_ui
from tests.server.ui.browser.missing import missing
from tests.server.ui.browser.windows import Window, open_browser, open_window
from tests.server.ui.stage import STAGE_ENVIRONMENT, make_stage

if TYPE_CHECKING:
    from playwright.async_api import Browser

HERE = Path(__file__).parent

POLLS_MS = 15_000
"""Within this time an open page has noticed what happens: some of its looks, while others work on the same machine."""

SCRIPTS = pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
"""Of tests that hold with scripts and without."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nothing is made ready for what cannot be run; and what drives the browser belongs to one event loop."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            if missing():
                item.add_marker(pytest.mark.skip("needs a browser: see the last line"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator["Browser"]:
    """See `open_browser`."""
    async with open_browser() as started:
        yield started


OpenWindow = Callable[..., AbstractAsyncContextManager[Window]]
"""`open_window` with the browser."""


@pytest.fixture
def windows(browser: "Browser") -> OpenWindow:
    """Opens windows; see `open_window`."""
    return functools.partial(open_window, browser)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of runs, to be copied; all processes of the tests share it."""
    own = tmp_path_factory.getbasetemp()
    file = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "stage.db"
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            await make_stage(file)
    return file


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def staged(stage: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StartedServer]:
    """A server with all runs of the stage, for tests that only look."""
    folder = tmp_path_factory.mktemp("staged")
    database = shutil.copy(stage, folder / "runs.db")
    server = await start_ui(folder, {**STAGE_ENVIRONMENT, "WORKFLOWS_DATABASE_URL": str(database)})
    yield server
    await end(server)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def closed(stage: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StartedServer]:
    """A server that lets nobody in."""
    folder = tmp_path_factory.mktemp("closed")
    environment = {"WORKFLOWS_DATABASE_URL": str(stage), "WORKFLOWS_HTTP_TOKEN": "nobody-knows-this-0123456789abcdef"}
    server = await start_ui(folder, environment)
    yield server
    await end(server)


@pytest.fixture
def runs(stage: Path, tmp_path: Path) -> Path:
    """A database of a test's own with all runs of the stage."""
    return Path(shutil.copy(stage, tmp_path / "runs.db"))


Serve = Callable[..., Awaitable[StartedServer]]
"""Starts `ui` with a database, further words, further settings by name, and perhaps on a `port`."""


@pytest_asyncio.fixture(loop_scope="session")
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts servers, which are ended with the test."""
    started: list[StartedServer] = []

    async def start(database: Path | str, *words: str, port: int = 0, **settings: str) -> StartedServer:
        own = {"WORKFLOWS_DATABASE_URL": str(database), "WORKFLOWS_HTTP_GRACE_SECONDS": "1"}
        environment = {**STAGE_ENVIRONMENT, **own, **settings}
        started.append(await start_ui(tmp_path, environment, *words, port=port))
        return started[-1]

    yield start
    for server in started:
        if server.process.exitcode is None:  # a test may end one itself
            await end(server)


async def end(server: StartedServer) -> None:
    """Stop a server, which has had nothing to complain of."""
    assert await server.stop() == 0, server.log.read_text()
    log = server.log.read_text()
    assert "Traceback" not in log, log
    assert "ERROR" not in log, log
