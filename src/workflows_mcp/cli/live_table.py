"""A run that is watched on a terminal: a table of its blocks that is kept up to date."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflows_mcp.cli.blocks import BlockRow, row_of
from workflows_mcp.cli.failures import one_line
from workflows_mcp.cli.live import STYLES
from workflows_mcp.cli.options import Options, command_line
from workflows_mcp.cli.views import abandoned_line, head_line
from workflows_mcp.engine.ages import shown_age
from workflows_mcp.engine.signs import sign_of

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from workflows_mcp.engine.run_details import BlockDetails, RunDetails

__all__ = ["LiveTable"]

_LINES_AROUND = 8
"""So many lines of a screen are left for what stands above and below the blocks."""

_FEWEST_ROWS = 5

_OVER = frozenset({"succeeded", "skipped", "done"})
_AT_WORK = frozenset({"running", "paused"})

_LEFT_OUT_FIRST = ("not begun", "may have begun", "interrupted", "failed", "running")
"""What makes room once all that is over has; the last of them first."""


@dataclass(frozen=True)
class _TreeRow:
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
        parts += self._blocks(run)
        if run.is_abandoned:
            parts.append(Text(abandoned_line(run, self._options), style="bold red"))
        if run.status == "paused" and self._keep:
            answer = command_line("resume", "--response", "TEXT", ids=[run.checkpoint_id], options=self._options)
            parts += [Text(one_line(run.prompt or ""), style="bold yellow"), Text(f"answer with: {answer}")]
        return Group(*parts, *trouble)

    def _blocks(self, run: "RunDetails") -> "Iterator[RenderableType]":
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2), expand=False)
        for is_number in (False, False, True, False):
            table.add_column(no_wrap=True, overflow="ellipsis", justify="right" if is_number else "left")
        most = max(self._console.height - _LINES_AROUND, _FEWEST_ROWS)
        shown, over, others = _fitting(run.blocks, most)
        if over:
            yield Text(f"✓ {over:,} more that {'is' if over == 1 else 'are'} over", style="dim")
        for one in _tree_of(shown, run.blocks):
            sign = sign_of(one.row.status)
            name = Text(f"{'  ' * one.depth}{sign} {one_line(one.name)}", style=STYLES.get(sign, ""))
            table.add_row(name, one.row.status, _seconds(one.row), Text(one_line(one.row.note)))
        if shown:
            yield table
        if others:
            kinds = ", ".join(f"{count:,} {status}" for status, count in others.items())
            yield Text(f"… {others.total():,} more: {kinds}", style="dim")


def _tree_of(shown: "Sequence[BlockDetails]", blocks: "Sequence[BlockDetails]") -> list[_TreeRow]:
    """Those blocks of a run that are shown, each below the nearest one that is shown of what it is within."""
    parents = {one.path: one.parent for one in blocks}
    depths: dict[str, int] = {}
    found = []
    for one in shown:
        above = one.parent
        while above is not None and above not in depths:
            above = parents.get(above)
        depths[one.path] = 0 if above is None else depths[above] + 1
        name = one.path if above is None else one.path.removeprefix(above).removeprefix("/")
        found.append(_TreeRow(row_of(one), name, depths[one.path]))
    return found


def _fitting(blocks: "Sequence[BlockDetails]", most: int) -> "tuple[Sequence[BlockDetails], int, Counter[str]]":
    """As many blocks as there is room for: what is over goes first, wherever it stands, and what is at work last.

    Returns:
        Those that are shown; how many are left out that are over; how many others, by status.
    """
    ranks = dict(zip(_LEFT_OUT_FIRST, itertools.count(1))) | dict.fromkeys(_OVER, 0)

    def turn(place: int) -> tuple[int, int]:
        rank = ranks.get(blocks[place].status, len(ranks))
        return rank, -place if rank else place  # of what is over, what came first, and of all else what comes last

    order = sorted(range(len(blocks)), key=turn)
    left_out = set(order[: max(len(blocks) - most, 0)])
    statuses = [blocks[place].status for place in sorted(left_out)]
    others = Counter[str](status for status in statuses if status not in _OVER)
    return [one for place, one in enumerate(blocks) if place not in left_out], len(statuses) - others.total(), others


def _times(run: "RunDetails") -> str:
    saved = f", saved {shown_age(run.age_seconds)} ago"
    return f"{saved}, held for {run.lease_seconds_left:.0f} s" if run.lease_seconds_left else saved


def _seconds(row: BlockRow) -> str:
    if row.seconds is not None:
        return f"{row.seconds:.1f} s"
    if row.status in _AT_WORK and isinstance(row.started_at, int | float):
        return f"{max(time.time() - row.started_at, 0.0):.0f} s"
    return ""
