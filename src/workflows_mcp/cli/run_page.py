"""`runs show`: one run, and what can be done with it."""

import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from workflows_mcp.cli.blocks import BlockRow, row_of
from workflows_mcp.cli.checkpoints import in_short, when
from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.failures import one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id, command_line
from workflows_mcp.cli.page import Page, print_json
from workflows_mcp.cli.results import what_is_taken
from workflows_mcp.cli.runs import as_data, no_such_run
from workflows_mcp.engine.ages import shown_age

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint import CheckpointMetadata
    from workflows_mcp.engine.result import RunSummary
    from workflows_mcp.engine.run_details import RunDetails

__all__ = ["show_command"]

_MOST_CHECKPOINTS = 20


async def show_command(
    run_id: Annotated[str, Parameter(name="RUN_ID")], /, *, options: Options = DEFAULT_OPTIONS
) -> int:
    """Show a run: its newest checkpoints, what became of its blocks, and what can be done with it.

    Args:
        run_id: The run.
        options: What every command takes.

    Returns:
        0.
    """
    from workflows_mcp.engine.run_details import run_details
    from workflows_mcp.engine.secrets import Secrets

    check_id("the run's id", run_id)
    async with open_store(options) as store:
        found = await store.list_checkpoints(run_id=run_id, limit=_MOST_CHECKPOINTS + 1)
        state = await store.load_checkpoint(found[0].checkpoint_id) if found else None
    if state is None:
        raise no_such_run(run_id, store, options)
    run = await run_details(found[0], state, Secrets())
    rows = [row_of(block) for block in run.blocks]
    commands = _what_can_be_done(run, found, options)
    more = len(found) > _MOST_CHECKPOINTS
    found = found[:_MOST_CHECKPOINTS]
    if options.json:
        checkpoints = [dataclasses.asdict(one) for one in found]
        blocks = [dataclasses.asdict(row) for row in rows]
        told = {"run": as_data(run), "error": run.error, "pause": run.pause_metadata}
        print_json({**told, "checkpoints": checkpoints, "blocks": blocks, "commands": commands})
        return 0
    out = Page(sys.stdout)
    _show_head(out, run)
    out.heading("blocks, as the newest checkpoint has them")
    if run.flaw is not None:
        out.line(one_line(run.flaw))
    if run.flaw is None or rows:
        out.table(["block", "status", "started", "seconds", "note"], [_cells(row) for row in rows])
    out.heading("checkpoints")
    rows_of = [[_age_of(one), *in_short(one), one.checkpoint_id] for one in found]
    out.table(["age", "status", "waves", "stored", "full", "checkpoint"], rows_of)
    if more:
        out.line(f"All of them: {command_line('checkpoints', 'list', f'--run={run_id}', options=options)}")
    if commands:
        out.heading("what can be done")
        for what, command in commands.items():
            out.line(f"{what}:")
            out.line(f"  {command}")
    return 0


def _age_of(one: "CheckpointMetadata") -> str:
    try:
        return shown_age(time.time() - one.created_at)
    except TypeError:  # of another type is what no store has written
        return repr(one.created_at)


def _show_head(out: Page, run: "RunDetails") -> None:
    from workflows_mcp.engine.abandoned import shown_status

    about = {
        "run": run.run_id,
        "workflow": run.workflow_name,
        "status": shown_status(run),
        "saved": f"{when(run.updated_at)} ({shown_age(run.age_seconds)} ago)",
    }
    if run.lease_seconds_left and run.status == "running":
        about["held"] = f"by a process, for {run.lease_seconds_left:.0f} s unless it renews its lease"
    if run.parent_checkpoint_id is not None:
        about["forked from"] = run.parent_checkpoint_id
    if run.error is not None:
        about["error"] = run.error
    width = max(map(len, about))
    for name, value in about.items():
        out.line(f"{name:<{width}}  {one_line(value)}")
    if run.prompt is not None:
        out.heading("the question")
        out.line(run.prompt)
        taken = what_is_taken(run.pause_metadata)
        if taken is not None:
            out.line(f"(the answer: {taken})")
        if others := (run.pause_metadata or {}).get("pending"):
            out.line(f"Asked after it: {', '.join(others)}")


def _cells(row: BlockRow) -> list[str]:
    started = "" if row.started_at is None else when(row.started_at)
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    return [row.path, row.status, started, seconds, row.note]


def _what_can_be_done(run: "RunSummary", found: "list[CheckpointMetadata]", options: Options) -> dict[str, str]:
    """Commands by what they are good for."""
    commands: dict[str, str] = {}

    def add(what: str, one: str, *words: str) -> None:
        commands[what] = command_line(*words, ids=[one], options=options)

    match run.status:
        case "paused":
            add("answer it", run.checkpoint_id, "resume", "--response", "TEXT")
        case "running" if run.is_abandoned:
            add("go on with it", run.run_id, "recover")
        case "running" if run.is_held:
            add("go on with it, should its process be gone", run.run_id, "recover")
    if run.status in {"paused", "running"}:
        add("end it", run.run_id, "runs", "cancel")
    forkable = next((one.checkpoint_id for one in found if one.status != "completed"), None)
    if forkable is not None:
        again = {"failure": "try again what failed, as a new run"}.get(run.status, "begin a new run where this one was")
        add(again, forkable, "runs", "fork")
    return commands
