"""`runs list`, `cancel`, `fork`: runs as a whole."""

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from workflows_mcp.cli.checkpoints import check_cursor
from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.durations import parse_moment
from workflows_mcp.cli.failures import EXIT_ERROR, CommandError, one_line
from workflows_mcp.cli.inputs import InputsFile, InputWords, gather_inputs
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id, command_line
from workflows_mcp.cli.page import Page, print_json, say
from workflows_mcp.cli.results import print_result
from workflows_mcp.cli.work import watched
from workflows_mcp.engine.ages import shown_age
from workflows_mcp.wiring import make_executor

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint_store import CheckpointStore
    from workflows_mcp.engine.result import RunSummary

__all__ = [
    "as_data",
    "cancel_command",
    "fork_command",
    "list_command",
    "no_such_run",
]

_Status = Literal["success", "failure", "paused", "cancelled", "running", "abandoned"]

_MOST_PROMPT = 60


async def list_command(
    *,
    workflow: str | None = None,
    status: _Status | None = None,
    contains: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=1_000_000))] = 20,
    before: str | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """List runs, the one that was saved last first.

    One that is `abandoned` is running by what was saved, and its process does not hold it any more: it crashed, or was
    stopped.

    Args:
        workflow: Only this workflow's.
        status: Only those that have come to this; `running` includes abandoned ones, which `abandoned` picks out.
        contains: Only those with this text in their id or their newest checkpoint's.
        since: Only those whose newest checkpoint was created then or later: 2026-11-27, 2026-11-27T10:30, Unix
            seconds, or an age such as 2h.
        until: Only those whose newest checkpoint was created earlier.
        limit: The most to show.
        before: Go on after a page: the cursor that it ended with.
        options: What every command takes.

    Returns:
        0. A database that does not exist is an error, and is not created.
    """
    from workflows_mcp.engine.abandoned import find_runs, shown_status

    if contains is not None:
        check_id("--contains", contains)
    first, end = parse_moment("--since", since), parse_moment("--until", until)
    check_cursor(before)
    async with open_store(options) as store:
        # One more than asked for tells whether there is another page.
        found = await find_runs(
            store,
            workflow,
            status=status,
            id_contains=contains,
            created_after=first,
            created_before=end,
            limit=limit + 1,
            before=before,
        )
    page = found[:limit]
    cursor = page[-1].cursor if len(found) > limit else None
    if options.json:
        print_json({"runs": [as_data(run) for run in page], "next": cursor})
        return 0
    out = Page(sys.stdout)
    if not page:
        out.line("There are no runs here." if before is None else "There are no more runs.")
        return 0
    rows = [
        [
            run.run_id,
            run.workflow_name,
            shown_status(run),
            str(run.wave),
            shown_age(run.age_seconds),
            _cut(run.prompt or ""),
        ]
        for run in page
    ]
    out.table(["run", "workflow", "status", "wave", "age", "prompt"], rows)
    if cursor is not None:
        out.line(f"There are more: go on with --before {cursor}")
    return 0


async def cancel_command(
    run_id: Annotated[str, Parameter(name="RUN_ID")], /, *, options: Options = DEFAULT_OPTIONS
) -> int:
    """End a run, wherever it runs or waits. Its process notices at its next save, or when it renews its lease.

    Args:
        run_id: The run.
        options: What every command takes.

    Returns:
        0: it is cancelled; 1: it was over before.
    """
    from workflows_mcp.errors import CheckpointNotFoundError

    check_id("the run's id", run_id)
    async with open_store(options) as store:
        try:
            result = await make_executor(store, options.settings()).cancel(run_id)
        except CheckpointNotFoundError:
            raise no_such_run(run_id, store, options) from None
    if options.json:
        print_json(result.to_dict())
    elif result.status == "cancelled":
        out = Page(sys.stdout)
        out.line(f"cancelled: run {run_id}")
        out.line("A new run begins where it was with:")
        out.line(f"  {command_line('runs', 'fork', ids=[result.checkpoint_id or ''], options=options)}")
    if result.status == "cancelled":
        return 0
    sys.stdout.flush()
    say(f"error: {one_line(f'run {run_id} was over before, as a {result.status}: there is nothing to cancel')}")
    return EXIT_ERROR


async def fork_command(
    checkpoint_id: Annotated[str, Parameter(name="CHECKPOINT")],
    /,
    *,
    inputs: InputWords = None,
    inputs_file: InputsFile = None,
    run_id: str | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Begin a new run where another one was when a checkpoint was saved; the other one is left alone.

    What was done by then is not done again; of a run that failed, what had failed is.

    Args:
        checkpoint_id: Any checkpoint but the end of a success; `runs show` lists those of a run.
        inputs: An input that differs from the other run's, as NAME=VALUE; once for each input. A question that waits
            is asked anew; once one has been answered there can be no other inputs.
        inputs_file: A JSON or YAML file with such inputs by name; --input wins over it.
        run_id: Names the new run.
        options: What every command takes.

    Returns:
        0: it succeeded, or waits for an answer; 1: it failed; 3: it was cancelled.
    """
    given = gather_inputs(inputs, inputs_file)
    check_id("the checkpoint's id", checkpoint_id)
    if run_id is not None:
        check_id("--run-id", run_id)
    async with open_store(options) as store:
        result = await watched(
            store,
            lambda executor: executor.fork(checkpoint_id, given, run_id=run_id),
            options,
            idle=lambda result: f"run {result.run_id} is there already: nothing ran",
        )
        return await print_result(result, store, options)


def as_data(run: "RunSummary") -> dict[str, Any]:
    """A run as plain data, for JSON."""
    from workflows_mcp.engine.result import RunSummary

    summary = (one.name for one in dataclasses.fields(RunSummary) if one.name != "cursor")
    data = {name: getattr(run, name) for name in summary}
    return {**data, "age_seconds": run.age_seconds, "abandoned": run.is_abandoned}


def no_such_run(run_id: str, store: "CheckpointStore", options: Options, advice: str = "") -> CommandError:
    """The error for a run that is not there. It names the database: another one may be meant."""
    listing = command_line("runs", "list", options=options)
    return CommandError(
        f"there is no run {run_id!r} in the {store.description}{advice}; those that there are: {listing}"
    )


def _cut(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= _MOST_PROMPT else f"{line[: _MOST_PROMPT - 1]}…"
