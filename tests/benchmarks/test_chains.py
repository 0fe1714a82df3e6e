"""The comparison of ways to choose bases."""

from typing import Any

import pytest

from benchmarks import chains
from benchmarks.chains import by_levels, report
from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.persistence import codec
from workflows_mcp.testing import make_state


async def test_one_of_the_ways_is_the_stores(store: SQLAlchemyCheckpointStore) -> None:
    """Or the figures would be about something else."""
    base_of = by_levels(64, 8, 1)
    for number in range(75):
        await store.save_checkpoint(make_state(f"{number}", run_id="r", context={"text": "x" * (5000 + number)}))
    for number in (1, 9, 20, 64, 66, 74):
        expected = []
        base = base_of(number)
        while base is not None:
            expected.append(f"{base}")
            base = base_of(base)
        assert [one.checkpoint_id for one in await store.list_bases(f"{number}")] == expected


def test_every_way_is_shown_with_its_longest_chain() -> None:
    """In a run of forty states, of which each has a block's output more."""
    lines = report(40, 40_000).splitlines()
    links = {line[:36].strip(): line[36:].split()[1] for line in lines[4:]}
    assert links == {
        "each by itself": "0",
        "of the one before, every 64th whole": "39",
        "of the one before, the first whole": "39",
        "levels 8, 1": "11",
        "levels 64, 8, 1": "11",
        "levels 512, 64, 8, 1": "11",
        "levels 216, 36, 6, 1": "10",
        "levels 100, 10, 1": "12",
        "levels 16, 1": "16",
        "levels 256, 16, 1": "16",
    }


def test_links_are_unpacked_as_the_store_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a chain, the checksum of the state itself is compared, and no other: it takes nearly half of a link's time."""
    way = next(way for way in chains._ways() if way.name == "levels 64, 8, 1")
    chains._pack([way], 12, 12_000)
    are_links = []

    def unpack(*given: Any, is_link: bool = False) -> object:
        are_links.append(is_link)
        return codec.unpack(*given, is_link=is_link)

    monkeypatch.setattr(chains, "unpack", unpack)
    way.load(10)
    assert are_links == [True, True, True, False]
