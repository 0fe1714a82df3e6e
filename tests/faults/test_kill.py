"""A worker that is killed loses nothing that a checkpoint holds; the quick version of `tests.faults.kill`."""

import pytest

from tests.faults.kill import kill_soon


@pytest.mark.timeout(240)
async def test_a_killed_worker_is_recovered_and_no_saved_block_runs_twice(empty_url: str) -> None:
    """At one moment on each database, in the third wave; the module's long version takes twenty at random."""
    report = await kill_soon(empty_url, 2)
    assert report.rounds == report.killed == 1
    assert report.blocks_saved > 0
    assert report.ran_twice == []
    assert report.failures == []
