"""Which state should be a delta of which: what each way takes up, and what it takes to load a state again.

In memory, by the code that packs and unpacks payloads; there is no database in it.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import orjson

from benchmarks.prose import prose
from workflows_mcp.persistence.codec import ZSTD_DELTA, Body, pack_body, pack_delta, unpack

__all__ = ["by_levels", "report"]

_LOADS = 40
_LAST_WAVES = 64
_STEPS = (1, 6, 8, 10, 16, 36, 64, 100, 216, 256, 512)
"""All that bases are chosen by."""
_SEED = 8


@dataclass(frozen=True)
class _Way:
    """A way to choose bases, and what was made by it.

    Attributes:
        name: What it is called.
        base_of: The number of the state that a state is a delta of; None: it is whole.
        bodies: The payloads by the numbers of their states.
        seconds: How long it took to make them.
    """

    name: str
    base_of: Callable[[int], int | None]
    bodies: list[Body] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def chain(self, number: int | None) -> Iterator[int]:
        """The state itself, its base, and so on."""
        while number is not None:
            yield number
            number = self.base_of(number)

    def load(self, number: int) -> object:
        """A state, out of all that it needs: as the store does it, which compares no checksums of links."""
        plain: bytes | bytearray | None = None
        for link in reversed(list(self.chain(number))):
            plain = unpack(self.bodies[link], str(link), plain, is_link=link != number)
        return orjson.loads(plain or b"")


def by_levels(*steps: int) -> Callable[[int], int | None]:
    """The newest before it whose number is divisible by the largest of the steps that divides the state's own."""

    def base_of(number: int) -> int | None:
        return number - max(step for step in steps if number % step == 0) if number else None

    return base_of


def _by_length(most: int) -> Callable[[int], int | None]:
    """The one before; every so often, one is whole."""
    return lambda number: number - 1 if number % most else None


def _whole(_number: int) -> None:
    return None


def _ways() -> list[_Way]:
    return [
        _Way("each by itself", _whole),
        _Way("of the one before, every 64th whole", _by_length(64)),
        _Way("of the one before, the first whole", _by_length(10**9)),
        _Way("levels 8, 1", by_levels(8, 1)),
        _Way("levels 64, 8, 1", by_levels(64, 8, 1)),
        _Way("levels 512, 64, 8, 1", by_levels(512, 64, 8, 1)),
        _Way("levels 216, 36, 6, 1", by_levels(216, 36, 6, 1)),
        _Way("levels 100, 10, 1", by_levels(100, 10, 1)),
        _Way("levels 16, 1", by_levels(16, 1)),
        _Way("levels 256, 16, 1", by_levels(256, 16, 1)),
    ]


def _states(waves: int, size: int) -> Iterator[bytes]:
    """The plain JSON of a run's states, each of which has a block's output more."""
    text = prose(size)
    step = size // waves
    for wave in range(1, waves + 1):
        blocks = {f"block_{n}": {"output": text[n * step : (n + 1) * step], "seconds": n / 10} for n in range(wave)}
        yield orjson.dumps({"run_id": "r", "current_wave_index": wave, "context": {"blocks": blocks}})


def _pack(ways: Sequence[_Way], waves: int, size: int) -> int:
    """Make all payloads in all ways; returns the size of the last state."""
    plains: dict[int, bytes] = {}
    for number, plain in enumerate(_states(waves, size)):
        for way in ways:
            base = way.base_of(number)
            begun = time.process_time()
            frame = None if base is None else pack_delta(plain, plains[base])
            way.bodies.append(pack_body(plain) if frame is None else (ZSTD_DELTA, frame))
            way.seconds.append(time.process_time() - begun)
        plains[number] = plain
        needed = {number // step * step for step in _STEPS}
        plains = {one: plains[one] for one in plains if one in needed}
    return len(plain)


def report(waves: int, size: int) -> str:
    """What each way takes up and costs, as a table.

    Args:
        waves: How many states the run has.
        size: Characters of text in the last one, about.

    Raises:
        NotEnoughTextError: There is not as much text.
    """
    ways = _ways()
    last = _pack(ways, waves, size)
    numbers = random.Random(_SEED).sample(range(waves), min(_LOADS, waves))
    newest_numbers = random.Random(_SEED).sample(
        range(max(0, waves - _LAST_WAVES), waves), min(_LOADS, waves, _LAST_WAVES)
    )
    whole, *_ = ways
    lines = [
        _line("", "stored", "most", "a save", "a load", "newest"),
        _line("", "×last", "links", "", "×whole", "×whole"),
    ]
    for way in ways:
        ratio, newest = (
            statistics.median(_seconds(way, number) / _seconds(whole, number) for number in some)
            for some in (numbers, newest_numbers)
        )
        stored = sum(len(data) for _, data in way.bodies) / last
        links = max(len(list(way.chain(number))) for number in range(waves)) - 1
        save = f"{statistics.fmean(way.seconds) * 1e3:.2f} ms"
        lines.append(_line(way.name, f"{stored:.2f}", f"{links:,}", save, f"{ratio:.2f}", f"{newest:.2f}"))
    head = f"A run of {waves:,} states, the last of {last / 1e6:.2f} MB of plain JSON; times are of the processor"
    return "\n".join([head, "", *lines])


def _line(name: str, *cells: str) -> str:
    return f"{name:<36}{''.join(f'{cell:>10}' for cell in cells)}".rstrip()


def _seconds(way: _Way, number: int) -> float:
    begun = time.process_time()
    way.load(number)
    return time.process_time() - begun
