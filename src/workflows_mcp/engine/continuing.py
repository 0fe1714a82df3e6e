"""Other ways to go on from a checkpoint than where its run left it: with other definitions, as another run, or not."""

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from workflows_mcp.engine.checkpoint import CheckpointState, CheckpointStatus
from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.inputs import coerce_inputs
from workflows_mcp.engine.nested import FindPlan, NestedWorkflows
from workflows_mcp.engine.plan import Plan
from workflows_mcp.engine.progress import Progress, new_id
from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["cancelled_state", "forked", "switched"]


def cancelled_state(head: CheckpointState) -> CheckpointState:
    """The last state of a run that is cancelled: all that it had come to, from which it can be forked."""
    return dataclasses.replace(
        head,
        checkpoint_id=new_id(),
        created_at=max(time.time(), math.nextafter(head.created_at, math.inf)),
        paused_block_id=None,
        pause_prompt=None,
        pause_metadata=None,
        status=CheckpointStatus.CANCELLED,
    )


def forked(state: CheckpointState, run_id: str, inputs: Mapping[str, Any], find_plan: FindPlan) -> Progress:
    """A new run that begins where another one was when a checkpoint was saved.

    Blocks that had failed, and those that were skipped, are begun again; what was done stays done. With other inputs
    so is what was under way or waits, with nested workflows from their beginning: whoever answers a question has to
    see what it is that will happen.

    Args:
        state: The checkpoint's state.
        run_id: Names the new run.
        inputs: Inputs that differ from the other run's. What was done with the other ones is not done again.
        find_plan: See `Progress.from_state`.

    Raises:
        ValueError: The run had completed; or the inputs are others than those under which a question was answered.
        WorkflowDefinitionError: It cannot be continued, or the inputs are not what it takes.
    """
    if state.status is CheckpointStatus.COMPLETED:
        raise ValueError(
            f"checkpoint {state.checkpoint_id!r} is the end of a run that succeeded: nothing is left to be done. Fork "
            "an earlier checkpoint of the run"
        )
    progress = Progress.from_state(dataclasses.replace(state, run_id=run_id), find_plan)
    root = progress.root
    before = root.inputs
    if inputs:
        label = f"workflow {root.name!r}"
        root.inputs = coerce_inputs(root.plan.definition.inputs, {**before, **inputs}, label)
    root.started_at = time.time()
    if state.status is CheckpointStatus.FAILED:
        _forget_failures(root)
    # As text: 1, 1.0 and true are equal in Python, and not for whoever reads them in a question.
    if json.dumps(root.inputs) != json.dumps(before):
        _check_unanswered(root, state)
        _forget_unfinished(root)
    for question in progress.questions():
        if question.record.expires_at is not None and question.record.pause_metadata is not None:
            question.record.expires_at = time.time() + question.record.pause_metadata["timeout_seconds"]
    return dataclasses.replace(
        progress, saved_at=-math.inf, checkpoint_id=None, parent_checkpoint_id=state.checkpoint_id
    )


def _forget_failures(root: Frame) -> None:
    """Begin again all blocks that had failed or were skipped, whose results are lost, or that need one of these."""
    again: set[str] = set()
    for wave in root.plan.waves:
        for block_id in wave:
            record = root.records.get(block_id)
            needs = {one.block for one in root.plan.blocks[block_id].definition.depends_on}
            if record is None or record.is_dropped or record.status != "succeeded" or needs & again:
                again.add(block_id)
                root.records.pop(block_id, None)
    root.wave_index = _first_unfinished_wave(root)


def _check_unanswered(root: Frame, state: CheckpointState) -> None:
    """Keep an answer from counting for inputs that nobody was shown.

    Raises:
        ValueError: There is one.
    """
    asked = next((block_id for block_id, record in root.records.items() if record.holds_answer), None)
    if asked is not None:
        raise ValueError(
            f"checkpoint {state.checkpoint_id!r} holds an answer to a question of block {asked!r}, which was given "
            "under other inputs, and does not count for these. Fork a checkpoint from before that answer, fork this "
            "one without inputs, or begin a new run"
        )


def _forget_unfinished(root: Frame) -> None:
    """Begin again all that is not over: what it has been given, and what it asks, was made of other inputs."""
    for block_id, record in list(root.records.items()):
        if record.is_over:
            continue
        items = {key: item for key, item in (record.items or {}).items() if item.is_over}
        if items:
            record.status, record.items = "running", items
        else:
            del root.records[block_id]
    root.wave_index = _first_unfinished_wave(root)


def switched(progress: Progress, plan: Plan, find_plan: FindPlan) -> Progress:
    """The same run with the workflows as they are now, in place of those that it began with.

    Args:
        progress: How far it has come.
        plan: Its workflow as it is now.
        find_plan: Gives the nested ones as they are now.

    Raises:
        WorkflowDefinitionError: A block that is over, or waits, is gone or has changed; or the inputs do not fit.
        WorkflowNotFoundError: A nested workflow is gone.
    """
    nested = NestedWorkflows.of(plan, find_plan)
    for frame in list(_frames(progress.root)):
        current = plan if frame.parent is None else nested.plan(frame.name)
        label = f"workflow {frame.name!r} as it is now"
        _check_unchanged(frame, current, label)
        declared = current.definition.inputs
        inputs = {name: value for name, value in frame.inputs.items() if name in declared}
        frame.inputs = coerce_inputs(declared, inputs, label)
        frame.plan = current
        frame.wave_index = _first_unfinished_wave(frame)
    return dataclasses.replace(progress, nested=nested)


def _frames(root: Frame) -> Iterator[Frame]:
    yield root
    for child in root.children():
        yield from _frames(child)


def _check_unchanged(frame: Frame, current: Plan, label: str) -> None:
    for block_id, record in list(frame.records.items()):
        what = f"block {frame.path_of(block_id)!r}, which {'is over' if record.is_over else 'is under way'}"
        if block_id not in current.blocks:
            raise WorkflowDefinitionError(f"{label}: {what}, is gone: the run can only go on as it was saved")
        if current.block_data[block_id] != frame.plan.block_data[block_id]:
            raise WorkflowDefinitionError(f"{label}: {what}, has changed: the run can only go on as it was saved")


def _first_unfinished_wave(frame: Frame) -> int:
    records = frame.records
    for index, wave in enumerate(frame.plan.waves):
        if not all(block_id in records and records[block_id].is_over for block_id in wave):
            return index
    return len(frame.plan.waves)
