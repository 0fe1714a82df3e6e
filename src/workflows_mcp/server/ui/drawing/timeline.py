"""When the blocks of a run were at work, or waited for somebody: a bar for each on an axis of time."""

from collections.abc import Sequence
from dataclasses import dataclass

from workflows_mcp.engine.block_details import BlockDetails, depths_of
from workflows_mcp.server.ui.drawing.axis import Axis, Stretch, Tick, make_axis
from workflows_mcp.server.ui.drawing.words import shortened, span

__all__ = ["MOST_BARS", "Bar", "Timeline", "draw_timeline", "was_over"]

MOST_BARS = 60
"""So many bars are drawn; of more blocks, those that are not over, that failed, and that took longest."""

_WIDTH = 1000.0
_LABELS, _FIGURES = 196.0, 92.0
_ROW, _BAR = 24.0, 14.0
_HEAD = 28.0
_INDENT = 12.0
_LETTERS, _LETTER = 26, 7.2
_LEAST_WIDTH = 2.0


@dataclass(frozen=True)
class Bar:
    """A block, or an item, in the picture.

    Attributes:
        name: Names it within the run.
        label: The same, cut to fit.
        status: What became of it.
        waits: Whether it is somebody else's time, and no work.
        is_open: Whether it is not over.
        seconds: How long it took, or takes by now.
        indent: Where its label begins.
        x: The bar's left edge.
        y: The bar's upper edge.
        width: How wide the bar is.
        height: How high the bar is.
    """

    name: str
    label: str
    status: str
    waits: bool
    is_open: bool
    seconds: float
    indent: float
    x: float
    y: float
    width: float
    height: float = _BAR

    @property
    def took(self) -> str:
        """How long that is, in words."""
        return span(self.seconds)


@dataclass(frozen=True)
class Timeline:
    """The picture of when what was done.

    Attributes:
        width: How wide it is.
        height: How high it is.
        bars: The blocks that have begun.
        ticks: What is marked on the axis.
        cuts: Long stretches in which nothing worked, which are cut short.
        left_out: How many blocks have begun that have no bar, since others matter more.
        took: How long all of it took, or takes by now.
        taken_over: How many have none since they were done in the run that this one was forked from.
    """

    width: float
    height: float
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    cuts: tuple[Stretch, ...]
    left_out: int
    took: str
    taken_over: int = 0

    @property
    def told(self) -> str:
        """What there is to be seen, in words."""
        if not self.bars:
            return "nothing has begun"
        longest = max(self.bars, key=lambda bar: bar.seconds)
        blocks = len(self.bars) + self.left_out
        return (
            f"{blocks:,} {'block' if blocks == 1 else 'blocks'} in {self.took}; the longest, {longest.name}, "
            f"{'waits' if longest.waits and longest.is_open else 'took'} {longest.took}"
        )


def draw_timeline(
    blocks: Sequence[BlockDetails], until: float, began: float | None = None, *, is_fork: bool = False
) -> Timeline:
    """The picture of when a run's blocks were at work.

    Args:
        blocks: What is known of them. Those without a beginning have no bar.
        until: Up to when what is not over goes on, in Unix seconds.
        began: When the run began; None: it is not known. The axis begins there, so that it counts as the table of
            blocks does, but where the clock was set back meanwhile, and a block began earlier.
        is_fork: Whether the run goes on where another one was. What was over before it began has no bar, and of what
            was under way only the time since then is drawn.
    """
    spans = {number: _span_of(one, until) for number, one in enumerate(blocks) if one.started_at is not None}
    begun = len(spans)
    if is_fork and began is not None:
        spans = {
            number: (max(first, began), max(last, began))
            for number, (first, last) in spans.items()
            if not was_over(blocks[number], began)
        }
    taken_over = begun - len(spans)
    if not spans:
        return Timeline(_WIDTH, 0.0, (), (), (), 0, span(0), taken_over)
    start = min(first for first, _ in spans.values())
    start = start if began is None else min(start, began)
    end = max(last for _, last in spans.values())
    parents = {one.parent for one in blocks}
    # What is within others works, or waits, in their place.
    busy = [spans[number] for number in spans if not _waits(blocks[number]) and blocks[number].path not in parents]
    axis = make_axis(busy, start, end, x=_LABELS, width=_WIDTH - _LABELS - _FIGURES)
    depths = depths_of(blocks)
    chosen = _chosen(blocks, spans)
    bars = tuple(_bar(blocks[number], spans[number], axis, depths[number], row) for row, number in enumerate(chosen))
    height = _HEAD + len(bars) * _ROW + 6
    cuts = tuple(one for one in axis.stretches if one.is_cut)
    return Timeline(_WIDTH, height, bars, axis.ticks, cuts, len(spans) - len(bars), span(end - start), taken_over)


def was_over(block: BlockDetails, moment: float) -> bool:
    """Whether a block had come to its end by then; one that nobody knows the times of had not."""
    return _is_over(block) and block.completed_at is not None and block.completed_at <= moment


def _span_of(block: BlockDetails, until: float) -> tuple[float, float]:
    started = block.started_at or 0.0
    ended = block.completed_at if _is_over(block) and block.completed_at is not None else until
    return started, max(started, ended)  # clocks may go back


def _is_over(block: BlockDetails) -> bool:
    return block.status in {"succeeded", "failed", "skipped", "done"}


def _waits(block: BlockDetails) -> bool:
    return block.status == "paused" or block.asks


def _chosen(blocks: Sequence[BlockDetails], spans: dict[int, tuple[float, float]]) -> list[int]:
    """The blocks that have a bar, in their order."""

    def weight(number: int) -> tuple[bool, bool, float]:
        first, last = spans[number]
        return _is_over(blocks[number]), blocks[number].status != "failed", first - last

    return sorted(sorted(spans, key=weight)[:MOST_BARS])


def _bar(block: BlockDetails, lasts: tuple[float, float], axis: Axis, depth: int, row: int) -> Bar:
    left, right = axis.place(lasts[0]), axis.place(lasts[1])
    indent = min(depth, 6) * _INDENT
    name = block.block_id if block.key is None else f"[{block.key}]"
    return Bar(
        block.path,
        shortened(name or block.path, _LETTERS - round(indent / _LETTER)),
        block.status,
        _waits(block),
        not _is_over(block),
        lasts[1] - lasts[0],
        indent,
        round(left, 1),
        _HEAD + row * _ROW + (_ROW - _BAR) / 2,
        round(max(right - left, _LEAST_WIDTH), 1),
    )
