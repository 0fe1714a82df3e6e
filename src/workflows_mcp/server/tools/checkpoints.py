"""Tools that look at checkpoints, and delete them."""

from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field

from workflows_mcp.engine.ages import shown_age
from workflows_mcp.engine.census import CheckpointCensus
from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStatus
from workflows_mcp.engine.filters import check_name
from workflows_mcp.engine.stored import listing_of
from workflows_mcp.engine.stored_checkpoints import find_metadata, run_of, why_needed
from workflows_mcp.errors import CheckpointNotFoundError
from workflows_mcp.persistence.sizes import shown_bytes
from workflows_mcp.server.paging import Before, Limit, check_before, page_of
from workflows_mcp.server.replies import reply
from workflows_mcp.server.replies_checkpoints import (
    CheckpointPage,
    CheckpointRow,
    CheckpointsReply,
    DeletedReply,
    StatsReply,
    WorkflowCount,
    checkpoint_row,
)
from workflows_mcp.server.replies_runs import age_of
from workflows_mcp.server.services import Services
from workflows_mcp.server.texts import counted, list_lines, one_line, text_of, texts_of, when
from workflows_mcp.server.tools.tool import READS, Call, TextOrNone, Tool, services_of
from workflows_mcp.server.uris import CHECKPOINT_URI, uri_of

__all__ = ["TOOLS"]

_MOST_WORKFLOWS = 100

_ENDED = {CheckpointStatus.COMPLETED, CheckpointStatus.FAILED, CheckpointStatus.CANCELLED}

CheckpointId = Annotated[str, Field(description="The checkpoint, as list_checkpoints or a run's checkpoint_id has it.")]


async def list_checkpoints(
    call: Call,
    *,
    workflow_name: Annotated[TextOrNone, Field(description="Only checkpoints of the workflow of this name.")] = None,
    status: Annotated[
        Literal["running", "paused", "completed", "failed", "cancelled"] | None,
        Field(description="Only those saved with this status. paused: only those that still wait for an answer."),
    ] = None,
    run_id: Annotated[TextOrNone, Field(description="Only checkpoints of this run: its history.")] = None,
    limit: Limit = 20,
    before: Before = None,
) -> Annotated[CallToolResult, CheckpointsReply]:
    """List checkpoints, the newest first: the states of runs that were saved after each wave, at pauses and at ends.

    Use status="paused" to find what waits for an answer, run_id for a run's history to fork from. list_runs shows each
    run once, which is what you mostly want.
    """
    check_before(before)
    services = await services_of(call)
    is_waiting = status == "paused"
    found = await services.store.list_checkpoints(
        workflow_name,
        run_id=run_id,
        status=None if is_waiting else status,
        is_paused=True if is_waiting else None,
        limit=limit + 1,
        before=before,
    )
    page, following = page_of(found, limit)
    prompts = services.without_secrets([one.pause_prompt for one in page])
    rows = list(map(checkpoint_row, page, prompts))
    data = CheckpointsReply(checkpoints=rows, next=following)
    what = f"{status} checkpoint" if status else "checkpoint"
    if not rows:
        return reply(data, f"There are no {'more ' if before else ''}{what}s.")
    more = f"\nThere are more: call list_checkpoints again with before={following!r}." if following else ""
    return reply(data, f"{counted(len(rows), what)}, the newest first:\n{list_lines(map(_line_of, rows))}{more}")


