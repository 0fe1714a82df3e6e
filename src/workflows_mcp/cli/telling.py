"""What happens in a run, in lines for people: one for each thing, as long as these are few enough to be read."""

from collections import Counter
from typing import TYPE_CHECKING

from workflows_mcp.cli.failures import one_line
from workflows_mcp.engine.paths import KEY, without_keys

if TYPE_CHECKING:
    from workflows_mcp.engine import events

__all__ = ["Teller"]

_MOST_ALIKE = 10
"""So many lines there are of each kind about the items of one block."""

_MOST_NAMES = 20


class Teller:
    """Tells what happens in one run.

    Args:
        tells_end: Whether to tell how the run ends, too, and not only how it goes on.
    """

    def __init__(self, *, tells_end: bool = False) -> None:
        self._tells_end = tells_end
        self._waves = 0
        self._was_continued = False
        self._hears_answers = False
        self._items: dict[str, Counter[str]] = {}
        self._told: Counter[str] = Counter()

    def items_done(self, path: str) -> int:
        """How many items of a block that is under way are over, as far as it was seen here."""
        return self._items.get(path, Counter()).total()

    def tell(self, event: "events.Event") -> str | None:
        """A line about an event; None: it is not worth one, or one of too many."""
        line = self._line(event)
        # Names and ids come from files and command lines, and may hold anything.
        return None if line is None else line[: len(line) - len(line.lstrip(" "))] + one_line(line)

    def _line(self, event: "events.Event") -> str | None:
        from workflows_mcp.engine import events

        line = None  # a block that starts was told with its wave
        match event:
            case events.RunStarted():
                self._waves = len(event.waves)
                self._hears_answers = self._was_continued = event.continued
                line = f"run {event.run_id} of {event.workflow_name}{_how_it_begins(event)}"
            case events.BlockFinished():
                line = self._finished(event)
            case events.WaveStarted():
                line = self._wave(event)
            case events.BlockSkipped():
                self._count(event.block_id, "skipped")
                line = self._unless_many(event.block_id, f"  - {event.block_id} skipped: {event.reason}", "skipped ")
            case events.CheckpointSaved():
                # Each wave of each nested workflow saves one.
                if self._is_one_of_few(f"saved in wave {event.wave} as {event.status}"):
                    line = f"  ● checkpoint {event.checkpoint_id} saved ({event.status.value})"
            case events.RunPaused() if self._tells_end:
                line = f"run {event.run_id} waits for an answer to checkpoint {event.checkpoint_id}"
            case events.RunEnded() if self._tells_end:
                line = f"run {event.run_id}: {event.status}{f': {event.error}' if event.error else ''}"
        if not isinstance(event, events.RunStarted | events.BlockFinished):
            self._hears_answers = False
        return line

    def _wave(self, event: "events.WaveStarted") -> str | None:
        names = [path.removeprefix(f"{event.within}/") for path in event.block_ids[:_MOST_NAMES]]
        more = len(event.block_ids) - len(names)
        listed = ", ".join(names) + (f" and {more} more" if more else "")
        if not event.within:
            return f"wave {event.wave + 1} of {self._waves}: {listed}"
        line = f"  wave {event.wave + 1} in {event.within}: {listed}"
        return line if self._is_one_of_few(f"waves in {without_keys(event.within)}", event.within) else None

    def _finished(self, event: "events.BlockFinished") -> str | None:
        path = event.block_id
        self._count(path, event.status)
        # Answers are what a run goes on with, before anything else happens in it; their time is a human's.
        how = ": answered" if self._hears_answers else f" ({event.seconds:.1f} s)"
        counts = self._items.pop(path, None)
        if counts is not None:
            how += f": {self._summary(counts)}"
        if event.status == "succeeded":
            return self._unless_many(path, f"  ✓ {path}{how}")
        return self._unless_many(path, f"  ✗ {path}{how}: {event.message or ''}", "failed ")

    def _summary(self, counts: Counter[str]) -> str:
        total = counts.total()
        parts = [f"{total:,} {'more ' if self._was_continued else ''}{'item' if total == 1 else 'items'}"]
        parts += [f"{counts[status]:,} {status}" for status in ("failed", "skipped") if counts[status]]
        return ", ".join(parts)

    def _count(self, path: str, status: str) -> None:
        block = _block_of(path)
        if block is not None:
            self._items.setdefault(block, Counter())[status] += 1

    def _unless_many(self, path: str, line: str, kind: str = "") -> str | None:
        """The line, or the last one of its kind, which says that there are more."""
        name = without_keys(path)
        if self._is_one_of_few(f"{kind}{name}", path):
            return line
        return (
            f"  … more of {kind}{name}: counted, not shown" if self._told[f"{kind}{name}"] == _MOST_ALIKE + 1 else None
        )

    def _is_one_of_few(self, what: str, path: str | None = None) -> bool:
        """Whether there are not too many lines like this; what stands under no item is one of few."""
        if path is not None and KEY.search(path) is None:
            return True
        self._told[what] += 1
        return self._told[what] <= _MOST_ALIKE


def _how_it_begins(event: "events.RunStarted") -> str:
    if event.continued:
        return f" goes on with wave {min(event.wave + 1, len(event.waves))} of {len(event.waves)}"
    return f": {sum(map(len, event.waves))} blocks in {len(event.waves)} waves"


def _block_of(path: str) -> str | None:
    """The block that this is an item of; None: it is no item."""
    keys = list(KEY.finditer(path))
    return path[: keys[-1].start()] if keys and keys[-1].end() == len(path) else None
