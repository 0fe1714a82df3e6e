"""Tools that look at runs, end them, and begin new ones where they were."""

from typing import Annotated, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field

from workflows_mcp.engine.abandoned import find_runs
from workflows_mcp.engine.ages import shown_age
from workflows_mcp.server.answers import can_ask
from workflows_mcp.server.paging import Before, Limit, check_before, page_of
from workflows_mcp.server.replies import RunReply, reply, run_reply, run_text
from workflows_mcp.server.replies_runs import BlockState, RunPage, RunRow, RunsReply, run_page, run_row
from workflows_mcp.server.texts import counted, list_lines, one_line
from workflows_mcp.server.tools.running import Inputs, RunId, Wait, WaitSeconds, run_as_asked, tell_run
from workflows_mcp.server.tools.tool import READS, Call, TextOrNone, Tool, services_of

__all__ = ["TOOLS"]

_MOST_WAIT_SECONDS = 3600


async def list_runs(
    call: Call,
    *,
    status: Annotated[
        Literal["success", "failure", "paused", "cancelled", "running", "abandoned"] | None,
        Field(
            description="Only runs that have come to this. paused: those that wait for an answer. abandoned: those "
            "whose process died; running includes them."
        ),
    ] = None,
    workflow: Annotated[TextOrNone, Field(description="Only runs of the workflow of this name.")] = None,
    limit: Limit = 20,
    before: Before = None,
) -> Annotated[CallToolResult, RunsReply]:
    """List runs of workflows, the one that was saved last first, whichever server they run or ran on.

    Use it to find what waits for an answer (status="paused"), what failed, or a run whose id you do not know.
    """
    check_before(before)
    services = await services_of(call)
    found = await find_runs(services.store, workflow, status=status, limit=limit + 1, before=before)
    page, following = page_of(found, limit)
    prompts = services.without_secrets([run.prompt for run in page])
    data = RunsReply(runs=list(map(run_row, page, prompts)), next=following)
    what = f"{status} run" if status else "run"
    if not data.runs:
        return reply(data, f"There are no {'more ' if before else ''}{what}s.")
    lines = list_lines(map(_line_of, data.runs))
    more = f"\nThere are more: call list_runs again with before={following!r}." if following else ""
    return reply(data, f"{counted(len(data.runs), what)}, the newest first:\n{lines}{more}")


async def get_run(
    call: Call,
    *,
    run_id: Annotated[str, Field(description="The run, as execute_workflow or list_runs named it.")],
    wait_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=_MOST_WAIT_SECONDS,
            allow_inf_nan=False,
            description="Wait so many seconds at most while it is running, and return as soon as it is over or asks. "
            "A run that is paused is told at once, also where its question has a default that falls due soon.",
        ),
    ] = 0,
) -> Annotated[CallToolResult, RunPage]:
    """Tell what has become of a run: its status, outputs or error, what it asks, and how far each block is.

    Use it to follow a run that was begun with wait=false, or to see why one failed.

    Example: get_run(run_id="deploy-1.4.2", wait_seconds=60).
    """
    services = await services_of(call)
    if wait_seconds:
        await services.executor.wait_for_run(run_id, wait_seconds)
    run = await services.executor.get_run(run_id)
    data = run_page(run)
    within = services.seconds_between_looks if data.abandoned else None
    text = run_text(data, run.pause_metadata, asks=can_ask(call), taken_up_within=within)
    return reply(data, f"{text}\n\n{_progress_of(data)}")


async def cancel_run(
    call: Call, *, run_id: Annotated[str, Field(description="The run, as execute_workflow or list_runs named it.")]
) -> Annotated[CallToolResult, RunReply]:
    """End a run for good, wherever it runs or waits: its blocks are stopped, and nobody can answer it any more.

    What it did by then stays done. A run that is over stays what it is, and that is told. fork_run can begin a new
    run where a cancelled one was.
    """
    services = await services_of(call)
    found = await services.store.list_checkpoints(run_id=run_id, limit=1)
    result = await services.executor.cancel(run_id)
    note = "" if result.status == "cancelled" else "It was over before, so there was nothing to cancel."
    return run_reply(services, result, workflow=found[0].workflow_name if found else "", note=note)


