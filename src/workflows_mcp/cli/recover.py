"""`recover`: runs whose process is gone."""

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.failures import EXIT_ERROR, UsageError, one_line
from workflows_mcp.cli.live import watch_run
from workflows_mcp.cli.metrics import metrics_of
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id, command_line
from workflows_mcp.cli.page import Page, say
from workflows_mcp.cli.results import print_result, print_results
from workflows_mcp.cli.runs import no_such_run
from workflows_mcp.cli.signals import cancelled_by_signals
from workflows_mcp.cli.waiting import recover_when_free
from workflows_mcp.cli.work import watched
from workflows_mcp.wiring import make_executor

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint_store import CheckpointStore

__all__ = ["recover"]

_LOOK_EVERY_SECONDS = 5.0


async def recover(
    run_id: Annotated[str | None, Parameter(name="RUN_ID")] = None,
    /,
    *,
    watch: Annotated[bool, Parameter(negative=())] = False,
    wait: bool = True,
    metrics_port: Annotated[int | None, Parameter(validator=Number(gte=0, lte=65535))] = None,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Let runs go on whose process is gone, each from its newest checkpoint.

    A process holds its runs by leases, which it renews while it works. When it dies they run out, after
    WORKFLOWS_LEASE_SECONDS at the latest; until then nobody else may go on with its runs.

    Args:
        run_id: The run, as `run` printed it. Without it: all runs that nobody holds any more, and all questions that
            nobody has answered in time, which get their default answers.
        watch: Keep looking for such runs, and delete old checkpoints as the settings say, up to Ctrl-C or SIGTERM.
        metrics_port: With --watch, serve Prometheus metrics on this port of 127.0.0.1, at /metrics; 0: on a free one,
            which is told. WORKFLOWS_METRICS_PORT sets it for good.
        wait: Wait until the run's lease has run out. With --no-wait a run that is held is an error at once.
        options: What every command takes.

    Returns:
        0: the runs succeeded, or wait for an answer; there may be none. 1: one failed, or could not be recovered. 3: it
        was cancelled.
    """
    if watch and (run_id is not None or options.json):
        what = "one run" if run_id is not None else "--json, since it has no result"
        raise UsageError(f"--watch does not go together with {what}")
    if metrics_port is not None and not watch:
        raise UsageError("--metrics-port goes together with --watch: metrics are read while a process lives")
    if run_id is not None:
        check_id("the run's id", run_id)
    async with open_store(options) as store:
        if watch:
            return await _watch(store, options, metrics_port)
        if run_id is None:
            return await _recover_all(store, options)
        return await _recover_one(store, run_id, options, wait=wait)


async def _recover_one(store: "CheckpointStore", run_id: str, options: Options, *, wait: bool) -> int:
    from workflows_mcp.errors import CheckpointNotFoundError

    def tell(seconds: float) -> None:
        say(
            one_line(
                f"run {run_id} is held by a process that is at work, or died a moment ago: waiting until its lease "
                f"runs out, for {seconds:.0f} s at most"
            )
        )

    try:
        result = await watched(
            store,
            lambda executor: (
                recover_when_free(store, run_id, executor.recover, tell=tell) if wait else executor.recover(run_id)
            ),
            options,
        )
    except CheckpointNotFoundError:
        raise no_such_run(run_id, store, options) from None
    return await print_result(result, store, options)


async def _recover_all(store: "CheckpointStore", options: Options) -> int:
    results = await watched(store, lambda executor: executor.recover(), options, many=True)
    if not results and not options.json:
        sys.stdout.write("There was nothing to recover.\n")
    code = await print_results(results, store, options)
    # What could not be continued was told by a warning, and is still there.
    left = await store.list_abandoned()
    if not left:
        return code
    runs = ", ".join(str(metadata.run_id) for metadata in left)
    sys.stdout.flush()
    say(f"error: {one_line(f'still abandoned: {runs}; what is known of a run: workflows-mcp runs show RUN_ID')}")
    return EXIT_ERROR


async def _watch(store: "CheckpointStore", options: Options, metrics_port: int | None) -> int:
    settings = options.settings()
    if settings.log_level is None:
        # What goes unasked is told, and nothing else that is no warning.
        logging.getLogger("workflows_mcp.engine.retention").setLevel(logging.INFO)
    port = settings.metrics_port if metrics_port is None else metrics_port
    every = min(_LOOK_EVERY_SECONDS, settings.lease_seconds)
    async with watch_run(Page(sys.stderr), many=True) as watcher:
        try:
            with cancelled_by_signals():
                executor = make_executor(store, settings, on_event=watcher, recover_every_seconds=every)
                with metrics_of(executor, port):
                    say(f"looking for runs to recover every {every:g} s; Ctrl-C ends it")
                    async with executor:
                        await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass  # the way in which it ends
    again = command_line("recover", options=options)
    say(f"ended; what was under way can be recovered at once: {again}")
    return 0
