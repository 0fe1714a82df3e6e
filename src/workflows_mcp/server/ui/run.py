"""One run: what it is doing, what it looks like, and what it was at each of its checkpoints."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from workflows_mcp.engine.abandoned import shown_status
from workflows_mcp.engine.ages import shown_age
from workflows_mcp.engine.block_details import BlockDetails, depths_of, seconds_or_none
from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStatus
from workflows_mcp.engine.result import RunSummary
from workflows_mcp.engine.run_details import RunDetails
from workflows_mcp.errors import CheckpointDecodeError
from workflows_mcp.server.ui.block_values import given_to
from workflows_mcp.server.ui.drawing.graph import Graph, draw_graph
from workflows_mcp.server.ui.drawing.timeline import Timeline, draw_timeline, was_over
from workflows_mcp.server.ui.history import History, Slide, find_history
from workflows_mcp.server.ui.page import Ui, Visit, redirect
from workflows_mcp.server.ui.paths import UI_PATH, path_to
from workflows_mcp.server.ui.problems import Problem
from workflows_mcp.server.ui.questions import question_of
from workflows_mcp.server.ui.states import state_tree
from workflows_mcp.server.ui.values import Value, at_length, in_short

__all__ = ["show_run"]

_MOST_ROWS = 1_000

_MOST_INPUTS, _MOST_OUTPUTS = 50, 100

_MOST_NESTED = 6
"""So many nested workflows have a picture of their own."""

_MANY_BLOCKS = 100
"""A run with more blocks is looked at less often: all of them are sent each time."""


@dataclass(frozen=True)
class _Read:
    """A checkpoint that was read.

    Attributes:
        run: What it tells of its run; None: it cannot be read.
        state: The state; None: it cannot be read.
        flaw: Why it cannot be read.
    """

    run: RunDetails | None = None
    state: CheckpointState | None = None
    flaw: str | None = None


async def show_run(ui: Ui, visit: Visit) -> Response:
    """A run as it is now, or as it was at one of its checkpoints; while it goes on the page does, too.

    Of a page of the past only the part that tells of now does (`only=now`): what is past stays what it was.
    """
    run_id, at = visit.needed("id"), visit.asked("at")
    await ui.services.prepare()
    store = ui.services.store
    heads = await store.list_checkpoints(run_id=run_id, limit=1)
    if not heads:
        raise _no_run(run_id)
    head = heads[0]
    only_now = visit.is_fragment and visit.asked("only") == "now"
    if visit.is_fragment and visit.asked("seen") == (_mark_of(head, is_past=only_now) or ""):
        return Response(status_code=204)  # nothing has changed, and what is shown stays untouched
    if only_now:
        now = await _read(ui, head)
        page = await asyncio.to_thread(_page_of_now, ui, head, now, is_past=True)
        return ui.render(visit, "_run.html", run_id=run_id, only_now=True, **page)
    slide = _slide_of(visit)
    history = await find_history(store, run_id, at=at, slide=slide, before=visit.asked("before"))
    if history is None:
        raise _no_checkpoint(run_id, at)
    if history.before is None:  # the run may have gone on since it was looked up
        head = history.found[0]
    is_past = history.chosen.checkpoint_id != head.checkpoint_id
    if slide is not None and not visit.is_fragment:
        return redirect(_address(history, run_id, is_past=is_past))
    now = await _read(ui, head)
    then = await _read(ui, history.chosen) if is_past else now
    goes_on = head.status is CheckpointStatus.RUNNING and not is_past
    page = await asyncio.to_thread(_page, ui, then, history)
    page |= await asyncio.to_thread(_page_of_now, ui, head, now, is_past=is_past)
    return ui.render(
        visit,
        "_run.html" if visit.is_fragment else "run.html",
        run_id=run_id,
        only_now=False,
        told=_told(visit, head, history),
        address=_address(history, run_id, is_past=is_past),
        # While it goes on its state would be changed under the eyes of whoever reads it.
        state=None if then.state is None or goes_on else await state_tree(ui.services, then.state),
        **page,
    )


def _no_run(run_id: str) -> Problem:
    text = f"There is no run {run_id!r}, or none of its checkpoints is kept any more."
    return Problem(404, "There is no such run", text, {"All runs": UI_PATH})


def _no_checkpoint(run_id: str, at: str | None) -> Problem:
    text = "There are none so early any more." if at is None else "It was deleted, or belongs to another run."
    links = {"The run": path_to("run", id=run_id), "All runs": UI_PATH}
    return Problem(404, "There is no such checkpoint", text, links)


def _address(history: History, run_id: str, *, is_past: bool) -> str:
    """The address of what is shown, which is the same whoever it is given to."""
    at = history.chosen.checkpoint_id if is_past else None
    return path_to("run", id=run_id, at=at, before=history.before if is_past else None)


def _mark_of(head: CheckpointMetadata, *, is_past: bool) -> str | None:
    """What the page of a run depends on that does not go on by itself, or is shown as it was; None: it goes on."""
    summary = RunSummary.of(head)
    if summary.is_held and not is_past:
        return None
    lease = shown_age(summary.lease_seconds_left) if summary.is_held else ""
    told = f"{head.checkpoint_id} {shown_status(summary)} {shown_age(summary.age_seconds)} {lease}"
    return hashlib.sha256(told.encode(errors="replace")).hexdigest()[:16]


def _slide_of(visit: Visit) -> Slide | None:
    """Where the slider of a form is; None: there is none."""
    number, count, newest = visit.asked("n"), visit.asked("count"), visit.asked("of")
    if number is None:
        return None
    if not all(one is not None and one.isascii() and one.isdigit() and len(one) < 10 for one in (number, count)):
        raise Problem(400, "There is no such checkpoint", "The slider says where, as a number.", {"All runs": UI_PATH})
    return Slide(int(number), int(count or 0), newest or "")


def _told(visit: Visit, head: CheckpointMetadata, history: History) -> str | None:
    """What somebody has just done, and come from; a link may say anything, so that what is stored must say it, too."""
    is_cancelled = head.status is CheckpointStatus.CANCELLED
    answered = visit.asked("answered")
    if answered is not None and not is_cancelled and _is_answered(answered, head, history):
        return "Your answer was taken, and the run goes on with it."
    if visit.asked("cancelled") is not None and is_cancelled:
        return "The run is cancelled: nobody can answer it, or go on with it, any more."
    if visit.asked("forked") is not None and head.parent_checkpoint_id is not None:
        return "This new run begins where the other one was. That one was left alone."
    return None


def _is_answered(checkpoint_id: str, head: CheckpointMetadata, history: History) -> bool:
    """Whether this checkpoint of a run waited, and somebody goes on with it, or has gone on."""
    waited = any(one.checkpoint_id == checkpoint_id and one.status is CheckpointStatus.PAUSED for one in history.found)
    return waited and (head.checkpoint_id != checkpoint_id or RunSummary.of(head).lease_seconds_left > 0)


async def _read(ui: Ui, listed: CheckpointMetadata) -> _Read:
    """A checkpoint; the newest one of a run that this very server works on tells how far that is by now."""
    try:
        state = await ui.services.store.load_checkpoint(listed.checkpoint_id)
    except CheckpointDecodeError as error:
        return _Read(flaw=str(error))
    if state is None:
        return _Read(flaw=f"checkpoint {listed.checkpoint_id!r} was deleted a moment ago")
    return _Read(await ui.services.executor.details_of(listed, state), state)


def _page_of_now(ui: Ui, head: CheckpointMetadata, now: _Read, *, is_past: bool) -> dict[str, Any]:
    """What the page shows of what the run is doing, by name."""
    summary = now.run or RunSummary.of(head)
    is_over = summary.status in {"success", "failure", "cancelled"}
    has_many = now.run is not None and len(now.run.blocks) > _MANY_BLOCKS and not is_past
    return {
        "question": question_of(ui.services, now.state) if now.state is not None and now.state.is_paused else None,
        "run": summary,
        "doing": shown_status(summary),
        "now": now,
        "started_with": _started_with(ui, now.state),
        "outputs": [] if now.run is None else list(at_length(now.run.outputs, _MOST_OUTPUTS)),
        "is_past": is_past,
        "mark": _mark_of(head, is_past=is_past) or "",
        "every": None if is_over else "5s" if has_many else "2s",
    }


def _started_with(ui: Ui, state: CheckpointState | None) -> tuple[Sequence[Value], bool]:
    """The run's inputs, and whether they are all there is of them."""
    inputs: object = {} if state is None else state.runtime_inputs
    shown = in_short(inputs, ui.services.without_secrets, _MOST_INPUTS)
    count = len(inputs) if isinstance(inputs, dict) else len(shown)
    return shown, count == len(shown) and all(one.is_whole for one in shown)


