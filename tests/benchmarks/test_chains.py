"""The comparison of ways to choose bases."""

from benchmarks.chains import by_levels, report
from workflows_mcp import SQLAlchemyCheckpointStore
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
        "levels 16, 1": "16",
        "levels 256, 16, 1": "16",
    }
