"""What a store knows of runs: they are their checkpoints."""

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.filters import check_count
from workflows_mcp.engine.result import ResultStatus, RunSummary, status_of
from workflows_mcp.errors import CheckpointNotFoundError, CheckpointStoreError

__all__ = ["MOST_TRIES", "StoredRuns", "no_such_run"]

MOST_TRIES = 20
"""How often the newest checkpoint of a run is looked up anew when the run goes on meanwhile."""


def no_such_run(run_id: str) -> CheckpointNotFoundError:
    """The error for a run of which a store knows nothing."""
    return CheckpointNotFoundError(f"there is no run {run_id!r}, or none of its checkpoints is kept any more")


class StoredRuns:
    """The runs in a store.

    Args:
        store: Where their checkpoints are.

    Attributes:
        store: The same.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store

    async def load(self, checkpoint_id: str) -> CheckpointState:
        """A checkpoint.

        Raises:
            CheckpointNotFoundError: There is none of this id.
            CheckpointStoreError: The store failed.
        """
        state = await self.store.load_checkpoint(checkpoint_id)
        if state is None:
            raise CheckpointNotFoundError(
                f"there is no checkpoint {checkpoint_id!r}; list those that wait with is_paused=True"
            )
        return state

    async def newest(self, run_id: str) -> CheckpointState | None:
        """The newest checkpoint of a run; None: it has none.

        Raises:
            CheckpointStoreError: The store failed.
        """
        found = await self.newest_listed(run_id)
        return None if found is None else found[1]

    async def newest_listed(self, run_id: str) -> tuple[CheckpointMetadata, CheckpointState] | None:
        """The same, with how it is listed."""
        deleted = None
        for _ in range(MOST_TRIES):
            found = await self.store.list_checkpoints(run_id=run_id, limit=1)
            if not found:
                return None
            checkpoint_id = found[0].checkpoint_id
            state = await self.store.load_checkpoint(checkpoint_id)
            if state is not None:
                return found[0], state
            # Deleted since it was listed; the run may have others.
            if checkpoint_id == deleted:
                break
            deleted = checkpoint_id
        raise CheckpointStoreError(f"checkpoint {deleted!r} is listed, but cannot be loaded")

    async def is_running(self, run_id: str) -> bool:
        """Whether the newest checkpoint of a run says that it runs; reads no state.

        Raises:
            CheckpointStoreError: The store failed.
        """
        found = await self.store.list_checkpoints(run_id=run_id, limit=1)
        return bool(found) and found[0].status is CheckpointStatus.RUNNING

    async def list(
        self,
        workflow_name: str | None,
        *,
        status: ResultStatus | None,
        id_contains: str | None,
        created_after: float | None,
        created_before: float | None,
        limit: int,
        before: RunSummary | str | None,
    ) -> list[RunSummary]:
        """See `WorkflowExecutor.list_runs`."""
        check_count("limit", limit, at_least=0)
        wanted = status_of(status)
        runs: list[RunSummary] = []
        last: CheckpointMetadata | str | None = before.cursor if isinstance(before, RunSummary) else before
        # Not asked for before there is need: of a store in which all belong to runs, as in most, each page of heads is
        # one of runs, and the store knows that it has it in a moment. One that leaves some out may have to go through
        # many, and is kept among the slow ones.
        runs_only = False
        while len(runs) < limit:
            size = limit - len(runs)
            page = await self.store.list_checkpoints(
                workflow_name,
                status=wanted,
                # What is paused and no history waits: the store is told so, since it finds these the quickest.
                is_paused=True if wanted is CheckpointStatus.PAUSED else None,
                heads_only=True,
                runs_only=runs_only,
                created_after=created_after,
                created_before=created_before,
                id_contains=id_contains,
                limit=size,
                before=last,
            )
            runs.extend(RunSummary.of(head) for head in page if head.run_id is not None)
            if len(page) < size:
                break
            last, runs_only = page[-1], True
        return runs
