"""The blocks of a workflow as a graph: a column for each wave, a line for each dependency."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from workflows_mcp.engine.block_details import BlockDetails
from workflows_mcp.server.ui.drawing.layers import order_layers, place_layers
from workflows_mcp.server.ui.drawing.words import shortened

__all__ = ["MOST_DRAWN", "Column", "Edge", "Graph", "Node", "draw_graph"]

MOST_DRAWN = 500
"""So many blocks are drawn one by one; of more, only how many are in which wave."""

_MOST_EDGES = 2_000

_MOST_BENDS = 1_000
"""So many places are kept free for lines that pass waves, the shortest first; others cross whatever is there."""

_MOST_COLUMNS = 40
"""So many waves are told one by one where blocks are not."""

NODE_WIDTH, NODE_HEIGHT = 176.0, 36.0
_ROOM = NODE_HEIGHT + 14.0
_ROOM_FOR_LINE = 12.0
_BETWEEN = 64.0
_LEAST_WIDTH, _LEAST_BETWEEN = 96.0, 32.0
_BESIDE_LABEL, _A_LETTER = 41.0, 7.5
_WIDE = 1_160.0
"""So much of a picture is seen at once on a wide screen; one that would be wider draws blocks closer to each other."""

_MARGIN = 12.0
_HEAD = 26.0
_MOST_LETTERS = 18


@dataclass(frozen=True)
class Node:
    """A block in the picture.

    Attributes:
        name: Names it within the run.
        label: Its id, cut to fit.
        status: What became of it.
        type: The name of its block type; None: nobody knows.
        x: Its left edge.
        y: Its upper edge.
        width: How wide it is.
        height: How high it is.
    """

    name: str
    label: str
    status: str
    type: str | None
    x: float
    y: float
    width: float = NODE_WIDTH
    height: float = NODE_HEIGHT


@dataclass(frozen=True)
class Edge:
    """A dependency in the picture.

    Attributes:
        source: Where it comes from, by its name.
        target: What waits for that.
        path: The line, as path data of SVG.
        is_open: Whether what it comes from is not over.
    """

    source: str
    target: str
    path: str
    is_open: bool


@dataclass(frozen=True)
class Column:
    """A wave, or some that stand together, in the picture.

    Attributes:
        label: Which it is.
        x: Its left edge.
        counts: How many of its blocks are in which status.
    """

    label: str
    x: float
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Graph:
    """The picture of a workflow.

    Attributes:
        width: How wide it is.
        height: How high it is.
        columns: Its waves.
        nodes: Its blocks; none where there are too many.
        edges: What waits for what.
        left_out: How many dependencies are not drawn, since they are too many.
        counts: How many blocks there are in which status.
    """

    width: float
    height: float
    columns: tuple[Column, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    left_out: int
    counts: Mapping[str, int]

    @property
    def told(self) -> str:
        """What there is to be seen, in words."""
        blocks = sum(self.counts.values())
        kinds = ", ".join(f"{count:,} {status}" for status, count in self.counts.items())
        return f"{blocks:,} {'block' if blocks == 1 else 'blocks'}: {kinds}" if blocks else "no blocks"


def draw_graph(blocks: Sequence[BlockDetails], within: str | None = None) -> Graph:
    """The picture of a workflow; the same blocks always give the same one.

    Args:
        blocks: What is known of a run's blocks.
        within: In whose place the workflow runs that is drawn: the path of a block, or an item. None: the run's own.
    """
    # An item stands in its block, which is drawn.
    drawn = [one for one in blocks if one.parent == within and one.key is None]
    counts: dict[str, int] = dict(Counter(one.status for one in drawn))
    if len(drawn) > MOST_DRAWN:
        return _summary(drawn, counts)
    waves = sorted({one.wave for one in drawn})
    column_of = {wave: index for index, wave in enumerate(waves)}
    layers: list[list[int]] = [[] for _ in waves]
    for number, one in enumerate(drawn):
        layers[column_of[one.wave]].append(number)
    routes, left_out = _routes(drawn, layers)
    column = {one: index for index, layer in enumerate(layers) for one in layer}
    steps = [step for route in routes for step in pairwise(route)]
    steps = [(one, other) for one, other in steps if column[other] == column[one] + 1]
    room = {one: _ROOM if one < len(drawn) else _ROOM_FOR_LINE for layer in layers for one in layer}
    ordered = order_layers(layers, steps)
    middle = {one: _HEAD + place for one, place in place_layers(ordered, steps, room).items()}
    labels = [shortened(one.block_id or one.path, _MOST_LETTERS) for one in drawn]
    width, step = _measures(len(layers), max(map(len, labels), default=0))
    left = {one: _MARGIN + index * step for one, index in column.items()}
    nodes = tuple(
        Node(one.path, label, one.status, one.type, left[number], round(middle[number] - NODE_HEIGHT / 2, 1), width)
        for number, (one, label) in enumerate(zip(drawn, labels, strict=True))
    )
    edges = tuple(
        Edge(
            drawn[route[0]].path,
            drawn[route[-1]].path,
            _line([(left[one], middle[one]) for one in route], width),
            drawn[route[0]].status in {"not begun", "may have begun", "running", "paused", "interrupted"},
        )
        for route in routes
    )
    bottom = max((middle[one] + room[one] / 2 for one in middle), default=_HEAD)
    return Graph(
        2 * _MARGIN + width + max(len(layers) - 1, 0) * step,
        round(bottom + _MARGIN / 2, 1),
        tuple(
            Column(
                f"wave {wave + 1}",
                _MARGIN + index * step,
                dict(Counter(drawn[one].status for one in layers[index] if one < len(drawn))),
            )
            for index, wave in enumerate(waves)
        ),
        nodes,
        edges,
        left_out,
        counts,
    )


def _measures(columns: int, letters: int) -> tuple[float, float]:
    """How wide a block is, and how far each wave is from the one before it."""
    room = _WIDE - 2 * _MARGIN
    if columns * (NODE_WIDTH + _BETWEEN) - _BETWEEN <= room:
        return NODE_WIDTH, NODE_WIDTH + _BETWEEN
    width = min(max(_BESIDE_LABEL + letters * _A_LETTER, _LEAST_WIDTH), NODE_WIDTH)
    between = (room - columns * width) // (columns - 1)
    return width, width + min(max(between, _LEAST_BETWEEN), _BETWEEN)


def _routes(drawn: Sequence[BlockDetails], layers: list[list[int]]) -> tuple[list[list[int]], int]:
    """Each dependency as what its line passes, and how many are left out.

    Where there is room, the waves that a line passes get a number of their own for it, which is put into `layers`.
    """
    number_of = {one.path: number for number, one in enumerate(drawn)}
    column_of = {one: index for index, layer in enumerate(layers) for one in layer}
    pairs = [(number_of[need], number) for number, one in enumerate(drawn) for need in one.needs if need in number_of]
    # Of another program's run, a need may stand in the same wave, or in a later one.
    pairs = [(source, target) for source, target in pairs if column_of[source] < column_of[target]]
    if len(pairs) > _MOST_EDGES:
        return [], len(pairs)
    bends, routes = _MOST_BENDS, []
    following = len(drawn)
    for source, target in sorted(pairs, key=lambda pair: column_of[pair[1]] - column_of[pair[0]]):
        between = range(column_of[source] + 1, column_of[target])
        if len(between) > bends:  # it and all longer ones
            routes.append([source, target])
            continue
        bends -= len(between)
        stops = list(range(following, following + len(between)))
        following += len(between)
        for column, stop in zip(between, stops, strict=True):
            layers[column].append(stop)
        routes.append([source, *stops, target])
    return routes, 0


def _line(stops: Sequence[tuple[float, float]], width: float) -> str:
    """A smooth line, from the right edge of the first stop to the left edge of the last, straight through others."""
    (left, y), *others = stops
    x = left + width
    parts = [f"M{x:g} {y:.1f}"]
    for index, (to_x, to_y) in enumerate(others):
        bend = (to_x - x) / 2
        parts.append(f"C{x + bend:g} {y:.1f} {to_x - bend:g} {to_y:.1f} {to_x:g} {to_y:.1f}")
        x, y = to_x, to_y
        if index < len(others) - 1:
            x += width
            parts.append(f"H{x:g}")
    return "".join(parts)


def _summary(drawn: Sequence[BlockDetails], counts: Mapping[str, int]) -> Graph:
    """Only how many blocks there are in which status, by wave, or by some waves that follow each other."""
    waves = sorted({one.wave for one in drawn})
    together = math.ceil(len(waves) / _MOST_COLUMNS)
    place = {wave: index // together for index, wave in enumerate(waves)}
    tallies = [Counter[str]() for _ in range(math.ceil(len(waves) / together))]
    for one in drawn:
        tallies[place[one.wave]][one.status] += 1
    columns = []
    for index, tally in enumerate(tallies):
        first, last = waves[index * together], waves[min((index + 1) * together, len(waves)) - 1]
        label = f"wave {first + 1}" if first == last else f"waves {first + 1} to {last + 1}"
        columns.append(Column(label, _MARGIN + index * (NODE_WIDTH + _BETWEEN), dict(tally)))
    lines = max(len(column.counts) for column in columns)
    width = 2 * _MARGIN + len(columns) * (NODE_WIDTH + _BETWEEN) - _BETWEEN
    return Graph(width, _HEAD + lines * _ROOM + _MARGIN, tuple(columns), (), (), 0, dict(counts))
