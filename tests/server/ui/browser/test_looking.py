"""Every page, as people look at it: light, dark, wide, on a phone, without a mouse, with a screen reader."""

from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.server.started import StartedServer
from tests.server.ui.browser.accessible import assert_accessible
from tests.server.ui.browser.conftest import OpenWindow
from tests.server.ui.browser.windows import PHONE, SMALL, WIDE
from tests.server.ui.pages import MORE, PAGES, paths_on_stage

LOOKS: dict[str, dict[str, Any]] = {
    f"{size}-{scheme}": {"viewport": viewport, "color_scheme": scheme}
    for size, viewport, scheme in (
        ("wide", WIDE, "light"),
        ("wide", WIDE, "dark"),
        ("phone", PHONE, "light"),
        ("small", SMALL, "dark"),
    )
}

LOOKS_IN_SHORT = ("wide-light", "small-dark")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def addresses(stage: Path, staged: StartedServer, closed: StartedServer) -> dict[str, str]:
    """Where each page is."""
    paths = await paths_on_stage(stage)
    return {page: f"{(closed if page == 'login' else staged).origin}{path}" for page, path in paths.items()}


@pytest.mark.parametrize(
    ("page", "look"),
    [*((page, look) for page in PAGES for look in LOOKS), *((page, look) for page in MORE for look in LOOKS_IN_SHORT)],
)
async def test_a_page_is_fit_for_everybody(
    page: str, look: str, addresses: dict[str, str], windows: OpenWindow
) -> None:
    """axe-core finds nothing; nothing is wider than the screen; nothing jumps while it comes."""
    async with windows(**LOOKS[look]) as window:
        await window.page.goto(addresses[page], wait_until="networkidle")
        assert await window.page.locator("h1").count() == 1
        if await window.jumps():
            # On a busy machine a line may be drawn before the browser has read its end: what is a fault comes again.
            await window.page.reload(wait_until="networkidle")
        assert await window.jumps() == []
        assert await window.too_wide() == []
        await assert_accessible(window.page)
        if page == "no such run":
            window.had("status 404: GET")


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_is_read_without_scripts(page: str, addresses: dict[str, str], windows: OpenWindow) -> None:
    """It says the same, and nothing that only a script could do is offered."""
    async with windows() as with_scripts, windows(java_script_enabled=False) as without:
        for window in (with_scripts, without):
            await window.page.goto(addresses[page], wait_until="networkidle")
        headings = [await window.page.locator("h1, h2, h3").all_inner_texts() for window in (with_scripts, without)]
        assert headings[0] == headings[1]
        assert await without.page.get_by_role("button", name="Copy").count() == 0


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_is_walked_through_by_the_keyboard(
    page: str, addresses: dict[str, str], windows: OpenWindow
) -> None:
    """In the order in which it stands, from the way to its content to its end; what has the focus is seen."""
    async with windows() as window:
        await window.page.goto(addresses[page], wait_until="networkidle")
        steps: list[str] = []
        while len(steps) < MOST_STEPS:
            await window.page.keyboard.press("Tab")
            step = await window.page.evaluate(_STEP)
            if step is None:  # it has left the page
                break
            steps.append(step)
        assert steps[0] == "To the content"
        assert [step for step in steps if step.startswith("!")] == []
        assert len(steps) < MOST_STEPS


MOST_STEPS = 150

_STEP = """
() => {
  const one = document.activeElement, before = window.stepBefore;
  if (one === document.body || one === window.firstStep) return null;
  window.firstStep ??= one;
  window.stepBefore = one;
  const {outlineStyle, outlineWidth} = getComputedStyle(one), box = one.getBoundingClientRect();
  const what = one.innerText || one.id || one.outerHTML;
  const follows = Node.DOCUMENT_POSITION_FOLLOWING;
  if (before === one) return what;  // within a field for a date, whose parts are the browser's own
  if (before && !(before.compareDocumentPosition(one) & follows)) return `! out of order: ${what}`;
  if (outlineStyle === 'none' || parseFloat(outlineWidth) < 2) return `! not seen: ${what}`;
  if (!box.width || box.bottom < 0 || box.top > innerHeight) return `! out of sight: ${what}`;
  return what;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_words_in_pictures_are_read(scheme: str, addresses: dict[str, str], windows: OpenWindow) -> None:
    """By as much contrast as the others, which axe-core looks at."""
    async with windows(color_scheme=scheme) as window:
        for page in ("run", "failed", "abandoned", "running", "nested", "long"):
            await window.page.goto(addresses[page])
            contrasts: dict[str, float] = await window.page.evaluate(_CONTRASTS)
            assert len(contrasts) > 2, page
            assert {what: contrast for what, contrast in contrasts.items() if contrast < 4.5} == {}, page


_CONTRASTS = """
() => {
  const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(one => one / 255)
    .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
  const contrast = (one, other) => {
    const [less, more] = [light(one), light(other)].sort((a, b) => a - b);
    return (more + 0.05) / (less + 0.05);
  };
  const found = {};
  for (const text of document.querySelectorAll('.drawing svg text')) {
    const at = text.getBoundingClientRect();
    const around = [...text.parentElement.querySelectorAll('rect')].find(one => {
      const box = one.getBoundingClientRect();
      return box.left <= at.left && box.right >= at.right && box.top <= at.top && box.bottom >= at.bottom;
    });
    const ground = around ? getComputedStyle(around).fill : getComputedStyle(text.closest('.drawing')).backgroundColor;
    const kind = `${text.classList} in ${text.parentElement.classList}${around ? ' on it' : ''}`;
    found[kind] = Math.min(found[kind] ?? 99, contrast(getComputedStyle(text).fill, ground));
  }
  return found;
}
"""
