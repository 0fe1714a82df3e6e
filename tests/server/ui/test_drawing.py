"""Where everything in the pictures of a run goes."""

import itertools
import random
from collections.abc import Sequence

import pytest

from workflows_mcp.engine.block_details import BlockDetails, ShownBlockStatus
from workflows_mcp.server.ui.drawing.axis import make_axis, nice_step
from workflows_mcp.server.ui.drawing.graph import MOST_DRAWN, Graph, Node, draw_graph
from workflows_mcp.server.ui.drawing.layers import crossings, order_layers
from workflows_mcp.server.ui.drawing.timeline import MOST_BARS, draw_timeline
from workflows_mcp.server.ui.drawing.words import mark, shortened, span


def waiting(block_id: str, wave: int, *needs: str) -> BlockDetails:
    """A block whose turn has not come."""
    return BlockDetails(block_id, "not begun", wave, block_id=block_id, needs=needs)


def random_blocks(count: int, waves: int, most_needs: int, seed: int = 7) -> list[BlockDetails]:
    """Blocks that wait for any others of earlier waves."""
    choose = random.Random(seed)
    blocks: list[BlockDetails] = []
    for number in range(count):
        wave = number * waves // count
        earlier = [one.path for one in blocks if one.wave < wave]
        blocks.append(waiting(f"b{number}", wave, *choose.sample(earlier, min(most_needs, len(earlier)))))
    return blocks


def nodes_of(graph: Graph) -> dict[str, Node]:
    """The nodes by their names."""
    return {node.name: node for node in graph.nodes}


@pytest.mark.parametrize("shape", [(1, 1, 0), (9, 4, 2), (60, 7, 3), (200, 2, 2), (120, 60, 1)])
def test_blocks_stand_in_the_column_of_their_wave_and_on_no_other_block(shape: tuple[int, int, int]) -> None:
    """Whatever waits for what, and within the picture."""
    blocks = random_blocks(*shape)
    graph = draw_graph(blocks)
    nodes = nodes_of(graph)
    assert nodes.keys() == {one.path for one in blocks}
    for one in blocks:
        assert nodes[one.path].x == graph.columns[one.wave].x
    for column in itertools.groupby(sorted(graph.nodes, key=lambda node: (node.x, node.y)), lambda node: node.x):
        for node, below in itertools.pairwise(column[1]):
            assert node.y + node.height < below.y
    assert all(
        0 < node.x < graph.width - node.width and 20 < node.y < graph.height - node.height for node in graph.nodes
    )


@pytest.mark.parametrize(
    ("waves", "letters", "is_seen_whole"), [(5, 18, True), (6, 12, True), (8, 8, True), (30, 18, False)]
)
def test_a_long_workflow_is_drawn_closer_and_its_labels_still_fit(
    waves: int, letters: int, *, is_seen_whole: bool
) -> None:
    """So that nobody has to scroll sideways who need not."""
    graph = draw_graph([waiting(f"b{wave}".ljust(letters, "w"), wave) for wave in range(waves)])
    assert (graph.width <= 1_160) is is_seen_whole
    assert all(node.width >= 41 + 7.5 * len(node.label) - 1 for node in graph.nodes)
    for node, following in itertools.pairwise(sorted(graph.nodes, key=lambda node: node.x)):
        assert following.x - node.x - node.width >= 32
    assert graph.width == graph.nodes[-1].x + graph.nodes[-1].width + graph.nodes[0].x


