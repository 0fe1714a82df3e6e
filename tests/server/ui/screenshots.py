"""Pictures of every page for the documents: `python3 run.py screenshots`."""

import asyncio
import io
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from tests.documents.pieces import ROOT
from tests.server.started import start_ui
from tests.server.ui.browser.missing import missing
from tests.server.ui.browser.windows import PHONE, WIDE, open_browser, open_window
from tests.server.ui.pages import PAGES, paths_on_stage
from tests.server.ui.stage import STAGE_ENVIRONMENT, make_stage

if TYPE_CHECKING:
    from playwright.async_api import Browser

__all__ = ["FOLDER", "MOST_BYTES", "MOST_BYTES_IN_ALL", "app", "pictures", "size_of"]

FOLDER = ROOT / "docs" / "images"

_LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": WIDE, "color_scheme": "light"},
    "dark": {"viewport": WIDE, "color_scheme": "dark"},
    # As sharp as phones are: it is shown smaller than it is.
    "phone": {
        "viewport": PHONE,
        "color_scheme": "light",
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}
"""How each page is looked at: options of `open_window`."""

_HEIGHTS = {"run": 1720}
"""Of what is shown wide, where the first screen does not tell what the page is."""

MOST_BYTES = 150_000
MOST_BYTES_IN_ALL = 2_000_000

_COLOURS = 255
"""As many as a byte tells apart."""

_TOKEN = "nobody-is-let-in-by-this-0123456789"
"""Of the server for the picture of its login."""

app = App(
    name="screenshots", help="Take pictures of every page, light, dark and as on a phone.", help_format="plaintext"
)


def pictures() -> list[str]:
    """The names of all pictures' files."""
    return [f"{page}-{look}.png" for page in PAGES for look in _LOOKS]


def size_of(picture: str) -> tuple[int, int]:
    """The width and the height of a picture in pixels."""
    page, _, look = picture.removesuffix(".png").rpartition("-")
    scale, size = _LOOKS[look].get("device_scale_factor", 1), _viewport(page, look)
    return scale * size["width"], scale * size["height"]


def _viewport(page: str, look: str) -> dict[str, int]:
    size = _LOOKS[look]["viewport"]
    return {**size, "height": _HEIGHTS.get(page, size["height"])} if size == WIDE else size


@app.default
def screenshots(*, save: Path = FOLDER, only: Annotated[list[str] | None, Parameter(negative="")] = None) -> int:
    """Take them all anew.

    Args:
        save: The folder to put them into.
        only: Only these pages.
    """
    if missing():
        print(f"error: there is no {' and no '.join(missing())}", file=sys.stderr)
        return 1
    unknown = set(only or ()) - set(PAGES)
    if unknown:
        print(
            f"error: there are no such pages: {', '.join(sorted(unknown))}; there are {', '.join(PAGES)}",
            file=sys.stderr,
        )
        return 1
    save.mkdir(parents=True, exist_ok=True)
    asyncio.run(_take(save, only or PAGES))
    return 0


async def _take(folder: Path, pages: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as work:
        stage = Path(work) / "stage.db"
        await make_stage(stage)
        paths = await paths_on_stage(stage)
        async with (
            _origins(Path(work), stage) as (open_to_all, closed),
            open_browser("--enable-features=OverlayScrollbar") as browser,  # without room for scroll bars
        ):
            for page in pages:
                for look, options in _LOOKS.items():
                    address = f"{closed if page == 'login' else open_to_all}{paths[page]}"
                    picture = await _picture(browser, address, {**options, "viewport": _viewport(page, look)})
                    file = folder / f"{page}-{look}.png"
                    file.write_bytes(picture)
                    print(f"{file}: {len(picture) / 1000:.0f} kB")


@asynccontextmanager
async def _origins(folder: Path, stage: Path) -> AsyncIterator[tuple[str, str]]:
    """Where the stage is shown to everybody, and where only to those with a token."""
    servers = []
    try:
        for name, settings in (("open", {}), ("closed", {"WORKFLOWS_HTTP_TOKEN": _TOKEN})):
            (folder / name).mkdir()
            database = shutil.copy(stage, folder / name / "runs.db")
            environment = {**STAGE_ENVIRONMENT, "WORKFLOWS_DATABASE_URL": str(database), **settings}
            servers.append(await start_ui(folder / name, environment))
        yield servers[0].origin, servers[1].origin
    finally:
        for server in servers:
            await server.stop()


async def _picture(browser: "Browser", address: str, look: dict[str, Any]) -> bytes:
    async with open_window(browser, **look) as window:
        await window.page.goto(address, wait_until="networkidle")
        taken = await window.page.screenshot(animations="disabled")
    return await asyncio.to_thread(_smaller, taken)


def _smaller(png: bytes) -> bytes:
    """The same picture in a third of the size: common colours as they are, the edges of letters all but so."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as opened:
        reduced = opened.convert("RGB").quantize(_COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=1)
        made = io.BytesIO()
        reduced.save(made, "PNG", optimize=True)
    return made.getvalue()


if __name__ == "__main__":
    sys.exit(app())
