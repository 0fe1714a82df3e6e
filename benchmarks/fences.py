"""What following and leases cost: fenced saves beside plain ones, turn by turn in one process.

python -m benchmarks.fences [TURNS]
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from benchmarks.databases import open_databases
from benchmarks.states import SIZES, Shape, StateSource
from workflows_mcp import CheckpointState, SQLAlchemyCheckpointStore, upgrade_schema

__all__ = ["compare"]

_SAVES = 256
_TASKS = 64
_OWNER = "a server"


async def compare(url: str, turns: int) -> dict[str, float]:
    """How many times as long each way takes as a plain save made in the same way; medians of turns."""
    await upgrade_schema(url)
    source = StateSource(Shape(SIZES["1kb"], SIZES["1kb"]))
    ways: dict[str, tuple[Callable[[Run], Awaitable[None]], int]] = {
        "plain saves, one after the other": (Run.save_plainly, 1),
        "fenced saves, one after the other": (Run.save_fenced, 1),
        f"plain saves, {_TASKS} at a time": (Run.save_plainly, _TASKS),
        f"fenced saves, {_TASKS} at a time": (Run.save_fenced, _TASKS),
        f"renewals, {_TASKS} at a time": (Run.renew, _TASKS),
    }
    seconds: dict[str, list[float]] = {title: [] for title in ways}
    async with SQLAlchemyCheckpointStore(url) as store:
        for turn in range(turns + 1):
            for title, (save, tasks) in ways.items():
                count = _SAVES // tasks if tasks == 1 else 16
                runs = [await Run(store, iter(source.take(count + 1))).begin() for _ in range(tasks)]
                started = time.perf_counter()
                await asyncio.gather(*map(save, runs))
                if turn:  # the first one opens connections and prepares statements
                    seconds[title].append((time.perf_counter() - started) / count / tasks)
    alone, together = (seconds[title] for title in ways if title.startswith("plain"))
    return {
        f"{title}: × plain": statistics.median(
            mine / plain for mine, plain in zip(taken, together if "at a time" in title else alone, strict=True)
        )
        for title, taken in seconds.items()
        if not title.startswith("plain")
    }


class Run:
    """A run that saves its states one after the other."""

    def __init__(self, store: SQLAlchemyCheckpointStore, states: Iterator[CheckpointState]) -> None:
        self._store = store
        self._states = states
        self._last = ""

    async def begin(self) -> "Run":
        """Save the first one."""
        self._last = await self._store.save_checkpoint(next(self._states), owner=_OWNER, lease_seconds=60)
        return self

    async def save_plainly(self) -> None:
        """Save the others as what they are."""
        for state in self._states:
            await self._store.save_checkpoint(state)

    async def save_fenced(self) -> None:
        """Save the others, each under the lease that it takes over from the one before."""
        for state in self._states:
            await self._store.save_checkpoint(state, follows=self._last, owner=_OWNER, lease_seconds=60)
            self._last = state.checkpoint_id

    async def renew(self) -> None:
        """Renew the lease of the first as often as there are others."""
        for _ in self._states:
            await self._store.renew_lease(self._last, _OWNER, 60)


def main(turns: int) -> None:
    """Print the ratios on both databases."""
    with tempfile.TemporaryDirectory() as folder:
        for database in ("sqlite", "postgresql"):
            with open_databases(database, Path(folder)) as databases:
                for title, ratio in asyncio.run(compare(databases.create("fences"), turns)).items():
                    print(f"{database:<12} {title:<50} {ratio:6.2f}")  # noqa: T201 - a command


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
