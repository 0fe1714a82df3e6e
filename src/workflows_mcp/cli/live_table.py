"""A run that is watched on a terminal: a table of its blocks that is kept up to date."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflows_mcp.cli.blocks import SIGNS, BlockRow, row_of
from workflows_mcp.cli.failures import one_line
from workflows_mcp.cli.live import STYLES
from workflows_mcp.cli.options import Options, command_line
from workflows_mcp.cli.views import abandoned_line, head_line
from workflows_mcp.engine.ages import shown_age

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from workflows_mcp.engine.run_details import RunDetails

__all__ = ["LiveTable", "TreeRow", "fitting", "tree_of"]

_LINES_AROUND = 8
"""So many lines of a screen are left for what stands above and below the blocks."""

_FEWEST_ROWS = 5

_OVER = frozenset({"succeeded", "skipped"})
_AT_WORK = frozenset({"running", "paused"})


@dataclass(frozen=True)
class TreeRow:
    """A block in a tree.

    Attributes:
        row: The block.
        name: Its path within what it stands below.
        depth: How many blocks it stands below.
    """

    row: BlockRow
    name: str
    depth: int


class LiveTable:
    """A run and its blocks, drawn anew several times a second.

    Args:
        console: Where; its height is what the blocks must fit into.
        options: What was typed.
        keep: Whether its question is shown, since nothing else will.
    """

    def __init__(self, console: "Console", options: Options, *, keep: bool) -> None:
        self._console = console
        self._options = options
        self._keep = keep
        self._run: RunDetails | None = None
        self._trouble: str | None = None

    def show(self, run: "RunDetails") -> None:
        """See `View`."""
        self._run = run

    def tell_trouble(self, error: Exception) -> None:
        """See `View`."""
        self._trouble = one_line(str(error))

    def end_trouble(self) -> None:
        """See `View`."""
        self._trouble = None

    def render(self) -> "RenderableType":
        """What is shown now."""
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        run = self._run
        trouble = [] if self._trouble is None else [Text(f"{self._trouble}; looking again", style="yellow")]
        if run is None:
            return Group(Spinner("dots", text=Text(" waiting for the run to begin"), style="cyan"), *trouble)
        parts: list[RenderableType] = [Text(f"{head_line(run)}{_times(run)}", style="bold")]
        if run.flaw is not None:
            parts.append(Text(one_line(run.flaw), style="yellow"))
        if run.blocks:
            parts.append(self._blocks(run))
        if run.is_abandoned:
            parts.append(Text(abandoned_line(run, self._options), style="bold red"))
        if run.status == "paused" and self._keep:
            answer = command_line("resume", run.checkpoint_id, "--response", "TEXT", options=self._options)
            parts += [Text(one_line(run.prompt or ""), style="bold yellow"), Text(f"answer with: {answer}")]
        return Group(*parts, *trouble)

    def _blocks(self, run: "RunDetails") -> "Table":
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2), expand=False)
        for is_number in (False, False, True, False):
            table.add_column(no_wrap=True, overflow="ellipsis", justify="right" if is_number else "left")
        most = max(self._console.height - _LINES_AROUND, _FEWEST_ROWS)
        before, shown, after = fitting(tree_of(run), most)
        if before:
            table.add_row(Text(f"✓ {before:,} more that are over", style="dim"))
        for one in shown:
            style = STYLES.get(SIGNS.get(one.row.status, ""), "")
            name = f"{'  ' * one.depth}{SIGNS.get(one.row.status, '●')} {one_line(one.name)}"
            table.add_row(Text(name, style=style), one.row.status, _seconds(one.row), Text(one_line(one.row.note)))
        if after:
            table.add_row(Text(f"… {after:,} more to come", style="dim"))
        return table


def tree_of(run: "RunDetails") -> list[TreeRow]:
    """The blocks of a run, items and blocks of nested workflows below what they are part of."""
    above: list[str] = []
    found = []
    for block in run.blocks:
        while above and not block.path.startswith((f"{above[-1]}/", f"{above[-1]}[")):
            above.pop()
        name = block.path.removeprefix(above[-1]).removeprefix("/") if above else block.path
        found.append(TreeRow(row_of(block), name, len(above)))
        above.append(block.path)
    return found


def fitting(rows: Sequence[TreeRow], most: int) -> tuple[int, Sequence[TreeRow], int]:
    """As many rows as there is room for: what is over goes first, then what is to come.

    Returns:
        How many at the beginning are left out, the others, and how many at the end are left out.
    """
    excess = max(len(rows) - most, 0)
    over = next((index for index, one in enumerate(rows) if one.row.status not in _OVER), len(rows))
    before = min(excess, over)
    after = excess - before
    return before, rows[before : len(rows) - after], after


def _times(run: "RunDetails") -> str:
    saved = f", saved {shown_age(run.age_seconds)} ago"
    return f"{saved}, held for {run.lease_seconds_left:.0f} s" if run.lease_seconds_left else saved


def _seconds(row: BlockRow) -> str:
    if row.seconds is not None:
        return f"{row.seconds:.1f} s"
    if row.status in _AT_WORK and isinstance(row.started_at, int | float):
        return f"{max(time.time() - row.started_at, 0.0):.0f} s"
    return ""
