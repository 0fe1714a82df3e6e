"""Which state of a run is stored as a delta of which, so that the whole history takes up little more than its changes.

The states of a run are counted. The base of one is the newest whose number is divisible by 64, 8 or 1, by the highest
of these that divides its own: *skip deltas*, as in a skip list. So every change is stored once for each of these
levels, and loading a state takes at most some thirty links (100 takes 99, 98, 97, 96, 88, 80, 72, 64 and 0), where a
chain in which each is a delta of the one before would take hundreds.

A base is named by its id and the digest of its state, which the database's foreign key holds to: it is neither deleted
nor replaced by another state while something is a delta of it. A delta is only ever inserted, and never takes the place
of a row, or two could end up as each other's bases; see `fencing.py`.

Bases come from memory: the newest states of live runs, as far as they fit. Nothing is read for a save.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from workflows_mcp.engine.checkpoint import CheckpointState, CheckpointStatus
from workflows_mcp.persistence.codec import pack_delta

__all__ = ["LEAST_BYTES", "MOST_LINKS", "Base", "Deltas", "Fault", "Linked", "Plains", "Step", "is_base", "is_large"]

LEAST_BYTES = 4096
"""Plain JSON below this many bytes is stored as it is: the columns and the index entries that lead to a base would take
up as much as they save."""

MOST_LINKS = 30
"""How many bases loading a state takes at the most. Counted as above, a run of a thousand states needs 28."""

_RADIX, _LEVELS = 8, 3
"""Measured by `python3 run.py bench chains`: a fourth level takes up an eighth more, and saves 5 % of a load's
time; two levels of radix 16 take up a quarter less, and a load takes two fifths longer."""

_LARGE_BYTES = 64 * 2**10
"""How many bytes of payloads a thread unpacks."""

_IS_OVER = {CheckpointStatus.COMPLETED, CheckpointStatus.FAILED, CheckpointStatus.CANCELLED}


def is_base(run_id: object, plain: bytes) -> bool:
    """Whether a state may become the base of others, so that its digest is stored."""
    return run_id is not None and len(plain) >= LEAST_BYTES


class Base(NamedTuple):
    """A state that is durable, and that others may be deltas of.

    Attributes:
        checkpoint_id: Its id.
        digest: Of its plain JSON.
        plain: That itself.
        links: How many others loading it takes.
        read_bytes: How much of payloads that reads, its own included.
    """

    checkpoint_id: str
    digest: str
    plain: bytes | bytearray
    links: int
    read_bytes: int


class Fault(NamedTuple):
    """Why the bases of a row are not all there.

    Attributes:
        link: The id of the one that is not.
        why: What is the matter with it.
    """

    link: Any  # SQLite holds any type in any column
    why: str


class Linked(tuple[Any, ...]):
    """The row of a delta, with what it takes to unpack it.

    Attributes:
        own: The state itself, if that is in memory.
        known: The base of the first link, or of the row if there are none, if that is in memory.
        links: Rows of its bases, the nearest last.
        plains: See there.
        fault: Why these are not all; None: they are.
    """

    own: Base | None
    known: Base | None
    links: Sequence[Sequence[Any]]
    plains: "Plains | None"
    fault: Fault | None

    def __new__(
        cls,
        row: Sequence[Any],
        *,
        own: Base | None = None,
        known: Base | None = None,
        links: Sequence[Sequence[Any]] = (),
        plains: "Plains | None" = None,
        fault: Fault | None = None,
    ) -> Self:
        """Take a row."""
        linked = super().__new__(cls, row)
        linked.own, linked.known, linked.links, linked.plains, linked.fault = own, known, links, plains, fault
        return linked

    def nearest(self) -> tuple[bytes | bytearray | None, Sequence[Any] | None, Sequence[Sequence[Any]]]:
        """The nearest plain JSON that there is, its row if that was read, and the rows to be unpacked after that."""
        for place in reversed(range(0 if self.plains is None else len(self.links))):
            kept = None if self.plains is None else self.plains.get(self.links[place])
            if kept is not None:
                return kept, self.links[place], self.links[place + 1 :]
        return None if self.known is None else self.known.plain, None, self.links


def is_large(row: Sequence[Any]) -> bool:
    """Whether a row takes so long to unpack that the event loop should not wait for it."""
    if not isinstance(row, Linked):
        return False
    payloads = (link[-1] for link in (*row.links, row))
    # SQLite holds any type in any column.
    return sum(len(payload) for payload in payloads if isinstance(payload, bytes)) >= _LARGE_BYTES


class Plains:
    """Plain JSON that was unpacked, for other rows that have bases in common; what was used last is kept.

    Several threads may use it at a time.

    Args:
        most_bytes: How much; most of a large state's bases by default.
    """

    def __init__(self, most_bytes: int = 64 * 2**20) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[str, str], bytes | bytearray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, row: Sequence[Any]) -> bytes | bytearray | None:
        """That of a row, if it is kept."""
        key = row[0], row[-5]
        with self._lock:
            plain = self._kept.get(key)
            if plain is not None:
                self._kept.move_to_end(key)
            return plain

    def keep(self, row: Sequence[Any], plain: bytes | bytearray) -> None:
        """Keep it."""
        key = row[0], row[-5]
        with self._lock:
            if key not in self._kept:
                self._kept[key] = plain
                self._bytes += len(plain)
            self._kept.move_to_end(key)
            while self._bytes > self._most_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1])

    def forget(self, row: Sequence[Any]) -> None:
        """Keep that of a row no more: it may be wrong."""
        with self._lock:
            self._bytes -= len(self._kept.pop((row[0], row[-5]), b""))


class _Run(NamedTuple):
    """The newest states of a run.

    Attributes:
        number: The newest one's, counted from the last that is stored whole.
        bases: The newest whose number is divisible by 1, by 8, and by 64.
    """

    number: int
    bases: tuple[Base, ...]

    @property
    def size(self) -> int:
        return sum(len(base.plain) for base in {base.checkpoint_id: base for base in self.bases}.values())


class Step:
    """A save, as far as it may be a delta, or a base for the next one.

    Attributes:
        run_id: Whose state it is; None: no run's.
        base: What it is a delta of; None: it is stored whole.
        is_last: Whether its run is over with it.
        made: What was made of it, if others may be deltas of that.
    """

    def __init__(self, state: CheckpointState, run: _Run | None) -> None:
        self.run_id = state.run_id
        self.is_last = state.status in _IS_OVER
        self._run = run
        self._number = 0 if run is None else run.number + 1
        self.made: Base | None = None
        self.base: Base | None = None
        # Whoever answers a question days later, perhaps elsewhere, loads a paused one as fast as can be.
        if run is not None and state.status is not CheckpointStatus.PAUSED:
            base = run.bases[self._level()]
            if base.links < MOST_LINKS and base.checkpoint_id != state.checkpoint_id:
                self.base = base

    def _level(self) -> int:
        return max(level for level in range(_LEVELS) if not self._number % _RADIX**level)

    def delta(self, plain: bytes) -> bytes | None:
        """The frame of a state's plain JSON as a delta of the base; None when it is stored whole.

        Loading reads no more than the plain JSON has bytes: whoever replaces most of a state each time gains nothing.
        """
        if self.base is None or len(plain) < LEAST_BYTES:
            return None
        frame = pack_delta(plain, self.base.plain)
        is_worth_it = frame is not None and self.base.read_bytes + len(frame) <= len(plain)
        return frame if is_worth_it else None

    def make(self, columns: dict[str, Any], plain: bytes) -> None:
        """Note what was made of the state; of several, what was made last counts."""
        base, digest = self.base, columns["state_digest"]
        if columns["base_checkpoint_id"] is None or base is None:
            self._number, links, read_bytes = 0, 0, 0
        else:
            links, read_bytes = base.links + 1, base.read_bytes
        made = (columns["checkpoint_id"], digest, plain, links, read_bytes + columns["stored_bytes"])
        self.made = None if digest is None else Base(*made)

    def after(self, newest: _Run | None) -> _Run | None:
        """The run's newest states when this one is durable.

        Args:
            newest: What they are by now: another save may have overtaken this one.
        """
        if self.made is None:
            return None
        if newest is not None and newest.number > self._number > 0:
            return newest
        made = self.made
        before = (made,) * _LEVELS if self._run is None else self._run.bases
        bases = (made if not self._number % _RADIX**level else before[level] for level in range(_LEVELS))
        return _Run(self._number, tuple(bases))


class Deltas:
    """The newest states of live runs, the least recently saved forgotten first. Used by one at a time.

    Attributes:
        kept_bytes: How much of plain JSON is kept.

    Args:
        most_bytes: How much of plain JSON is kept; 0: nothing is stored as a delta.
        keeps_what_is_over: Whether runs go on after their last state, as those do that arrive with it first.
    """

    def __init__(self, most_bytes: int, *, keeps_what_is_over: bool = False) -> None:
        self._most_bytes = most_bytes
        self._keeps_what_is_over = keeps_what_is_over
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._by_id: dict[str, Base] = {}
        self.kept_bytes = 0

    def step(self, state: CheckpointState) -> Step:
        """Begin a save."""
        return Step(state, None if state.run_id is None else self._runs.get(state.run_id))

    def saved(self, step: Step) -> None:
        """Note that a save is durable. The states of a run that is over are nobody's business any more."""
        if step.run_id is not None:
            is_over = step.is_last and not self._keeps_what_is_over
            self._keep(step.run_id, None if is_over else step.after(self._runs.get(step.run_id)))

    def forget(self, state: CheckpointState) -> None:
        """Forget a state's run."""
        if state.run_id is not None:
            self._forget(state.run_id)

    def loaded(self, row: Sequence[Any], run_id: str | None, plain: bytes | bytearray | None) -> None:
        """Note a state that its run goes on from.

        Args:
            row: As it was loaded, completed.
            run_id: Whose state it is.
            plain: Its plain JSON; None: it is the guide's.
        """
        digest = row[-5]
        if run_id is None or plain is None or digest is None or self.known(row[0], digest) is not None:
            return
        links, read_bytes = 0, len(row[-1])
        if isinstance(row, Linked):
            links = len(row.links) + (0 if row.known is None else row.known.links + 1)
            read_bytes += sum(len(link[-1]) for link in row.links) + (0 if row.known is None else row.known.read_bytes)
        self._keep(run_id, _Run(0, (Base(row[0], digest, plain, links, read_bytes),) * _LEVELS))

    def known(self, checkpoint_id: str, digest: str) -> Base | None:
        """A state, if it is here; the digest tells whether it is still that one."""
        base = self._by_id.get(checkpoint_id)
        return base if base is not None and base.digest == digest else None

    def _keep(self, run_id: str, run: _Run | None) -> None:
        self._forget(run_id)
        if run is None or run.size > self._most_bytes:
            return
        self._runs[run_id] = run
        self.kept_bytes += run.size
        self._by_id.update((base.checkpoint_id, base) for base in run.bases)
        while self.kept_bytes > self._most_bytes:
            self._forget(next(iter(self._runs)))

    def _forget(self, run_id: str) -> None:
        run = self._runs.pop(run_id, None)
        if run is not None:
            self.kept_bytes -= run.size
            for base in run.bases:
                self._by_id.pop(base.checkpoint_id, None)