async def get_checkpoint_info(call: Call, *, checkpoint_id: CheckpointId) -> Annotated[CallToolResult, CheckpointPage]:
    """Tell what is known of a checkpoint: its run, what it asks, what is done by then, and what can be done with it.

    Its whole state, with the inputs and the outputs of all blocks, is the resource that uri names.
    """
    services = await services_of(call)
    state, metadata = await _load(services, checkpoint_id)
    told: dict[str, Any] = services.without_secrets(state.pause_metadata) or {}
    done = texts_of(state.completed_blocks)
    blocks = [block for wave in state.execution_waves for block in texts_of(wave)]
    error = state.context.get("error")
    data = CheckpointPage(
        **checkpoint_row(metadata, services.without_secrets(metadata.pause_prompt)).model_dump(),
        forked_from=state.parent_checkpoint_id,
        error=text_of(services.without_secrets(error)),
        paused_block=text_of(state.paused_block_id),
        choices=texts_of(told.get("choices")) or None,
        pattern=text_of(told.get("pattern")),
        asked_next=texts_of(told.get("pending")),
        inputs=texts_of(list(state.runtime_inputs)),
        done=done,
        to_do=[block for block in blocks if block not in done],
        needed=await why_needed(services.store, metadata, when),
        uri=uri_of(CHECKPOINT_URI, checkpoint_id),
    )
    return reply(data, _page_text(data))


async def delete_checkpoint(call: Call, *, checkpoint_id: CheckpointId) -> Annotated[CallToolResult, DeletedReply]:
    """Delete a checkpoint for good. One that its run still needs, or that is pinned, is refused.

    Old checkpoints go by themselves after a while (retention), so there is seldom a reason to. cancel_run ends a run
    that waits or is at work; then its checkpoints can be deleted, the newest, which tells how it ended, as the last.
    """
    services = await services_of(call)
    check_name("checkpoint_id", checkpoint_id)
    found = await find_metadata(services.store, checkpoint_id)
    if found is None:
        raise CheckpointNotFoundError(checkpoint_id)
    why = await why_needed(services.store, found, when)
    if why is not None:
        way_out = f"cancel_run with run_id={found.run_id!r} ends that run; then its checkpoints can be deleted"
        if found.status in _ENDED and not found.superseded:
            way_out = (
                f"list_checkpoints with run_id={found.run_id!r} shows those: delete them first. Whoever runs this "
                "server can erase the whole run, by `workflows-mcp runs delete`"
            )
        if found.pinned:
            way_out = "whoever runs this server can unpin it, by `workflows-mcp checkpoints unpin`"
        raise ToolError(f"checkpoint {checkpoint_id!r} was not deleted: {why}; {way_out}")
    if not await services.store.delete_checkpoint(checkpoint_id):
        raise CheckpointNotFoundError(checkpoint_id)
    data = DeletedReply(checkpoint_id=checkpoint_id, run_id=found.run_id, stored_bytes=found.stored_bytes)
    return reply(data, f"Deleted checkpoint {checkpoint_id} ({shown_bytes(found.stored_bytes)}) of {run_of(found)}.")


async def get_checkpoint_stats(call: Call) -> Annotated[CallToolResult, StatsReply]:
    """Count what the database holds: runs by status, what waits and for how long, sizes, and each workflow's share."""
    services = await services_of(call)
    census = await services.store.take_census()
    data = _stats_of(census)
    statuses = ", ".join(f"{count:,} {status}" for status, count in data.runs_by_status.items() if count) or "none"
    waiting = f"{data.waiting:,}"
    if data.oldest_waiting_seconds is not None:
        waiting += f", the oldest for {shown_age(data.oldest_waiting_seconds)}"
    size = f"{shown_bytes(data.stored_bytes)} of states ({shown_bytes(data.json_bytes)} as plain JSON)"
    lines = [
        f"Runs: {data.runs:,} ({statuses}).",
        f"Waiting for an answer: {waiting}. At work: {data.at_work:,}. Abandoned: {data.abandoned:,}.",
        f"Checkpoints: {data.checkpoints:,}; saved in the last day: {data.saved_last_day:,}; pinned: {data.pinned:,}.",
        f"Size: {size}, {shown_bytes(data.database_bytes)} in all.",
        list_lines(
            f"{one.workflow}: {one.checkpoints:,} checkpoints, {one.waiting:,} waiting, {shown_bytes(one.stored_bytes)}"
            for one in data.workflows
        ),
    ]
    return reply(data, "\n".join(line for line in lines if line))


