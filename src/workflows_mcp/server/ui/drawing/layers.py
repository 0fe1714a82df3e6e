"""Layers of things that are joined to things in other layers: their order, and where they stand, with few crossings.

What Sugiyama and others do: an edge that passes layers gets a place in each of them; the order in each layer follows
the mean place of what its members are joined to, layer by layer, to and fro; and of all orders on the way the one with
the fewest crossings is taken. Then each is moved towards what it is joined to, as far as its neighbours let it.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

__all__ = ["Layers", "crossings", "order_layers", "place_layers"]

Layers = list[list[int]]
"""Numbers of what is in each layer, in its order."""

_SWEEPS = 8


def order_layers(layers: Layers, edges: Sequence[tuple[int, int]]) -> Layers:
    """The same layers in an order with few crossings; the same one every time.

    Args:
        layers: What is in each.
        edges: From one in a layer to one in the next.
    """
    before, after = _joined(edges)
    ordered = [list(layer) for layer in layers]
    best, fewest = ordered, crossings(ordered, after)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        forth = sweep % 2 == 0
        ordered = _swept(ordered, before if forth else after, backwards=not forth)
        count = crossings(ordered, after)
        if count < fewest:
            best, fewest = ordered, count
    return best


def _joined(edges: Iterable[tuple[int, int]]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """What each is joined to: in the layer before, and in the one after."""
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for source, target in edges:
        after.setdefault(source, []).append(target)
        before.setdefault(target, []).append(source)
    return before, after


def _swept(layers: Layers, joined: Mapping[int, list[int]], *, backwards: bool) -> Layers:
    """The layers, each in the order of the mean place of what it is joined to in the one before it."""
    swept: Layers = []
    place: dict[int, float] = {}
    for layer in reversed(layers) if backwards else layers:
        # What is joined to nothing keeps its place among the others.
        aims = {
            one: sum(place[other] for other in joined[one]) / len(joined[one]) if joined.get(one) else float(index)
            for index, one in enumerate(layer)
        }
        swept.append(sorted(layer, key=aims.__getitem__))
        place = {one: float(index) for index, one in enumerate(swept[-1])}
    return swept[::-1] if backwards else swept


def crossings(layers: Layers, after: Mapping[int, list[int]]) -> int:
    """How many pairs of edges cross.

    Args:
        layers: In their order.
        after: What each is joined to in the layer after its own.
    """
    count = 0
    for layer, following in pairwise(layers):
        place = {one: index for index, one in enumerate(following)}
        seen: list[int] = []
        for one in layer:
            ends = sorted(place[other] for other in after.get(one, ()))
            count += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return count


def place_layers(layers: Layers, edges: Sequence[tuple[int, int]], room: Mapping[int, float]) -> dict[int, float]:
    """Where the middle of each stands across its layer, from 0 on.

    Args:
        layers: In their order, which stays.
        edges: From one in a layer to one in the next.
        room: How much of its layer each takes up.
    """
    before, after = _joined(edges)
    place: dict[int, float] = {}
    tallest = max((sum(room[one] for one in layer) for layer in layers), default=0.0)
    for layer in layers:  # stacked up around the middle
        edge = (tallest - sum(room[one] for one in layer)) / 2
        for one in layer:
            place[one] = edge + room[one] / 2
            edge += room[one]
    for _ in range(_SWEEPS // 2):
        earlier = dict(place)
        for joined, turn in ((before, layers), (after, layers[::-1])):
            for layer in turn:
                aims = [
                    sum(place[other] for other in joined[one]) / len(joined[one]) if joined.get(one) else place[one]
                    for one in layer
                ]
                place.update(zip(layer, _kept_apart(aims, [room[one] for one in layer]), strict=True))
        if place == earlier:  # going to and fro moves nothing any more
            break
    least = min((place[one] - room[one] / 2 for layer in layers for one in layer), default=0.0)
    return {one: there - least for one, there in place.items()}


def _kept_apart(aims: Sequence[float], room: Sequence[float]) -> list[float]:
    """The places nearest to the aims, by the sum of squares, where everything has its room and keeps its order."""
    offsets = [0.0]
    for one, other in pairwise(room):
        offsets.append(offsets[-1] + (one + other) / 2)
    # With the room taken out, what stands in the wrong order is pooled at the mean of its aims.
    pools: list[tuple[float, int]] = []
    for aim, offset in zip(aims, offsets, strict=False):
        total, count = aim - offset, 1
        while pools and pools[-1][0] / pools[-1][1] >= total / count:
            more, others = pools.pop()
            total, count = total + more, count + others
        pools.append((total, count))
    means = [total / count for total, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]
