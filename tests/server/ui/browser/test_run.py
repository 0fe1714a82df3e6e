"""The page of a run: its past on a slider, its picture, what can be done with it, and how it goes on by itself."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.server.started import StartedServer
from tests.server.ui.browser.conftest import POLLS_MS, SCRIPTS, OpenWindow, Serve
from tests.server.ui.browser.outcomes import until
from tests.server.ui.stage import HISTORY
from workflows_mcp import CheckpointConfig, SQLAlchemyCheckpointStore, WorkflowExecutor
from workflows_mcp.testing import make_state

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

LAST = HISTORY + 2
"""How many checkpoints the run with the long history has: one before each step, one after the last, and the end."""


async def test_the_past_is_a_slider_for_the_keyboard(staged: StartedServer, windows: OpenWindow) -> None:
    """Each key shows the state then, says so to whoever hears it, and leaves the slider in focus."""
    async with windows(staged.origin) as window:
        page = window.page
        await page.goto("/ui/run?id=ledger-november")
        slider = page.get_by_role("slider")
        assert await slider.input_value() == str(LAST)
        await slider.focus()
        for key, number in (("ArrowLeft", LAST - 1), ("Home", 1), ("ArrowRight", 2), ("ArrowRight", 3), ("End", LAST)):
            await page.keyboard.press(key)
            await page.locator(f"#slide[value='{number}']").wait_for(timeout=POLLS_MS)
            assert await slider.evaluate("one => one === document.activeElement"), key
            assert await slider.input_value() == str(number)
            assert (await slider.get_attribute("aria-valuetext") or "").startswith(f"{number} of {LAST}")
            done = await page.locator("svg.graph .node.is-succeeded").count()
            assert done == min(max(number - 1, 0), HISTORY), key
        assert "&at=" not in page.url


async def test_without_scripts_the_slider_has_a_button(staged: StartedServer, windows: OpenWindow) -> None:
    """And links to the checkpoints before and after."""
    async with windows(staged.origin, java_script_enabled=False) as window:
        page = window.page
        await page.goto("/ui/run?id=ledger-november")
        slider = page.get_by_role("slider")
        await slider.focus()
        await page.keyboard.press("Home")
        await page.get_by_role("button", name="Show it").click()
        assert await slider.input_value() == "1"
        await page.get_by_role("link", name="The one after").click()
        assert await slider.input_value() == "2"
        assert await page.locator("svg.graph .node.is-succeeded").count() == 1
        await page.get_by_role("link", name="Back to now").click()
        assert await slider.input_value() == str(LAST)


async def test_a_run_that_goes_on_is_followed(runs: Path, serve: Serve, windows: OpenWindow) -> None:
    """Block by block, in another process; what somebody has opened stays open, and in the end nothing asks any more."""
    server = await serve(runs)
    go_on = runs.parent / "go on"
    workflow = f"""
name: followed
blocks:
- {{id: zeroth, type: Shell, inputs: {{command: "true"}}}}
- {{id: first, type: Shell, depends_on: [zeroth], inputs: {{command: "true"}}}}
- {{id: second, type: Shell, depends_on: [first], inputs: {{command: "while [ ! -e '{go_on}' ]; do sleep 0.02; done"}}}}
"""
    async with (
        SQLAlchemyCheckpointStore(runs) as store,
        WorkflowExecutor(store, CheckpointConfig(auto_cleanup=False)) as executor,
        windows(server.origin) as window,
    ):
        page = window.page
        await executor.start_workflow(workflow, run_id="followed")
        await page.goto("/ui/run?id=followed")
        await node_in(page, "first", "is-succeeded")
        await page.get_by_text("Checkpoints around it").click()
        compare = page.get_by_label("Compare number")
        await compare.select_option(index=1)
        chosen = [await compare.input_value(), await page.locator(".compare [name='b']").input_value()]
        await page.get_by_role("slider").focus()
        assert await page.locator(".run-head .badge").inner_text() != "success"
        go_on.touch()
        await page.locator(".run-head .badge", has_text="success").wait_for(timeout=POLLS_MS)
        await node_in(page, "second", "is-succeeded")
        assert await page.locator("#all-checkpoints").evaluate("one => one.open")
        assert [await compare.input_value(), await page.locator(".compare [name='b']").input_value()] == chosen
        assert await page.get_by_role("slider").evaluate("one => one === document.activeElement")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await asyncio.sleep(2.5)  # it has asked every other second
        assert asked == []
        await page.keyboard.press("Home")
        await page.get_by_label("Compare number 1 with").wait_for(timeout=POLLS_MS)


async def node_in(page: "Page", name: str, css: str) -> None:
    """Wait until a block is drawn as what it is."""
    await page.locator(f"svg.graph .node.{css}", has_text=name).wait_for(timeout=POLLS_MS)


async def test_whoever_looks_at_the_past_sees_what_the_run_is_doing_now(
    runs: Path, serve: Serve, windows: OpenWindow
) -> None:
    """The head of the page keeps up, around whoever uses the slider; once the run is deleted the page says so."""
    server = await serve(runs)
    async with SQLAlchemyCheckpointStore(runs) as store, windows(server.origin) as window:
        page = window.page

        async def save(number: int, **fields: object) -> None:
            state = make_state(f"c{number}", run_id="followed", created_at=time.time(), **fields)
            await store.save_checkpoint(state, follows=f"c{number - 1}" if number else None)

        for number in range(3):
            await save(number)
        await page.goto("/ui/run?id=followed")
        slider = page.get_by_role("slider")
        await slider.focus()
        await page.keyboard.press("ArrowLeft")
        await page.wait_for_url("**&at=c1", timeout=POLLS_MS)
        await save(3, paused_block_id="ask", pause_prompt="Shall it go on?")
        await page.get_by_role("heading", name="It asks").wait_for(timeout=POLLS_MS)
        assert await slider.evaluate("one => one === document.activeElement && one.value") == "2"
        assert page.url.endswith("&at=c1")
        await page.get_by_label("Your answer").fill("Yes, and with care")
        await store.delete_run("followed")
        await page.evaluate("document.getElementById('now').dispatchEvent(new CustomEvent('every'))")
        await page.get_by_role("heading", level=1, name="There is no such run").wait_for(timeout=POLLS_MS)
        assert "What you had typed: Yes, and with care" in await page.get_by_role("status").first.inner_text()
        window.had("status 404: GET .*only=now")


async def test_what_was_looked_up_in_a_state_stays(staged: StartedServer, windows: OpenWindow) -> None:
    """Whatever else of its run's page is put in place; the state of another checkpoint takes its place."""
    async with windows(staged.origin) as window:
        page = window.page
        await page.goto("/ui/run?id=release-4.3.0")
        part = page.locator("#run .tree details[hx-get]").first
        await part.evaluate(
            "one => { for (; one; one = one.parentElement) if (one.matches('details')) one.open = true; }"
        )
        await part.get_by_text("Show it on a page of its own").wait_for(state="detached")
        shown = await part.inner_text()
        await page.evaluate(RENEW)
        await page.locator("#run:not([data-old])").wait_for(state="attached", timeout=POLLS_MS)
        assert await part.inner_text() == shown
        first = await page.locator("section[id^=state-]").get_attribute("id")
        await page.get_by_role("slider").press("ArrowLeft")
        await page.wait_for_url("**&at=*", timeout=POLLS_MS)
        assert await page.locator(f"#{first}").count() == 0


