"""What the tools answer that look at runs."""

import math
import time
from typing import Annotated, Any

from pydantic import BaseModel, Field

from workflows_mcp.engine.abandoned import RunStatus, shown_status
from workflows_mcp.engine.result import RunSummary
from workflows_mcp.engine.run_details import RunDetails
from workflows_mcp.server.paging import Next
from workflows_mcp.server.replies import RunReply
from workflows_mcp.server.texts import text_of, texts_of, when

__all__ = ["BlockState", "RunPage", "RunRow", "RunsReply", "age_of", "run_page", "run_row"]

Age = Annotated[float | None, Field(description="How long ago that was, in seconds.")]


class RunRow(BaseModel):
    """A run in a list."""

    run_id: Annotated[str, Field(description="Names the run, for get_run, cancel_run.")]
    workflow: Annotated[str, Field(description="The workflow's name.")]
    status: Annotated[
        RunStatus,
        Field(
            description="success, failure, cancelled: it is over. paused: it waits for an answer. running: it is at "
            "work. abandoned: it was at work when its process died, or was stopped; a server takes it up again soon."
        ),
    ]
    updated: Annotated[str, Field(description="When its newest checkpoint was saved.")]
    age_seconds: Age
    checkpoint_id: Annotated[
        str, Field(description="Its newest checkpoint: for resume_workflow while it is paused, and fork_run.")
    ]
    prompt: Annotated[str | None, Field(description="What a human is asked, while it is paused.")]
    waves_done: Annotated[int, Field(description="How many of its waves of blocks are done.")]
    forked_from: Annotated[str | None, Field(description="The checkpoint that it was forked from.")]


class RunsReply(BaseModel):
    """A page of a list of runs, the one that was saved last first."""

    runs: list[RunRow]
    next: Next


class BlockState(BaseModel):
    """What became of a block of a run, or of one of its items."""

    path: Annotated[
        str, Field(description="build; outer/inner in a nested workflow; deploy[eu] for an item of a for_each.")
    ]
    status: Annotated[
        str,
        Field(
            description="not begun, running, paused, succeeded, failed or skipped. may have begun: it is its turn, and "
            "only the server that works on the run knows more. interrupted: its process died, or was stopped; it runs "
            "again. done: it is over, and the program that saved it does not say how."
        ),
    ]
    wave: Annotated[int, Field(description="Its wave within its workflow, from 1.")]
    started: Annotated[str | None, Field(description="When it began.")]
    seconds: Annotated[float | None, Field(description="How long it took.")]
    message: Annotated[str | None, Field(description="Why it failed or was skipped.")]
    attempts: Annotated[int, Field(description="How often it was begun.")]
    items: Annotated[
        dict[str, int] | None, Field(description="Of a block with for_each: how many items are in which status.")
    ]


class RunPage(RunReply):
    """All that is known of a run."""

    abandoned: Annotated[
        bool,
        Field(
            description="Whether nobody works on it, though its status is running: its process died, or was stopped. A "
            "server takes it up again soon."
        ),
    ]
    started: Annotated[str | None, Field(description="When it began.")]
    updated: Annotated[str, Field(description="When its newest checkpoint was saved.")]
    age_seconds: Age
    waves: Annotated[int, Field(description="How many waves of blocks it has.")]
    waves_done: Annotated[int, Field(description="How many of these are done.")]
    blocks: Annotated[
        list[BlockState],
        Field(description="Its blocks, wave by wave; of one with many items, those that did not succeed."),
    ]
    flaw: Annotated[str | None, Field(description="Why no more can be told of the blocks; null: all is told.")]
    asked_next: Annotated[
        list[str], Field(description="Blocks that ask as well, each once the questions before it are answered.")
    ]
    forked_from: Annotated[str | None, Field(description="The checkpoint that it was forked from.")]


def age_of(seconds: object) -> float | None:
    """How long ago a Unix time was; None: it is none, in a row that no store has written."""
    if isinstance(seconds, int | float) and math.isfinite(seconds):
        return round(max(time.time() - seconds, 0.0), 1)
    return None


def run_row(run: RunSummary, prompt: str | None) -> RunRow:
    """A run in a list.

    Args:
        run: The run.
        prompt: What it asks, without secrets.
    """
    return RunRow(
        run_id=run.run_id,
        workflow=str(run.workflow_name),
        status=shown_status(run),
        updated=when(run.updated_at),
        age_seconds=age_of(run.updated_at),
        checkpoint_id=str(run.checkpoint_id),
        prompt=prompt,
        waves_done=run.wave,
        forked_from=run.parent_checkpoint_id,
    )


def run_page(run: RunDetails) -> RunPage:
    """All that is known of a run."""
    told: dict[str, Any] = (run.status == "paused" and run.pause_metadata) or {}
    return RunPage(
        status=run.status,
        run_id=run.run_id,
        workflow=run.workflow_name,
        outputs=run.outputs,
        error=run.error,
        checkpoint_id=run.checkpoint_id,
        prompt=run.prompt,
        choices=texts_of(told.get("choices")) or None,
        pattern=text_of(told.get("pattern")),
        abandoned=run.is_abandoned,
        started=None if run.started_at is None else when(run.started_at),
        updated=when(run.updated_at),
        age_seconds=age_of(run.updated_at),
        waves=run.waves,
        waves_done=run.wave,
        blocks=[
            BlockState(
                path=one.path,
                status=one.status,
                wave=one.wave + 1,
                started=None if one.started_at is None else when(one.started_at),
                seconds=None if one.seconds is None else round(one.seconds, 3),
                message=one.message,
                attempts=one.attempts,
                items=None if one.items is None else dict(one.items),
            )
            for one in run.blocks
        ],
        flaw=run.flaw,
        asked_next=texts_of(told.get("pending")),
        forked_from=run.parent_checkpoint_id,
    )
