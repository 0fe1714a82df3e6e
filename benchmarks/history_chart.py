"""What a long run's history takes up, as a picture: a bar for each way to keep it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import OURS
from benchmarks.history_results import HistoryOf, HistoryResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["THEMES", "draw_history"]


@dataclass(frozen=True)
class Theme:
    """The colours of a picture."""

    ours: str
    peer: str
    text: str
    ground: str


THEMES = {
    "": Theme("#1f6feb", "#b6bfca", "#1f2328", "#ffffff"),
    "-dark": Theme("#4493f8", "#5c6570", "#e6edf3", "#0d1117"),
}
"""By what the file's name ends in: for light pages, and for dark ones."""

_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def draw_history(results: HistoryResults, folder: Path) -> None:
    """Draw `history.svg` and its dark twin; the same results make the same files."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    for end, theme in THEMES.items():
        with mpl.rc_context({"svg.hashsalt": "history", "svg.fonttype": "none", "font.family": "sans-serif"}):
            figure = Figure(figsize=(9, 0.6 + 1.6 * len(results.databases)), facecolor=theme.ground)
            panels = figure.subplots(len(results.databases), 1, squeeze=False)[:, 0]
            for panel, found in zip(panels, results.databases, strict=True):
                _draw(panel, found, results, theme)
            figure.text(
                0.01,
                0.01,
                f"Bytes of the database with all {results.waves:,} checkpoints of a run; in brackets: as a multiple of "
                f"the last state's {results.plain_bytes / 1e6:.1f} MB of JSON.",
                fontsize=8.5,
                color=theme.text,
            )
            figure.tight_layout(rect=(0, 0.04, 1, 1), h_pad=1.4)
            figure.savefig(folder / f"history{end}.svg", metadata={"Date": None}, facecolor=theme.ground)


def _draw(panel: "Axes", found: HistoryOf, results: HistoryResults, theme: Theme) -> None:
    """One bar for each way, from the top, with its name on the left and its size on the right."""
    panel.set_axis_off()
    panel.set_title(_NAMES[found.database], loc="left", fontsize=12, fontweight="bold", color=theme.text, pad=4)
    sizes = [way.stored_bytes / 1e6 for way in found.ways]
    longest = max(sizes)
    colors = [theme.ours if way.name == OURS else theme.peer for way in found.ways]
    panel.barh(range(len(sizes)), sizes, color=colors, height=0.72)
    panel.set_ylim(len(sizes) - 0.45, -0.55)
    # Room for the names on the left and the numbers on the right.
    panel.set_xlim(-0.2 * longest, 1.3 * longest)
    for place, (way, size) in enumerate(zip(found.ways, sizes, strict=True)):
        style: dict[str, Any] = {
            "color": theme.text,
            "fontweight": "bold" if way.name == OURS else "normal",
            "va": "center",
        }
        label = "this store" if way.name == OURS else way.name
        panel.text(-0.01 * longest, place, label, ha="right", fontsize=9, **style)
        share = size * 1e6 / results.plain_bytes
        number = f"{size:,.1f} MB  ({share:,.1f} ×)" if share < 10 else f"{size:,.0f} MB  ({share:,.0f} ×)"
        panel.text(size + 0.01 * longest, place, number, ha="left", fontsize=9, **style)
