"""People answer what waits for them: with a mouse, with a keyboard, with and without scripts, two of them at once."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from tests.server.ui.browser.conftest import SCRIPTS, OpenWindow, Serve
from tests.server.ui.browser.outcomes import outputs_of, until
from tests.server.ui.pages import paths_on_stage

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page


def question_of(page: "Page", run_id: str) -> "Locator":
    """The card of a run on the page of all that waits."""
    return page.get_by_role("listitem").filter(has=page.get_by_role("link", name=run_id, exact=True))


@SCRIPTS
async def test_a_choice_is_a_button(runs: Path, serve: Serve, windows: OpenWindow, *, scripts: bool) -> None:
    """It is what the run goes on with; the question is gone then, and its run is what is shown."""
    server = await serve(runs)
    async with windows(server.origin, java_script_enabled=scripts) as window:
        await window.page.goto("/ui/waiting")
        question = question_of(window.page, "invoice-2041")
        assert await question.get_by_role("button", name="Ask the supplier").is_visible()
        await question.get_by_role("button", name="Reject").click()
        await window.page.wait_for_url("**/ui/run?id=invoice-2041*")
        await until(runs, "invoice-2041", "success")
        await window.page.goto("/ui/waiting")
        assert await question_of(window.page, "invoice-2041").count() == 0
        assert await question_of(window.page, "invoice-2043").count() == 1
    assert await outputs_of(runs, "invoice-2041") == {"decision": "Reject", "paid": False}


@SCRIPTS
async def test_an_answer_that_does_not_fit_is_not_lost(
    runs: Path, serve: Serve, windows: OpenWindow, *, scripts: bool
) -> None:
    """What was typed stands there still, with why it was not taken, where somebody who sees nothing hears it."""
    server = await serve(runs)
    async with windows(server.origin, java_script_enabled=scripts) as window:
        await window.page.goto("/ui/waiting")
        field = question_of(window.page, "onboard-adria-foods").get_by_label("Your answer")
        await field.fill("42 <b>or so</b>")
        await question_of(window.page, "onboard-adria-foods").get_by_role("button", name="Answer").click()
        window.had("status 422: POST")
        again = window.page.get_by_label("Your answer")
        assert await again.input_value() == "42 <b>or so</b>"
        assert "must match the pattern" in await window.page.get_by_role("alert").inner_text()
        assert await again.get_attribute("aria-invalid") == "true"
        await again.fill("4711")
        await window.page.get_by_role("button", name="Answer").click()
        await window.page.wait_for_url("**/ui/run?id=onboard-adria-foods*")
        await until(runs, "onboard-adria-foods", "success")
    assert await outputs_of(runs, "onboard-adria-foods") == {"cost_centre": "4711"}


async def test_of_two_people_the_first_one_answers_and_the_other_one_is_told(
    runs: Path, serve: Serve, windows: OpenWindow
) -> None:
    """On two servers over one database, at the same moment; and again by somebody whose page is old."""
    ann, bob = await serve(runs), await serve(runs)
    async with windows(ann.origin) as old, windows(ann.origin) as first, windows(bob.origin) as second:
        for window in (old, first, second):
            await window.page.goto("/ui/waiting")
        answers = {"Pay": first, "Reject": second}
        clicks = [
            question_of(window.page, "invoice-2043").get_by_role("button", name=answer).click()
            for answer, window in answers.items()
        ]
        await asyncio.gather(*clicks)
        taken = (await outputs_of(runs, "invoice-2043"))["decision"]
        loser = answers[{"Pay": "Reject", "Reject": "Pay"}[taken]]
        await question_of(old.page, "invoice-2043").get_by_role("button", name="Ask the supplier").click()
        for window in (loser, old):
            assert await window.page.inner_text("h1") == "It was answered already"
            assert "your answer, which was not taken" in await window.page.inner_text("main")
            window.had("status 409: POST .*/ui/answer")
            await window.page.get_by_role("link", name="The run").click()
            await window.page.wait_for_url("**/ui/run?id=invoice-2043*")
    assert (await outputs_of(runs, "invoice-2043"))["decision"] == taken


async def test_a_keyboard_is_enough(runs: Path, serve: Serve, windows: OpenWindow) -> None:
    """The first key leads to the content; what has the focus is seen; Enter answers."""
    server = await serve(runs)
    async with windows(server.origin) as window:
        page = window.page
        await page.goto("/ui/waiting")
        await page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="To the content")
        assert await skip.evaluate("one => one === document.activeElement")
        assert (await skip.bounding_box() or {"y": -1})["y"] >= 0
        await page.keyboard.press("Enter")
        seen: list[str] = []
        while "Release it" not in seen:
            await page.keyboard.press("Tab")
            seen.append(await page.evaluate("document.activeElement.innerText"))
            assert len(seen) < 20, seen
            outline = await page.evaluate("getComputedStyle(document.activeElement).outline")
            assert "3px" in outline, f"{seen[-1]}: {outline}"
        assert seen[0] == "release-4.3.0"  # what stands above the content was skipped
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/ui/run?id=release-4.3.0*")
        await until(runs, "release-4.3.0", "success")


async def test_pages_that_only_show_have_nothing_to_answer_with(runs: Path, serve: Serve, windows: OpenWindow) -> None:
    """Nor to end or begin a run with; and what is sent all the same is refused."""
    server = await serve(runs, "--read-only")
    async with windows(server.origin) as window:
        for path in (await paths_on_stage(runs)).values():
            await window.page.goto(path)
            assert await window.page.locator("form[method=post], a[href*='/ui/fork']").count() == 0, path
            assert await window.page.get_by_text("read-only", exact=True).is_visible(), path
        window.had("status 404: GET .*there\\+is\\+none")
        await window.page.goto("/ui/waiting")
        assert await question_of(window.page, "release-4.3.0").count() == 1
        post = "fetch('/ui/answer?checkpoint=x', {method: 'POST', body: new URLSearchParams({choice: 0})})"
        answered = await window.page.evaluate(f"{post}.then(one => one.text())")
        assert "nothing was done" in answered
        window.had("status 403: POST")
    assert (await until(runs, "release-4.3.0", "paused")).status == "paused"
