"""What goes wrong with a database, in the project's terms."""

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from workflows_mcp.engine.leases import Fence, not_saved
from workflows_mcp.errors import CheckpointStoreError, StoreUnavailableError, copy_error
from workflows_mcp.persistence.dialects import Dialect, Failure

__all__ = ["Failures"]


class Failures:
    """The errors of a database's calls.

    Args:
        dialect: What is particular to the database, and its name in messages.
        deadline_seconds: How long a call takes at the most.
    """

    def __init__(self, dialect: Dialect, deadline_seconds: float) -> None:
        self._dialect = dialect
        self._deadline_seconds = deadline_seconds

    def explain(self, error: Exception) -> Failure | None:
        """What an error means; None: it is no error of the database's."""
        if isinstance(error, CheckpointStoreError):
            return Failure(copy_error(error))
        if isinstance(error, PoolTimeoutError):
            return Failure(
                StoreUnavailableError(
                    f"all connections to {self._dialect.description} are in use; try again, or raise "
                    "WORKFLOWS_POOL_SIZE"
                )
            )
        return self._dialect.explain(error)

    def too_late(self) -> StoreUnavailableError:
        """The error for a call that has no answer by its deadline."""
        return StoreUnavailableError(
            f"{self._dialect.description} did not answer within {self._deadline_seconds:g} s; try again"
        )

    def locked(self) -> StoreUnavailableError:
        """The error for a write that has met somebody's lock all the time."""
        return StoreUnavailableError(f"somebody holds a lock in {self._dialect.description} for too long; try again")

    def refused(self, checkpoint_id: str, fence: Fence | None) -> CheckpointStoreError:
        """The error for a row that was not written though its commit succeeded; None: no fence has kept it."""
        if fence is not None:
            return not_saved(checkpoint_id, fence)
        return CheckpointStoreError(
            f"{self._dialect.description} did not write checkpoint {checkpoint_id!r}, and said nothing; does its "
            "checkpoints table have a trigger or a rule that drops rows?"
        )