def _page(ui: Ui, then: _Read, history: History) -> dict[str, Any]:
    """What the page shows of a checkpoint, by name."""
    blocks = then.run.blocks if then.run is not None else ()
    given = {} if then.state is None else given_to(then.state, blocks[:_MOST_ROWS], ui.services.without_secrets)
    return {
        "then": then,
        "history": history,
        "chosen": history.chosen,
        "graph": draw_graph(blocks),
        "nested": _nested(blocks),
        "timeline": _timeline(history.chosen, then.run),
        "rows": [(min(depth, 6), one) for depth, one in zip(depths_of(blocks), blocks, strict=True)][:_MOST_ROWS],
        "more_rows": max(len(blocks) - _MOST_ROWS, 0),
        "given": given,
        "taken_over": _taken_over(then.run),
    }


def _timeline(chosen: CheckpointMetadata, run: RunDetails | None) -> Timeline:
    """The bars; what is not over goes on up to now, or up to when that was saved."""
    saved_at = seconds_or_none(chosen.created_at) or time.time()
    goes_on = run is not None and not run.superseded and (run.status != "running" or run.is_held)
    until = time.time() if goes_on else saved_at
    if run is None:
        return draw_timeline((), until)
    return draw_timeline(run.blocks, until, run.started_at, is_fork=run.parent_checkpoint_id is not None)


def _taken_over(run: RunDetails | None) -> frozenset[str]:
    """The paths of the blocks that were done in the run that this one was forked from."""
    if run is None or run.parent_checkpoint_id is None or run.started_at is None:
        return frozenset()
    return frozenset(one.path for one in run.blocks if was_over(one, run.started_at))


def _nested(blocks: Sequence[BlockDetails]) -> list[tuple[str, str | None, Graph]]:
    """The workflows that run in the place of blocks, or items: where, which, and what they look like."""
    workflows = {one.path: one.workflow for one in blocks}
    within = dict.fromkeys(one.parent for one in blocks if one.parent is not None and one.key is None)
    return [(path, workflows.get(path), draw_graph(blocks, path)) for path in list(within)[:_MOST_NESTED]]
