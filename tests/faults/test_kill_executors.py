"""Killed executors lose nothing that a checkpoint holds; the quick version of `tests.faults.kill_executors`."""

from tests.faults.kill_executors import kill_many


async def test_what_is_finished_does_not_run_again_whoever_is_killed(database_url: str) -> None:
    """Six of the processes that recover runs from one another are killed; the module's long version kills a hundred."""
    report = await kill_many(database_url, rounds=6, processes=3, seed=5)
    assert report.broken == []
    assert report.kills == 6
    assert report.finished > 0
    assert report.handed_over > 0
