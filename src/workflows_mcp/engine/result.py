"""What a run has come to."""

from dataclasses import dataclass, field
from typing import Any, Literal

from workflows_mcp.engine.checkpoint import CheckpointStatus

__all__ = ["RESULT_STATUSES", "ResultStatus", "WorkflowResult"]

ResultStatus = Literal["success", "failure", "paused", "cancelled", "running"]

RESULT_STATUSES: dict[CheckpointStatus, ResultStatus] = {
    CheckpointStatus.RUNNING: "running",
    CheckpointStatus.PAUSED: "paused",
    CheckpointStatus.COMPLETED: "success",
    CheckpointStatus.FAILED: "failure",
    CheckpointStatus.CANCELLED: "cancelled",
}
"""What the status of a run's newest checkpoint means to whoever asked for the run."""


@dataclass(frozen=True)
class WorkflowResult:
    """What a run has come to.

    Attributes:
        status: `success`; `failure`; `paused`: it waits for an answer; `cancelled`; `running`: somebody else runs
            it, or did so until a crash.
        run_id: Names the run.
        outputs: The workflow's outputs; empty unless it succeeded.
        error: Why it failed; names the blocks.
        checkpoint_id: The run's newest checkpoint; None when none could be saved.
        prompt: What a human is asked while it is paused.
    """

    status: ResultStatus
    run_id: str
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    checkpoint_id: str | None = None
    prompt: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether it ended, and everything in it succeeded or was skipped."""
        return self.status == "success"

    @property
    def is_paused(self) -> bool:
        """Whether it waits for an answer: `resume_workflow(result.checkpoint_id, answer)`."""
        return self.status == "paused"

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "status": self.status,
            "outputs": self.outputs,
            "error": self.error,
            "run_id": self.run_id,
            "checkpoint_id": self.checkpoint_id,
            "prompt": self.prompt,
        }
