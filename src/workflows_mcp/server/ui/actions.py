"""What a person can do with a run: end it, or begin a new one where it was."""

import asyncio

from starlette.responses import Response

from workflows_mcp.engine.checkpoint import CheckpointState, CheckpointStatus
from workflows_mcp.errors import CheckpointNotFoundError, WorkflowDefinitionError
from workflows_mcp.server.ui.fork_inputs import changed_inputs, inputs_in, refilled
from workflows_mcp.server.ui.page import Ui, Visit, redirect
from workflows_mcp.server.ui.paths import path_to
from workflows_mcp.server.ui.problems import OLD_FORM, Problem, sentence
from workflows_mcp.server.ui.values import in_short

__all__ = ["ask_fork_again", "cancel_run", "fork_run", "show_fork"]


_MOST_INPUTS = 100
"""So many inputs of the other run are shown."""


async def cancel_run(ui: Ui, visit: Visit) -> Response:
    """End a run for good, wherever it runs or waits."""
    run_id = visit.needed("id")
    await ui.services.prepare()
    result = await ui.services.executor.cancel(run_id)
    there = {"The run": path_to("run", id=run_id)}
    if result.status != "cancelled":
        raise Problem(409, "It was over before", f"It ended as a {result.status}: nothing was done.", there)
    return redirect(path_to("run", id=run_id, cancelled="yes"))


async def show_fork(ui: Ui, visit: Visit) -> Response:
    """The form for a new run that begins where another one was."""
    return await _form(ui, visit, await _forkable(ui, visit))


async def ask_fork_again(ui: Ui, visit: Visit) -> Response:
    """The same form with what was typed in one that is too old to be taken."""
    return await _form(ui, visit, await _forkable(ui, visit), OLD_FORM)


async def fork_run(ui: Ui, visit: Visit) -> Response:
    """Begin a new run where another one was, and go to its page; what cannot be is told beside what was typed."""
    state = await _forkable(ui, visit)
    run_id = visit.form.get("run_id", "").strip() or None
    try:
        typed = inputs_in(visit.form.get("inputs", ""))
        inputs = changed_inputs(typed, state.runtime_inputs, ui.services.without_secrets)
        result = await ui.services.executor.start_fork(state.checkpoint_id, inputs, run_id=run_id)
    except WorkflowDefinitionError as error:
        return await _form(ui, visit, state, str(error))
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        return await _form(ui, visit, state, str(error))
    return redirect(path_to("run", id=result.run_id, forked="yes"))


async def _forkable(ui: Ui, visit: Visit) -> CheckpointState:
    """The checkpoint that a new run is to begin at.

    Raises:
        Problem: None can.
        CheckpointNotFoundError: There is none.
    """
    checkpoint_id = visit.needed("checkpoint")
    await ui.services.prepare()
    state = await ui.services.store.load_checkpoint(checkpoint_id)
    if state is None:
        raise CheckpointNotFoundError(f"there is no checkpoint {checkpoint_id!r}")
    if state.status is CheckpointStatus.COMPLETED:
        raise Problem(
            409,
            "There is nothing left to do from here",
            "This checkpoint is the end of a run that succeeded. A new run can begin at any earlier one.",
            {} if state.run_id is None else {"The run": path_to("run", id=state.run_id)},
        )
    return state


async def _form(ui: Ui, visit: Visit, state: CheckpointState, flaw: str | None = None) -> Response:
    scrub = ui.services.without_secrets
    offered = await asyncio.to_thread(refilled, state.runtime_inputs, scrub)
    return ui.render(
        visit,
        "fork.html",
        status=200 if flaw is None else 422,
        state=state,
        inputs=await asyncio.to_thread(in_short, state.runtime_inputs, scrub, _MOST_INPUTS),
        offered=offered,
        flaw=None if flaw is None else sentence(ValueError(flaw)),
        # Not masked: it goes back to whoever has just typed it, to be sent once more.
        given={"run_id": visit.form.get("run_id", ""), "inputs": visit.form.get("inputs", offered.text)},
    )