def ends_of(path: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a line begins and ends."""
    first, *_, last = path.replace("M", " M").replace("C", " C").replace("H", " H").split(" C")
    x, y = first.strip().removeprefix("M").split()[:2]
    end_x, end_y = last.split()[-2:]
    return (float(x), float(y)), (float(end_x), float(end_y))


def test_a_line_leads_from_each_block_to_what_waits_for_it() -> None:
    """From its right edge to the other one's left edge, however many waves it passes."""
    blocks = random_blocks(40, 6, 3)
    graph = draw_graph(blocks)
    nodes = nodes_of(graph)
    assert sorted((edge.source, edge.target) for edge in graph.edges) == sorted(
        (need, one.path) for one in blocks for need in one.needs
    )
    for edge in graph.edges:
        source, target = nodes[edge.source], nodes[edge.target]
        begin, end = ends_of(edge.path)
        assert begin == pytest.approx((source.x + source.width, source.y + source.height / 2), abs=0.2)
        assert end == pytest.approx((target.x, target.y + target.height / 2), abs=0.2)


def test_a_line_that_passes_a_wave_passes_between_its_blocks() -> None:
    """It is drawn across none of them."""
    blocks = [waiting("a", 0), *(waiting(f"m{n}", 1, "a") for n in range(3)), waiting("z", 2, "a", "m0", "m1", "m2")]
    graph = draw_graph(blocks)
    (long,) = [edge for edge in graph.edges if (edge.source, edge.target) == ("a", "z")]
    before = long.path.split("H")[0]
    height = float(before.split()[-1])
    middles = [node for node in graph.nodes if node.name.startswith("m")]
    assert len(middles) == 3
    assert all(not node.y <= height <= node.y + node.height for node in middles)


def test_the_same_blocks_always_give_the_same_picture() -> None:
    """A page that is loaded anew does not jump."""
    assert draw_graph(random_blocks(50, 5, 3)) == draw_graph(random_blocks(50, 5, 3))


def crossings_by_hand(layers: Sequence[Sequence[int]], edges: Sequence[tuple[int, int]]) -> int:
    """How many pairs of edges cross, by looking at each pair."""
    place = {one: (number, index) for number, layer in enumerate(layers) for index, one in enumerate(layer)}
    pairs = itertools.combinations([(*place[one], place[other][1]) for one, other in edges], 2)
    return sum(a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0 for a, b in pairs)


def test_lines_cross_no_more_than_they_must() -> None:
    """Two that cross for no reason are put right, and a tangle never gets worse."""
    assert order_layers([[0, 1], [2, 3]], [(0, 3), (1, 2)]) in ([[0, 1], [3, 2]], [[1, 0], [2, 3]])
    choose = random.Random(3)
    for _ in range(20):
        layers = [list(range(at, at + 6)) for at in (0, 6, 12, 18)]
        edges = [
            (source, target)
            for layer, following in itertools.pairwise(layers)
            for source in layer
            for target in choose.sample(following, 2)
        ]
        after: dict[int, list[int]] = {}
        for source, target in edges:
            after.setdefault(source, []).append(target)
        ordered = order_layers(layers, edges)
        assert crossings(layers, after) == crossings_by_hand(layers, edges)
        assert crossings_by_hand(ordered, edges) < crossings_by_hand(layers, edges)
        assert list(map(sorted, ordered)) == layers


def test_too_many_blocks_are_told_by_wave() -> None:
    """And a wave too many by some of them together: a picture that nobody can take in tells nothing."""
    drawn, told = (draw_graph(random_blocks(count, 4, 1)) for count in (MOST_DRAWN, MOST_DRAWN + 4))
    assert len(drawn.nodes) == MOST_DRAWN
    assert (told.nodes, told.edges) == ((), ())
    assert [(one.label, one.counts) for one in told.columns] == [
        (f"wave {wave}", {"not begun": (MOST_DRAWN + 4) // 4}) for wave in range(1, 5)
    ]
    assert told.told == f"{MOST_DRAWN + 4} blocks: {MOST_DRAWN + 4} not begun"
    chain = draw_graph(random_blocks(1000, 1000, 1))
    assert [one.label for one in chain.columns][:2] == ["waves 1 to 25", "waves 26 to 50"]
    assert sum(one.counts["not begun"] for one in chain.columns) == 1000


def test_too_many_dependencies_are_counted() -> None:
    """The blocks are drawn all the same."""
    first = [f"a{n}" for n in range(50)]
    graph = draw_graph([*(waiting(one, 0) for one in first), *(waiting(f"b{n}", 1, *first) for n in range(50))])
    assert (len(graph.nodes), graph.edges, graph.left_out) == (100, (), 2500)


def test_what_waits_for_itself_or_for_nothing_that_is_there_has_no_line() -> None:
    """What another program saved may say so."""
    graph = draw_graph([waiting("a", 0, "a", "b", "c", "gone"), waiting("b", 0), waiting("c", 5, "a")])
    assert [(edge.source, edge.target) for edge in graph.edges] == [("a", "c")]
    assert [column.label for column in graph.columns] == ["wave 1", "wave 6"]
    assert draw_graph([]).told == "no blocks"


def test_a_nested_workflow_has_a_picture_of_its_own() -> None:
    """Its blocks, and items of blocks, are not among those of the run's own workflow."""
    inner = [
        BlockDetails("d[eu]/x", "running", 0, block_id="x", parent="d[eu]"),
        BlockDetails("d[eu]/y", "not begun", 1, block_id="y", parent="d[eu]", needs=("d[eu]/x",)),
    ]
    blocks = [waiting("d", 0), BlockDetails("d[eu]", "running", 0, block_id="d", key="eu", parent="d"), *inner]
    assert [node.name for node in draw_graph(blocks).nodes] == ["d"]
    assert draw_graph(blocks, "d").nodes == ()
    nested = draw_graph(blocks, "d[eu]")
    assert [node.label for node in nested.nodes] == ["x", "y"]
    assert len(nested.edges) == 1


def ran(
    block_id: str, since: float, seconds: float, status: ShownBlockStatus = "succeeded", **more: str
) -> BlockDetails:
    """A block that is over."""
    return BlockDetails(
        block_id, status, 0, since, seconds, completed_at=since + seconds, block_id=block_id, asks="asks" in more
    )


def under_way(block_id: str, since: float, status: ShownBlockStatus = "running", **more: str) -> BlockDetails:
    """A block that is not over."""
    return BlockDetails(block_id, status, 0, since, block_id=block_id, parent=more.get("parent"))


def test_bars_are_as_long_as_blocks_took() -> None:
    """On one scale, beginning where they began; what has not begun has none."""
    picture = draw_timeline([ran("a", 100, 10), ran("b", 110, 20), waiting("c", 1), under_way("d", 130)], until=140)
    a, b, d = picture.bars
    assert (b.width, d.width) == pytest.approx((2 * a.width, a.width), rel=0.01)
    assert (b.x, d.x) == pytest.approx((a.x + a.width, b.x + b.width), rel=0.01)
    assert [one.took for one in picture.bars] == ["10 s", "20 s", "10 s"]
    assert [one.is_open for one in picture.bars] == [False, False, True]
    assert a.y < b.y < d.y < picture.height
    assert picture.told == "3 blocks in 40 s; the longest, b, took 20 s"
    assert draw_timeline([waiting("c", 1)], until=1).told == "nothing has begun"


def test_the_axis_begins_with_the_run() -> None:
    """As the table of blocks counts; but where the clock was set back, so that a block began before it."""
    assert draw_timeline([ran("a", 105, 10)], until=0, began=100).told == "1 block in 15 s; the longest, a, took 10 s"
    apart, alone = (draw_timeline([ran("a", 105, 10)], until=0, began=began).bars[0] for began in (100, None))
    assert apart.x > alone.x
    assert apart.x + apart.width == pytest.approx(alone.x + alone.width, abs=0.2)
    assert draw_timeline([ran("a", 90, 10)], until=0, began=100).bars[0].x == alone.x


def test_what_was_done_before_a_fork_has_no_bar() -> None:
    """Of what was under way, or waits, only the time since then is drawn: the axis is the fork's."""
    blocks = [ran("a", 0, 10), under_way("each", 5), ran("each_one", 6, 3), under_way("ask", 20, "paused")]
    picture = draw_timeline([*blocks, ran("b", 1002, 4)], until=1010, began=1000, is_fork=True)
    assert [(bar.label, bar.took) for bar in picture.bars] == [("each", "10 s"), ("ask", "10 s"), ("b", "4 s")]
    assert picture.bars[0].x == picture.bars[1].x == pytest.approx(picture.ticks[0].x, abs=0.1)
    assert (picture.taken_over, picture.left_out) == (2, 0)
    assert draw_timeline(blocks[:1], until=1010, began=1000, is_fork=True).bars == ()


def test_the_work_around_a_long_wait_can_still_be_seen() -> None:
    """Two days in which somebody thought it over are cut short, and said to be."""
    days = 2 * 86400
    blocks = [ran("a", 0, 3), ran("ask", 3, days, asks="yes"), ran("b", 3 + days, 5), ran("c", 8 + days, 2)]
    picture = draw_timeline(blocks, until=0)
    a, ask, b, _ = picture.bars
    assert a.width > 100
    assert b.width > a.width
    assert [one.waits for one in picture.bars] == [False, True, False, False]
    (cut,) = picture.cuts
    assert cut.label == "2 d"
    assert (cut.x, cut.width) == pytest.approx((ask.x, ask.width))
    assert "2 d" in [tick.label for tick in picture.ticks]
    assert "+2 s" in [tick.label for tick in picture.ticks]


def test_a_wait_that_is_no_longer_than_the_work_is_left_as_it_is() -> None:
    """So is one in a run that only waits: there is nothing that it would hide."""
    assert draw_timeline([ran("a", 0, 10), ran("ask", 10, 9, asks="yes"), ran("b", 19, 1)], until=0).cuts == ()
    alone = draw_timeline([under_way("ask", 0, "paused")], until=86400)
    assert alone.cuts == ()
    assert (alone.bars[0].took, alone.bars[0].waits) == ("1 d", True)


def test_of_too_many_blocks_the_ones_that_matter_have_a_bar() -> None:
    """Those that are not over, that failed, and that took longest; in their order."""
    quick = [ran(f"q{n}", n, 1) for n in range(200)]
    blocks = [*quick[:100], under_way("now", 150), ran("bad", 150, 0.5, "failed"), ran("long", 0, 90), *quick[100:]]
    picture = draw_timeline(blocks, until=210)
    assert (len(picture.bars), picture.left_out) == (MOST_BARS, 203 - MOST_BARS)
    order = [one.path for one in blocks]
    names = [bar.name for bar in picture.bars]
    assert {"now", "bad", "long"} < set(names)
    assert names == sorted(names, key=order.index)


def test_what_is_within_something_is_indented() -> None:
    """Nested workflows stand below the block in whose place they run."""
    blocks = [under_way("d", 1), under_way("d/x", 2, parent="d"), under_way("d/x/y", 3, parent="d/x")]
    indents = [bar.indent for bar in draw_timeline(blocks, until=9).bars]
    assert indents[0] == 0
    assert indents == sorted(set(indents))


def test_times_that_cannot_be_are_drawn_all_the_same() -> None:
    """Clocks go back, and a row that no store wrote has any number."""
    for blocks in (
        [ran("a", 100, -50), ran("b", -1e18, 1e18)],
        [under_way("a", 1e12)],
        [ran("a", 0, 0), ran("b", 0, 0)],
        [ran("a", 1e9, 1e-9), ran("b", 5e17, 3)],
    ):
        picture = draw_timeline(blocks, until=50)
        assert all(0 <= bar.x <= bar.x + bar.width <= picture.width for bar in picture.bars)
        assert len(picture.ticks) < 12
        assert all(bar.seconds >= 0 for bar in picture.bars)


def test_time_goes_forward_on_every_axis() -> None:
    """Whatever is cut, and its marks have room for their labels."""
    choose = random.Random(5)
    for _ in range(200):
        since = sorted(choose.choice([1, 60, 86400]) * choose.random() for _ in range(12))
        axis = make_axis(zip(since[::2], since[1::2], strict=True), since[0], since[-1] + 5, x=10, width=700)
        places = [axis.place(one) for one in since]
        assert places == sorted(places)
        assert (axis.place(since[0]), axis.place(since[-1] + 5)) == pytest.approx((10, 710))
        assert (axis.place(since[0] - 9), axis.place(since[-1] + 99)) == pytest.approx((10, 710))
        assert all(later.x - tick.x >= 60 for tick, later in itertools.pairwise(axis.ticks))
        assert axis.ticks[0].x == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize(
    ("least", "step"),
    [(0, 0), (0.003, 0.005), (0.4, 0.5), (0.6, 1), (7, 10), (16, 30), (61, 120), (4000, 7200), (90000, 172800)],
)
def test_an_axis_is_marked_as_people_count(least: float, step: float) -> None:
    """By 1, 2 and 5; by quarters of minutes and hours; by days."""
    assert nice_step(least) == pytest.approx(step)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.004, "4 ms"),
        (0.25, "0.25 s"),
        (1.04, "1 s"),
        (59.97, "1 min"),
        (90, "1 min 30 s"),
        (5400, "1 h 30 min"),
        (216000, "2 d 12 h"),
        (86399, "1 d"),
    ],
)
def test_a_length_of_time_is_told_in_two_units_at_most(seconds: float, words: str) -> None:
    """More would be read by nobody."""
    assert span(seconds) == words


def test_no_two_marks_of_an_axis_say_the_same() -> None:
    """However short it is: they have as many digits as their step needs."""
    for length in (86400 * 0.77**number for number in range(120)):
        labels = [tick.label for tick in make_axis([(0, length)], 0, length, x=0, width=700).ticks]
        assert len(labels) == len(set(labels)) > 2, labels
    assert [mark(number * 0.0005, 0.0005) for number in range(5)] == ["0 s", "0.5 ms", "1 ms", "1.5 ms", "2 ms"]
    assert mark(0.01, 0.0009999999999999998) == "10 ms"


def test_a_label_fits() -> None:
    """What is too long ends in an ellipsis, and has no line breaks."""
    assert shortened("a\nb", 9) == "a b"
    assert shortened("deploy everything", 9) == "deploy e…"