async def fork_run(
    call: Call,
    *,
    checkpoint_id: Annotated[
        str, Field(description="Where the new run begins: any checkpoint but the end of a run that succeeded.")
    ],
    inputs: Annotated[
        Inputs,
        Field(
            description="Inputs that differ from the other run's, by name; blocks that are done stay done. A question "
            "that waits is asked anew; once one has been answered there can be no other inputs."
        ),
    ] = None,
    run_id: RunId = None,
    wait: Wait = True,
    wait_seconds: WaitSeconds = None,
) -> Annotated[CallToolResult, RunReply]:
    """Begin a new run where another one was when a checkpoint was saved. The other one is left alone.

    What was done by then is not done again; of a run that failed, what had failed is tried again. Use it to repeat a
    failed run once the cause is gone, to try a pause with another answer, or to go back to an earlier checkpoint
    (list_checkpoints with run_id shows them). An answer counts only for the inputs under which it was given: to do
    what was approved with other ones, fork a checkpoint from before the answer, and have it asked again. The status is
    as for execute_workflow.

    Example: fork_run(checkpoint_id="0199f2…", inputs={"version": "1.4.3"}).
    """
    services = await services_of(call)
    state = await services.store.load_checkpoint(checkpoint_id)
    if state is not None and state.status == "completed":
        raise ToolError(
            f"checkpoint {checkpoint_id!r} is the end of a run that succeeded: there is nothing left to do from there. "
            f"An earlier one can be forked: list_checkpoints with run_id={state.run_id!r} shows them"
        )
    executor = services.executor
    result = await run_as_asked(
        call,
        services,
        lambda: executor.fork(checkpoint_id, inputs, run_id=run_id),
        lambda: executor.start_fork(checkpoint_id, inputs, run_id=run_id),
        wait=wait,
        wait_seconds=wait_seconds,
    )
    return await tell_run(call, services, result, "" if state is None else state.workflow_name)


def _line_of(run: RunRow) -> str:
    parts = [f"{run.run_id}: {run.status}, workflow {run.workflow}"]
    if run.age_seconds is not None:
        parts.append(f"{shown_age(run.age_seconds)} ago")
    if run.prompt is not None:
        parts.append(f"checkpoint_id={run.checkpoint_id}, asks: {one_line(run.prompt)}")
    return ", ".join(parts)


def _progress_of(data: RunPage) -> str:
    parts = [f"{data.waves_done} of {data.waves} waves are done. Blocks:", list_lines(map(_block_line, data.blocks))]
    if data.flaw is not None:
        told = parts if data.blocks else []
        parts = [f"No more can be told of its blocks: {one_line(data.flaw, 500)}", *told]
    seen = {block.status for block in data.blocks}
    if "interrupted" in seen:
        parts.append("What was interrupted runs again.")
    if "may have begun" in seen:
        knows = "nobody knows any more" if data.abandoned else "the server knows that works on the run"
        parts.append(f"Of what may have begun, {knows} whether it has: a start alone is not saved.")
    if data.asked_next:
        parts.append(f"Asked after that: {', '.join(data.asked_next)}")
    return "\n".join(part for part in parts if part)


def _block_line(block: BlockState) -> str:
    notes = [] if block.items is None else [f"{count:,} {status}" for status, count in block.items.items()]
    notes += [f"{block.seconds:g} s"] if block.seconds is not None else []
    notes += [f"attempt {block.attempts}"] if block.attempts > 1 else []
    notes += [one_line(block.message, 300)] if block.message else []
    return f"{block.path}: {block.status}" + (f" ({'; '.join(notes)})" if notes else "")


_CHANGES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True)

TOOLS = (
    Tool(list_runs, "List runs", READS),
    Tool(get_run, "Follow a run", READS),
    Tool(
        cancel_run,
        "Cancel a run",
        ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False),
    ),
    Tool(fork_run, "Begin a run where another one was", _CHANGES),
)