RENEW = """
    const run = document.getElementById("run");
    run.dataset.old = "";
    run.setAttribute("hx-get", run.getAttribute("hx-get") + "x");
    run.dispatchEvent(new CustomEvent("every"));
"""
"""As if something had changed that the page of a run shows."""


@SCRIPTS
async def test_a_run_is_cancelled_once_it_is_meant(
    runs: Path, serve: Serve, windows: OpenWindow, *, scripts: bool
) -> None:
    """In two steps, the second of which says what that means."""
    server = await serve(runs)
    async with windows(server.origin, java_script_enabled=scripts) as window:
        page = window.page
        await page.goto("/ui/run?id=invoice-2041")
        sure = page.get_by_role("button", name="Cancel it for good")
        assert not await sure.is_visible()
        await page.locator("summary", has_text="Cancel the run").click()
        await sure.click()
        await page.get_by_text("The run is cancelled").wait_for()
        assert "cancelled" in await page.locator(".run-head .badge").inner_text()
    await until(runs, "invoice-2041", "cancelled")


async def test_a_run_that_failed_is_tried_again(runs: Path, serve: Serve, windows: OpenWindow) -> None:
    """What is wrong with what was typed is said beside it; then the new run is looked at."""
    server = await serve(runs)
    async with windows(server.origin) as window:
        page = window.page
        await page.goto("/ui/run?id=backup-orders")
        assert "507 Insufficient Storage" in await page.inner_text("main")
        await page.get_by_role("link", name="Try again what failed").click()
        await page.get_by_label("Inputs, as JSON").fill('{"database": ')
        await page.get_by_label("Id of the new run").fill("backup, once more")
        await page.get_by_role("button", name="Begin it").click()
        assert "JSON" in await page.get_by_role("alert").inner_text()
        window.had("status 422: POST .*/ui/fork")
        assert await page.get_by_label("Id of the new run").input_value() == "backup, once more"
        await page.get_by_label("Inputs, as JSON").fill('{"database": "customers"}')
        await page.get_by_role("button", name="Begin it").click()
        await page.get_by_text("This new run begins where the other one was").wait_for()
        assert (await page.inner_text("h1")).startswith("backup, once more")
        await page.locator(".run-head .badge", has_text="failure").wait_for(timeout=POLLS_MS)


async def test_a_command_is_copied_by_a_click(runs: Path, serve: Serve, windows: OpenWindow) -> None:
    """As it stands there; `commands.py` types each."""
    server = await serve(runs)
    async with windows(server.origin, permissions=["clipboard-read", "clipboard-write"]) as window:
        page = window.page
        await page.goto("/ui/run?id=invoice-2041")
        command = page.locator("li", has_text="Look at it in a terminal")
        await command.get_by_role("button", name="Copy").click()
        await command.get_by_role("button", name="Copied").wait_for()
        assert await page.evaluate("navigator.clipboard.readText()") == await command.locator("code").inner_text()
        assert (await command.locator("code").inner_text()).startswith("workflows-mcp runs show invoice-2041")


async def test_a_slider_that_is_moved_on_is_not_put_back(staged: StartedServer, windows: OpenWindow) -> None:
    """By no answer that it has left behind: of ten keys none is lost, however they meet the server's answers."""
    async with windows(staged.origin) as window:
        page = window.page
        await page.goto("/ui/run?id=ledger-november")
        slider = page.get_by_role("slider")
        await slider.focus()
        between = 3

        async def move_on(route: "Route") -> None:
            nonlocal between
            if between:
                between -= 1
                await page.keyboard.press("ArrowLeft")  # while the answer to the keys before it is on its way
            await route.continue_()

        await page.route("**/ui/run?*n=*", move_on)
        for _ in range(10 - between):
            await page.keyboard.press("ArrowLeft")
        await page.locator(f"#slide[value='{LAST - 10}']").wait_for(timeout=POLLS_MS)
        assert await slider.input_value() == str(LAST - 10)
        assert between == 0