TOOLS = (
    Tool(list_checkpoints, "List checkpoints", READS),
    Tool(get_checkpoint_info, "Look at a checkpoint", READS),
    Tool(
        delete_checkpoint,
        "Delete a checkpoint",
        ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False),
    ),
    Tool(get_checkpoint_stats, "Count checkpoints", READS),
)


async def _load(services: Services, checkpoint_id: str) -> tuple[CheckpointState, CheckpointMetadata]:
    state = await services.store.load_checkpoint(checkpoint_id)
    metadata = None if state is None else await listing_of(services.store, state)
    if state is None or metadata is None:
        raise CheckpointNotFoundError(checkpoint_id)
    return state, metadata


def _line_of(row: CheckpointRow) -> str:
    parts = [f"{row.checkpoint_id}: {row.status}{'' if row.newest else ' (history)'}, workflow {row.workflow}"]
    if row.run_id is not None:
        parts.append(f"run {row.run_id}")
    if row.age_seconds is not None:
        parts.append(f"{shown_age(row.age_seconds)} ago")
    if row.waits and row.prompt is not None:
        parts.append(f"asks: {one_line(row.prompt)}")
    return ", ".join(parts)


def _page_text(data: CheckpointPage) -> str:
    run = f"run {data.run_id}, " if data.run_id else ""
    status = data.status if data.newest else f"{data.status}, and history: its run has gone on since"
    lines = [
        f"Checkpoint {data.checkpoint_id} of {run}workflow {data.workflow}: {status}.",
        f"Saved {data.created}; {shown_bytes(data.bytes)} as JSON, {shown_bytes(data.stored_bytes)} as stored.",
        f"Blocks that are over: {', '.join(data.done) or 'none'}. To do: {', '.join(data.to_do) or 'none'}.",
    ]
    if data.error:
        lines.append(f"Error: {one_line(data.error, 1000)}")
    if data.prompt:
        lines.append(f"{'It asks' if data.waits else 'It asked'}: {one_line(data.prompt, 2000)}")
    can = [f"resume_workflow with checkpoint_id={data.checkpoint_id!r} answers it"] if data.waits else []
    if data.status != "completed":
        can.append("fork_run begins a new run from here")
    can.append("delete_checkpoint deletes it" if data.needed is None else f"it cannot be deleted: {data.needed}")
    return "\n".join([*lines, f"What can be done: {'; '.join(can)}. The whole state: {data.uri}"])


def _stats_of(census: CheckpointCensus) -> StatsReply:
    pulse = census.pulse
    ranked = sorted(census.workflows.items(), key=lambda one: (-one[1].checkpoints, one[0]))
    return StatsReply(
        checkpoints=census.checkpoints,
        runs=census.heads,
        runs_by_status=census.head_statuses,
        waiting=pulse.waiting,
        oldest_waiting_seconds=None if pulse.oldest_waiting is None else age_of(pulse.oldest_waiting),
        at_work=pulse.leased,
        abandoned=pulse.abandoned,
        pinned=census.pinned,
        saved_last_hour=census.last_hour,
        saved_last_day=census.last_day,
        oldest=None if census.oldest is None else when(census.oldest),
        newest=None if census.newest is None else when(census.newest),
        json_bytes=census.full_bytes,
        stored_bytes=census.stored_bytes,
        deltas=census.deltas,
        database_bytes=pulse.database_bytes,
        workflows=[
            WorkflowCount(
                workflow=name,
                checkpoints=one.checkpoints,
                waiting=one.waiting,
                json_bytes=one.full_bytes,
                stored_bytes=one.stored_bytes,
            )
            for name, one in ranked[:_MOST_WORKFLOWS]
        ],
        workflows_total=len(ranked),
    )
