"""Runs are listed by their newest checkpoints, with as few questions as may be."""

from workflows_mcp import CheckpointMetadata, InMemoryCheckpointStore, WorkflowExecutor
from workflows_mcp.engine.filters import CheckpointFilter, Position
from workflows_mcp.testing import make_state


class _AskedStore(InMemoryCheckpointStore):
    """Notes what is asked for: whether for runs alone, and how many."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[bool, int | None]] = []

    async def _list(
        self, wanted: CheckpointFilter, *, limit: int | None, before: Position | None
    ) -> list[CheckpointMetadata]:
        self.asked.append((wanted.runs_only, limit))
        return await super()._list(wanted, limit=limit, before=before)


async def test_runs_are_asked_for_as_such_where_something_belongs_to_none() -> None:
    """Else a page of heads is one of runs, which is the quickest; and what belongs to none costs one question more."""
    store = _AskedStore()
    for number in range(40):
        await store.save_checkpoint(make_state(f"c{number:02}", created_at=float(number), run_id=f"r{number % 20}"))
    executor = WorkflowExecutor(store)
    assert len(await executor.list_runs(limit=5)) == 5
    assert store.asked == [(False, 5)]
    for number in range(50, 90):
        await store.save_checkpoint(make_state(f"c{number}", created_at=float(number)))
    await store.save_checkpoint(make_state("d", created_at=99.0, run_id="newest"))
    del store.asked[:]
    runs = await executor.list_runs(limit=5)
    assert [run.checkpoint_id for run in runs] == ["d", "c39", "c38", "c37", "c36"]
    assert store.asked == [(False, 5), (True, 4)]
    following = await executor.list_runs(limit=2, before=runs[-1])
    assert [run.checkpoint_id for run in following] == ["c35", "c34"]
