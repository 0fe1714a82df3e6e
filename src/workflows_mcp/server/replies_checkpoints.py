"""What the tools answer that look at checkpoints."""

from typing import Annotated

from pydantic import BaseModel, Field

from workflows_mcp.engine.checkpoint import CheckpointMetadata
from workflows_mcp.server.paging import Next
from workflows_mcp.server.replies_runs import Age, age_of
from workflows_mcp.server.texts import when

__all__ = [
    "CheckpointPage",
    "CheckpointRow",
    "CheckpointsReply",
    "DeletedReply",
    "StatsReply",
    "WorkflowCount",
    "checkpoint_row",
]


class CheckpointRow(BaseModel):
    """A checkpoint in a list."""

    checkpoint_id: Annotated[str, Field(description="Names the checkpoint.")]
    workflow: Annotated[str, Field(description="The workflow's name.")]
    run_id: Annotated[str | None, Field(description="The run that it belongs to, for get_run.")]
    status: Annotated[
        str, Field(description="What the run was doing: running, paused, completed, failed or cancelled.")
    ]
    waits: Annotated[
        bool, Field(description="Whether it waits for an answer, which resume_workflow gives; false: or did so once.")
    ]
    newest: Annotated[bool, Field(description="Whether it is its run's newest one; the others are its history.")]
    created: Annotated[str, Field(description="When it was saved.")]
    age_seconds: Age
    waves_done: Annotated[int, Field(description="How many waves of blocks were done by then.")]
    prompt: Annotated[str | None, Field(description="What a human is, or was, asked.")]
    pinned: Annotated[bool, Field(description="Whether it is kept whatever its age.")]
    bytes: Annotated[int, Field(description="How large its state is, as JSON.")]
    stored_bytes: Annotated[
        int, Field(description="What it takes up in the database: of most, only what differs from an earlier one.")
    ]


class CheckpointsReply(BaseModel):
    """A page of a list of checkpoints, the newest first."""

    checkpoints: list[CheckpointRow]
    next: Next


class CheckpointPage(CheckpointRow):
    """What is known of a checkpoint."""

    forked_from: Annotated[str | None, Field(description="The checkpoint that its run was forked from.")]
    error: Annotated[str | None, Field(description="Why the run failed, if this is its end.")]
    paused_block: Annotated[str | None, Field(description="The block that asks.")]
    choices: Annotated[list[str] | None, Field(description="What may be answered; null: any text.")]
    pattern: Annotated[str | None, Field(description="A regular expression that the answer must match.")]
    asked_next: Annotated[list[str], Field(description="Blocks that ask as well, after that one.")]
    inputs: Annotated[list[str], Field(description="Names of the inputs that the run was given.")]
    done: Annotated[list[str], Field(description="Ids of the blocks that are over.")]
    to_do: Annotated[list[str], Field(description="Ids of the blocks that are not.")]
    needed: Annotated[
        str | None, Field(description="Why delete_checkpoint would refuse to delete it; null: it would not.")
    ]
    uri: Annotated[str, Field(description="The resource that holds its whole state.")]


class DeletedReply(BaseModel):
    """What was deleted."""

    checkpoint_id: Annotated[str, Field(description="The checkpoint that is gone.")]
    run_id: Annotated[str | None, Field(description="The run that it belonged to.")]
    stored_bytes: Annotated[int, Field(description="What it took up in the database.")]


class WorkflowCount(BaseModel):
    """The checkpoints of one workflow."""

    workflow: Annotated[str, Field(description="Its name.")]
    checkpoints: Annotated[int, Field(description="How many there are.")]
    waiting: Annotated[int, Field(description="How many of them wait for an answer.")]
    json_bytes: Annotated[int, Field(description="Their states as plain JSON.")]
    stored_bytes: Annotated[int, Field(description="What they take up.")]


class StatsReply(BaseModel):
    """What the database holds."""

    checkpoints: Annotated[int, Field(description="All checkpoints, history included.")]
    runs: Annotated[int, Field(description="Runs, each counted by its newest checkpoint.")]
    runs_by_status: Annotated[
        dict[str, int], Field(description="The same by running, paused, completed, failed, cancelled.")
    ]
    waiting: Annotated[int, Field(description="Checkpoints that wait for an answer.")]
    oldest_waiting_seconds: Annotated[float | None, Field(description="How long the oldest of these has waited.")]
    at_work: Annotated[int, Field(description="Runs that a server is at work on.")]
    abandoned: Annotated[int, Field(description="Runs whose process died; a server takes them up again soon.")]
    pinned: Annotated[int, Field(description="Checkpoints that are kept whatever their age.")]
    saved_last_hour: Annotated[int, Field(description="Checkpoints saved in the last hour.")]
    saved_last_day: Annotated[int, Field(description="Checkpoints saved in the last 24 hours.")]
    oldest: Annotated[str | None, Field(description="When the oldest one was saved.")]
    newest: Annotated[str | None, Field(description="When the newest one was saved.")]
    json_bytes: Annotated[int, Field(description="All states as plain JSON.")]
    stored_bytes: Annotated[int, Field(description="The same as stored.")]
    deltas: Annotated[
        int, Field(description="How many checkpoints are stored as what differs from an earlier one of their run.")
    ]
    database_bytes: Annotated[int, Field(description="What the table and its indexes, or the file, take up.")]
    workflows: Annotated[list[WorkflowCount], Field(description="Those with the most checkpoints, at most 100.")]
    workflows_total: Annotated[int, Field(description="How many workflows have checkpoints.")]


def checkpoint_row(one: CheckpointMetadata, prompt: str | None) -> CheckpointRow:
    """A checkpoint in a list.

    Args:
        one: The checkpoint.
        prompt: What it asks, without secrets.
    """
    # Not every row was written by a store of ours: the texts of another one may be something else.
    return CheckpointRow(
        checkpoint_id=str(one.checkpoint_id),
        workflow=str(one.workflow_name),
        run_id=one.run_id,
        status=str(one.status),
        waits=one.is_paused,
        newest=not one.superseded,
        created=when(one.created_at),
        age_seconds=age_of(one.created_at),
        waves_done=one.current_wave_index,
        prompt=prompt,
        pinned=one.pinned,
        bytes=one.full_bytes,
        stored_bytes=one.stored_bytes,
    )
