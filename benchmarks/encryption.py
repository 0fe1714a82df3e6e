"""What sealing costs: a store without keys and one with keys take turns at the same work, on databases of their own."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.databases import Databases
from benchmarks.states import SIZES, Shape, StateSource
from workflows_mcp import CheckpointState, SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.persistence.keys import new_key
from workflows_mcp.settings import load_settings

__all__ = ["Cost", "measure", "table"]

_AT_ONCE = 64

_MOST_BYTES = 64 * 2**20
"""About the most that is saved of large states, in each of the two databases."""


@dataclass(frozen=True)
class Cost:
    """How long a call takes, in µs: the median of many, of which every other one was the other store's.

    Attributes:
        what: The work, and the size of its states.
        plain: Without keys.
        sealed: With keys.
    """

    what: str
    plain: float
    sealed: float

    @property
    def percent(self) -> float:
        """How much longer it takes with keys."""
        return (self.sealed / self.plain - 1) * 100


def measure(databases: Databases, *, calls: int) -> list[Cost]:
    """Compare the two on fresh databases.

    Args:
        databases: Makes them.
        calls: How many of each store are measured, of those that are made alone.
    """
    costs = []
    for name, size in SIZES.items():
        plain, sealed = (databases.create(f"encryption-{kind}-{name}") for kind in ("plain", "sealed"))
        count = min(calls, max(_MOST_BYTES // size // 2, 8))
        try:
            costs += asyncio.run(_compare(plain, sealed, name, StateSource(Shape(size, size)), count))
        finally:
            databases.drop(plain)
            databases.drop(sealed)
    return costs


def table(costs: Sequence[Cost]) -> str:
    """The costs as lines of text."""
    lines = [f"{'':<36}{'plain':>10}{'sealed':>10}{'cost':>9}"]
    lines += [f"{cost.what:<36}{cost.plain:>7.0f} µs{cost.sealed:>7.0f} µs{cost.percent:>+8.1f}%" for cost in costs]
    return "\n".join(lines)


async def _compare(plain_url: str, sealed_url: str, name: str, source: StateSource, count: int) -> list[Cost]:
    await upgrade_schema(plain_url)
    await upgrade_schema(sealed_url)
    keys = load_settings(encryption_keys=new_key().entry)
    async with (
        SQLAlchemyCheckpointStore(plain_url) as plain,
        SQLAlchemyCheckpointStore(sealed_url, settings=keys) as sealed,
    ):
        alone = source.take(count)
        groups = [source.take(min(_AT_ONCE, count)) for _ in range(max(count // 16, 4))]
        works: list[tuple[str, int, list[Callable[[SQLAlchemyCheckpointStore], Awaitable[object]]]]] = [
            ("a save alone", 1, [_saving([state]) for state in alone]),
            (f"a save of {len(groups[0])} at once", len(groups[0]), [_saving(group) for group in groups]),
            ("a load", 1, [_loading(state) for state in alone]),
        ]
        label = name.replace("kb", " KB").replace("mb", " MB")
        costs = []
        for what, parts, calls in works:
            times: tuple[list[float], list[float]] = ([], [])
            for number, call in enumerate(calls):
                # Who is first in a turn is last in the next one.
                for which in (0, 1) if number % 2 else (1, 0):
                    began = time.perf_counter()
                    await call((plain, sealed)[which])
                    times[which].append((time.perf_counter() - began) / parts * 1e6)
            costs.append(Cost(f"{what}, {label}", *map(statistics.median, times)))
        return costs


def _saving(states: Sequence[CheckpointState]) -> Callable[[SQLAlchemyCheckpointStore], Awaitable[object]]:
    if len(states) == 1:
        return lambda store: store.save_checkpoint(states[0])
    return lambda store: asyncio.gather(*map(store.save_checkpoint, states))


def _loading(state: CheckpointState) -> Callable[[SQLAlchemyCheckpointStore], Awaitable[object]]:
    return lambda store: store.load_checkpoint(state.checkpoint_id)
