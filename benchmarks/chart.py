"""The results as a picture: one small panel for each workload, each with a scale of its own."""

from pathlib import Path

from benchmarks.contenders import OURS
from benchmarks.figures import median_rate, ratio_between
from benchmarks.results import DatabaseResult, Results
from benchmarks.workloads import workload_named

__all__ = ["CHARTED", "draw_chart"]

CHARTED = ("save_1kb", "save_64_1kb", "load_1kb", "save_20kb", "save_8_1mb", "newest_50", "waves", "waves_32")
"""The workloads that the picture shows, from the top."""

_NAMES = {"sqlite": "SQLite, synchronous=FULL", "postgresql": "PostgreSQL, synchronous_commit=on"}
_OURS, _PEER, _TEXT, _FAINT = "#1f6feb", "#b6bfca", "#1f2328", "#59636e"


def draw_chart(results: Results, path: Path) -> None:
    """Draw the rates of all contenders as an SVG file, or as what else the path's ending says.

    The same results make the same file.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    databases = {name: result for name, result in results.databases.items() if result.workloads}
    charted = [name for name in CHARTED if any(name in result.workloads for result in databases.values())]
    with mpl.rc_context({"svg.hashsalt": "benchmark", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(5.6 * len(databases), 0.9 + 1.75 * len(charted)), facecolor="white")
        grid = figure.subplots(len(charted), len(databases), squeeze=False)
        for column, (database, result) in enumerate(databases.items()):
            for row, name in enumerate(charted):
                panel = grid[row][column]
                _draw_panel(panel, result, name)
                if row == 0:
                    panel.annotate(
                        _NAMES[database],
                        (0, 1),
                        xytext=(0, 26),
                        xycoords="axes fraction",
                        textcoords="offset points",
                        fontsize=13,
                        fontweight="bold",
                        color=_TEXT,
                    )
        figure.text(
            0.01,
            0.003,
            "Operations a second, longer is faster; in brackets: how many times as fast ours is. "
            "Medians of turns in one run.",
            fontsize=8.5,
            color=_FAINT,
        )
        figure.tight_layout(rect=(0, 0.015, 1, 1), h_pad=1.4, w_pad=2)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata, dpi=100)


def _draw_panel(panel: object, result: DatabaseResult, workload: str) -> None:
    """A workload: a bar for each contender, the best scale for them, the numbers beside them."""
    from matplotlib.axes import Axes

    assert isinstance(panel, Axes)
    panel.set_axis_off()
    entries = result.workloads.get(workload, {})
    names = [name for name in result.contenders if name in entries and entries[name].turns]
    if not names:
        return
    rates = [median_rate(entries[name].turns) for name in names]
    longest = max(rates)
    done = workload_named(workload)
    ours_as = "this executor" if done.runs else "this store"
    panel.set_title(done.title, loc="left", fontsize=10.5, color=_TEXT, pad=4)
    colors = [_OURS if name == OURS else _PEER for name in names]
    panel.barh(range(len(names)), rates, color=colors, height=0.72)
    panel.set_ylim(len(names) - 0.45, -0.55)
    # Room for the names on the left and the numbers on the right.
    panel.set_xlim(-0.36 * longest, 1.34 * longest)
    ours = entries[OURS].turns if OURS in entries else []
    for place, (name, rate) in enumerate(zip(names, rates, strict=True)):
        weight = "bold" if name == OURS else "normal"
        label = ours_as if name == OURS else name
        panel.text(-0.015 * longest, place, label, ha="right", va="center", fontsize=9, color=_TEXT, fontweight=weight)
        number = _number(rate)
        if ours and name != OURS:
            number += f"  ({_number(ratio_between(ours, entries[name].turns))} ×)"
        at = rate + 0.015 * longest
        panel.text(at, place, number, ha="left", va="center", fontsize=8.5, color=_TEXT, fontweight=weight)


def _number(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:,.0f} k"
    if value >= 1000:
        return f"{value / 1000:.1f} k"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
