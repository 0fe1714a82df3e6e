"""What is counted of a store as a whole, for the pages."""

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from workflows_mcp import InMemoryCheckpointStore
from workflows_mcp.server.ui.counts import GROWTH_DAYS, Counts, by_status
from workflows_mcp.testing import make_state


async def _prepared() -> None:
    """There is nothing to prepare."""


def counts_of(store: InMemoryCheckpointStore) -> Counts:
    """Those of a store."""
    services: Any = SimpleNamespace(store=store, prepare=_prepared)
    return Counts(services)


async def test_what_is_stored_grows_to_what_there_is_now() -> None:
    """By the day on which it was saved; what was saved long ago was there at the beginning."""
    store = InMemoryCheckpointStore()
    now = time.time()
    for number, days in enumerate((40, 2.5, 2.4, 2.3, 0.5)):
        await store.save_checkpoint(make_state(f"c{number}", created_at=now - days * 86_400))
    growing = (await counts_of(store).growing.take()).value
    assert growing.checkpoints == [1] * (GROWTH_DAYS - 2) + [4, 4, 5]
    assert len(growing.moments) == len(growing.stored_bytes) == GROWTH_DAYS + 1
    assert growing.stored_bytes == sorted(growing.stored_bytes)


async def test_nothing_is_counted_below_zero() -> None:
    """Though one thing is counted a moment after the other."""
    store = InMemoryCheckpointStore()
    counts = counts_of(store)
    census = (await counts.census.take()).value
    await store.save_checkpoint(make_state("c", created_at=time.time() - 86_400))
    assert set((await counts.growing.take()).value.checkpoints) == {0}
    census.head_statuses["running"] = 1
    found = by_status(replace(census, pulse=replace(census.pulse, abandoned=2)))
    assert (found["running"], found["abandoned"]) == (0, 1)
