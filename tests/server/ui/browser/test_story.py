"""What the pages are for: somebody finds a run that waits, understands it, answers, and sees how it ends."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import fresh_database
from tests.server.ui.browser.conftest import POLLS_MS, OpenWindow, Serve
from tests.server.ui.browser.outcomes import until
from workflows_mcp import SQLAlchemyCheckpointStore, copy_checkpoints, upgrade_schema


@pytest_asyncio.fixture(loop_scope="session")
async def runs_elsewhere(stage: Path, postgres_server: str) -> AsyncIterator[str]:
    """The URL of a PostgreSQL database with all runs of the stage."""
    async for url in fresh_database(postgres_server, template="template0"):
        await upgrade_schema(url)
        async with SQLAlchemyCheckpointStore(stage) as source, SQLAlchemyCheckpointStore(url) as target:
            await copy_checkpoints(source, target)
        yield url


@pytest.fixture
def home(database: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database with all runs of the stage."""
    return str(request.getfixturevalue("runs" if database == "sqlite" else "runs_elsewhere"))


@pytest.mark.parametrize(
    ("database", "scripts"),
    [("sqlite", True), ("sqlite", False), ("postgresql", True)],
    ids=["SQLite", "SQLite, no scripts", "PostgreSQL"],
)
async def test_somebody_finds_a_run_that_waits_and_sees_it_finish(
    home: str, serve: Serve, windows: OpenWindow, *, scripts: bool
) -> None:
    """From the list to the run, its state, what the last step changed, the answer, the end."""
    server = await serve(home)
    async with windows(server.origin, java_script_enabled=scripts) as window:
        page = window.page
        await page.goto("/ui")
        await page.get_by_label("Status").select_option("paused")
        await page.get_by_role("button", name="Filter").click()
        await page.get_by_role("link", name="import-today").wait_for(state="detached")
        await page.get_by_role("link", name="release-4.3.0").click()

        assert (await page.inner_text("h1")).startswith("release-4.3.0")
        assert "48.2 MB, 1.3 MB more than before" in await page.locator(".prompt").inner_text()
        graph = page.locator("svg.graph").first
        assert await graph.locator(".node.is-paused", has_text="approve").count() == 1
        assert await graph.locator(".node.is-not-begun").count() == 3

        await page.get_by_role("link", name="Its state").click()
        assert (await page.inner_text("h1")).startswith("State")
        await page.locator("summary", has_text="blocks {10 keys}").click()
        await page.locator("summary:visible", has_text="browser_tests").wait_for()
        assert await page.get_by_role("link", name="Download it as JSON").is_visible()

        await page.get_by_role("link", name="What this step changed").click()
        assert (await page.inner_text("h1")).startswith("What differs")
        changed = page.locator("section", has=page.get_by_role("heading", name="Changed")).get_by_role("listitem")
        status = changed.filter(has=page.get_by_role("link", name="status", exact=True))
        assert [one.strip('"') for one in await status.locator("code").all_inner_texts()] == ["running", "paused"]
        added = page.locator("section", has=page.get_by_role("heading", name="Added"))
        assert await added.get_by_role("link", name="context.blocks.approve").count() >= 1

        await page.locator("h1").get_by_role("link", name="release-4.3.0").click()
        await page.get_by_role("button", name="Release it").click()
        await page.get_by_text("Your answer was taken").wait_for()
        if not scripts:
            await until(home, "release-4.3.0", "success")
            await page.reload()
        await page.locator(".run-head .badge", has_text="success").wait_for(timeout=POLLS_MS)
        outputs = page.locator("#outputs")
        assert "Release it" in await outputs.inner_text()
        assert await page.locator("svg.graph .node.is-succeeded", has_text="publish").count() == 1
        assert await page.get_by_role("button", name="Release it").count() == 0
