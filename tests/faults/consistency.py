"""Looks in what clients did and saw for what no store may do, however many use it at once.

Every save has a number of its own, and times are of one clock that all clients share. An operation happened at some
moment between its beginning and its end; what nobody can have seen in any order of such moments is a violation.
"""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from typing import Literal

__all__ = ["Kind", "Operation", "find_violations"]

Kind = Literal["save", "read", "delete", "claim", "release", "follow"]


@dataclass(frozen=True)
class Operation:
    """What a client did to one checkpoint.

    Attributes:
        kind: What it was. A listing is a read of each checkpoint that it might have held, and whatever finds nothing
            there, such as a deletion, is a read, too.
        checkpoint_id: Which checkpoint was read, written or claimed; of a follow, the one that was followed.
        number: What was saved or read; None: nothing is there. Of a follow, of the checkpoint that follows.
        began: When, by the common clock.
        ended: When; infinite, when nobody was told how it ended: it may still happen.
        client: Who did it. Of a claim and a release: the owner.
    """

    kind: Kind
    checkpoint_id: str
    number: int | None
    began: float
    ended: float = math.inf
    client: str = ""

    @property
    def is_known(self) -> bool:
        """Whether it succeeded for certain."""
        return self.ended < math.inf

    def __str__(self) -> str:
        until = f"to {self.ended}" if self.is_known else "with unknown result"
        return f"{self.kind} of {self.number} by {self.client} from {self.began} {until}"


def find_violations(operations: Iterable[Operation]) -> Iterator[str]:
    """What must not have happened, each in a line.

    Args:
        operations: Those that succeeded, and those of which nobody knows. What failed for certain is left out.
    """
    by_id: defaultdict[str, list[Operation]] = defaultdict(list)
    for one in operations:
        by_id[one.checkpoint_id].append(one)
    for checkpoint_id, done in by_id.items():
        for line in (*_of_values(done), *_of_owners(done)):
            yield f"{checkpoint_id}: {line}"


def _of_values(done: Sequence[Operation]) -> Iterator[str]:
    """Lost, stale and phantom checkpoints."""
    saves = {one.number: one for one in done if one.kind == "save"}
    deletions = [one for one in done if one.kind == "delete"]
    told_saves = _Ended([one for one in saves.values() if one.is_known])
    told_writes = _Ended([one for one in (*saves.values(), *deletions) if one.is_known])
    deletions.sort(key=lambda one: one.began)
    deleted_from = [one.began for one in deletions]
    deleted_until = list(accumulate((one.ended for one in deletions), max))
    reads: defaultdict[int | None, list[Operation]] = defaultdict(list)
    for read in (one for one in done if one.kind == "read"):
        if read.number is None:
            # Nothing is there before the first save, and from a deletion to the next save.
            newest = told_saves.last_began(before=read.began)
            sooner = bisect_right(deleted_from, read.ended)
            if newest > (deleted_until[sooner - 1] if sooner else -math.inf):
                yield f"lost: {read}, after a save that began at {newest}"
            continue
        save = saves.get(read.number)
        if save is None or save.began > read.ended:
            yield f"phantom: {read}, which nobody had saved"
            continue
        newer = told_writes.last_began(before=read.began)
        if newer > save.ended:
            yield f"stale: {read}, after what began at {newer} had ended, later than {save}"
            continue
        reads[read.number].append(read)
    yield from _of_order([*([save, *reads[number]] for number, save in saves.items()), *([one] for one in deletions)])


def _of_order(groups: Iterable[Sequence[Operation]]) -> Iterator[str]:
    """Values that would have to be there in turns, or one within the time of another one.

    Args:
        groups: Each save with all that read it, and each deletion alone.
    """
    # A value is there for certain from the first end to the last beginning of what is about it. (Gibbons and Korach,
    # "Testing shared memories": this and what reads show by themselves is all that can be wrong with a register.)
    zones = [(min(one.ended for one in group), max(one.began for one in group), group[0]) for group in groups]
    forward = sorted(((first, last, save) for first, last, save in zones if first < last), key=lambda zone: zone[:2])
    for (_, last, save), (first, _, other) in pairwise(forward):
        if first < last:
            yield f"stale: read in turns: {save}, and {other}"
    ends = [first for first, _, _ in forward]
    for first, last, save in zones:
        at = bisect_left(ends, last) - 1  # those of the others do not overlap, or that was told above
        if first >= last and at >= 0 and forward[at][1] > first:
            yield f"stale: read before and after another one was there: {forward[at][2]}; that is {save}"


class _Ended:
    """Operations by their ends.

    Args:
        operations: All have ended.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        ordered = sorted(operations, key=lambda one: one.ended)
        self._ends = [one.ended for one in ordered]
        self._began = list(accumulate((one.began for one in ordered), max))

    def last_began(self, *, before: float) -> float:
        """When the one began that began last of those that ended before a moment."""
        found = bisect_left(self._ends, before)
        return self._began[found - 1] if found else -math.inf


def _of_owners(done: Sequence[Operation]) -> Iterator[str]:
    """Claims that two have won, and follows in which two succeeded. Leases are taken to last."""
    claims = [one for one in done if one.kind == "claim" and one.is_known]
    follows = [one for one in done if one.kind == "follow" and one.is_known]
    released: defaultdict[str, float] = defaultdict(lambda: math.inf)
    for one in done:
        if one.kind == "release":
            released[one.client] = min(one.began, released[one.client])
    for one, other in combinations(claims, 2):
        if released[one.client] > other.ended and released[other.client] > one.ended:
            yield f"two winners: {one}, and {other}"
    for one, other in combinations(follows, 2):
        yield f"two followers: {one}, and {other}"
    for claim in claims:
        for follow in follows:
            if follow.ended < claim.began:
                yield f"stale: {claim}, after {follow}"
