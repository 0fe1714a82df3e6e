"""What a run has come to."""

import math
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStatus

__all__ = ["RESULT_STATUSES", "ResultStatus", "RunSummary", "WorkflowResult", "result_of", "status_of"]

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


@dataclass(frozen=True)
class RunSummary:
    """A run in a list of runs, by its newest checkpoint.

    Attributes:
        run_id: Names the run.
        workflow_name: Names the workflow.
        status: What it has come to; one that is `running` and whose lease has run out has crashed or was stopped.
        wave: The wave to run next.
        checkpoint_id: Its newest checkpoint.
        updated_at: When that was created, in Unix seconds.
        prompt: What a human is asked while it is paused.
        lease_expires_at: Up to when a process holds it, in Unix seconds; None: none does, and none has held it.
        parent_checkpoint_id: The checkpoint that it was forked from.
        cursor: Its place in the list, for the next page.
    """

    run_id: str
    workflow_name: str
    status: ResultStatus
    wave: int
    checkpoint_id: str
    updated_at: float
    prompt: str | None
    lease_expires_at: float | None
    parent_checkpoint_id: str | None
    cursor: str

    @property
    def age_seconds(self) -> float:
        """How long ago its newest checkpoint was created."""
        return max(time.time() - self.updated_at, 0.0)

    @property
    def lease_seconds_left(self) -> float:
        """How long a process still holds it unless it renews its lease, by this machine's clock; 0: none does."""
        return 0.0 if self.lease_expires_at is None else max(self.lease_expires_at - time.time(), 0.0)

    @property
    def is_abandoned(self) -> bool:
        """Whether it is running by what was saved, and the process that held it crashed, or was stopped.

        One that nobody ever held is not: whoever saves without a lease may be at work. It is what
        `CheckpointStore.list_abandoned` lists.
        """
        return self.status == "running" and self.lease_expires_at is not None and self.lease_seconds_left == 0

    @property
    def is_held(self) -> bool:
        """Whether it is running, and a process holds it."""
        return self.status == "running" and self.lease_seconds_left > 0

    @classmethod
    def of(cls, head: CheckpointMetadata) -> "RunSummary":
        """The run whose newest checkpoint this is; it must belong to one."""
        assert head.run_id is not None
        return RunSummary(
            run_id=head.run_id,
            workflow_name=head.workflow_name,
            status=RESULT_STATUSES.get(head.status, "running"),
            wave=head.current_wave_index,
            checkpoint_id=head.checkpoint_id,
            updated_at=head.created_at
            if type(head.created_at) is float
            else math.inf,  # not for a row that no store wrote
            prompt=head.pause_prompt,
            lease_expires_at=head.lease_expires_at,
            parent_checkpoint_id=head.parent_checkpoint_id,
            cursor=head.cursor,
        )


def result_of(state: CheckpointState) -> WorkflowResult:
    """What the newest checkpoint of a run says that it has come to."""
    return WorkflowResult(
        status=RESULT_STATUSES[state.status],
        run_id=state.run_id or "",
        outputs=state.context.get("outputs", {}),
        error=state.context.get("error"),
        checkpoint_id=state.checkpoint_id,
        prompt=state.pause_prompt,
    )


def status_of(status: ResultStatus | None) -> CheckpointStatus | None:
    """The status of the newest checkpoint of a run that has come to this; None: any.

    Raises:
        ValueError: There is no such status.
    """
    if status is None:
        return None
    for stored, meaning in RESULT_STATUSES.items():
        if meaning == status:
            return stored
    raise ValueError(f"status {status!r} is not one of: {', '.join(RESULT_STATUSES.values())}")
