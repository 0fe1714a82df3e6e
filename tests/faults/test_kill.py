"""A worker that is killed loses nothing that a checkpoint holds; the quick version of `tests.faults.kill`."""

import pytest

from tests.faults.kill import kill_many


@pytest.mark.timeout(240)
async def test_a_killed_worker_is_recovered_and_no_saved_block_runs_twice(empty_url: str) -> None:
    """At a moment on each database; the module's long version takes twenty."""
    report = await kill_many(empty_url, 1, seed=5)
    assert report.rounds == 1
    assert report.blocks_saved > 0
    assert report.ran_twice == []
    assert report.failures == []
