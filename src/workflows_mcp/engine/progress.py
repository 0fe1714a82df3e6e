"""How far a run has come, and the same as the state of a checkpoint.

A checkpoint alone is enough to go on from, in a process that has never seen the workflow. It holds:

- `runtime_inputs`: the run's inputs, checked and coerced.
- `block_definitions`: each block's definition by id, as it was written; `workflow_stack[0]`: the rest of the
  workflow, with `blocks`, the ids in the order of the definition (JSON objects have none).
- `workflow_stack[1:]`: a frame for each nested workflow that is under way, outer ones first: `parent`, the index of
  the frame whose block it runs for; `block`, and `key` with `for_each`: which block that is; `workflow`: its name;
  `inputs`, `started_at`, `wave_index` and `records`, as of the run's own. Flat, since a state has a greatest depth.
- `execution_waves` and `current_wave_index`: the wave to run next. While a run is paused that is the wave of the
  block that waits; those blocks of it whose record is over do not run again.
- `context["blocks"]`: a record for each block that has run, was skipped, waits or is under way (`BlockRecord`);
  `context["workflows"]`: the definitions of nested workflows by name; `context["started_at"]`: when the run began;
  at its end `context["outputs"]` or `context["error"]`.
- `completed_blocks`: ids of the blocks that are over, however they ended, by wave.
- `paused_block_id`: the path of the block that asks, such as `deploy[eu]/approve`; `pause_metadata`: what it told
  about its question; `pending`, the paths of the others that ask; `expires_at`, when the first of them all is
  answered by its default.

Environment variables, secrets, and what block types make of them never enter it.
"""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workflows_mcp.engine.blocks import answered
from workflows_mcp.engine.checkpoint import CheckpointState, CheckpointStatus
from workflows_mcp.engine.frame import Frame, Parent
from workflows_mcp.engine.nested import FindPlan, NestedWorkflows
from workflows_mcp.engine.plain_json import why_not_json
from workflows_mcp.engine.plan import plan_workflow
from workflows_mcp.engine.record import RECORD_DEPTH, BlockRecord
from workflows_mcp.engine.workflow import define_workflow
from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["Progress", "Question", "new_id"]


def new_id() -> str:
    """A fresh id; ids sort by the millisecond in which they were made, which keeps a database's index compact."""
    return f"{int(time.time() * 1000):012x}{os.urandom(10).hex()}"


@dataclass(frozen=True)
class Question:
    """A block that waits for an answer.

    Attributes:
        path: Names it within the run.
        frame: The workflow that it belongs to.
        block_id: Names it there.
        key: Names its item, when it has a `for_each`.
        record: Its record.
    """

    path: str
    frame: Frame
    block_id: str
    key: str | None
    record: BlockRecord

    @property
    def expires_at(self) -> float | None:
        """When its default answer is taken, in Unix seconds; None: never."""
        return self.record.expires_at

    @property
    def default(self) -> str:
        """The answer that is taken then; there is one when there is a time."""
        assert self.record.pause_metadata is not None
        default: str = self.record.pause_metadata["default"]
        return default

    def outputs_for(self, response: str) -> dict[str, Any]:
        """The outputs of the block when this is the answer.

        Raises:
            ValueError: It is not one that the block takes.
        """
        block_type = self.frame.plan.blocks[self.block_id].block_type
        outputs = answered(block_type, response, block_type.inputs.model_validate(self.record.inputs or {}))
        flaw = why_not_json(outputs, "outputs", depth=RECORD_DEPTH + 2)
        if flaw:
            raise ValueError(f"the block type {block_type.name!r} makes of the answer what cannot be saved: {flaw}")
        return outputs


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        root: The run's workflow.
        nested: The workflows that its blocks may run.
        saved_at: `created_at` of the run's newest checkpoint.
        checkpoint_id: The run's newest checkpoint; None before the first.
        parent_checkpoint_id: The checkpoint that the run was forked from.
        uses_scratch: Whether the run may have a scratch folder on this machine.
    """

    root: Frame
    nested: NestedWorkflows
    saved_at: float = -math.inf
    checkpoint_id: str | None = None
    parent_checkpoint_id: str | None = None
    uses_scratch: bool = False

    @property
    def run_id(self) -> str:
        """Names the run."""
        return self.root.run_id

    @property
    def workflow_name(self) -> str:
        """Names the workflow."""
        return self.root.name

    def questions(self) -> Iterator[Question]:
        """The blocks that wait for an answer, in the order in which they are asked."""
        yield from _questions_in(self.root)

    def first_question(self) -> Question:
        """The question that is asked.

        Raises:
            WorkflowDefinitionError: Nothing waits, though the run does.
        """
        question = next(self.questions(), None)
        if question is None:
            raise WorkflowDefinitionError(f"no block of run {self.run_id!r} waits for an answer any more")
        return question

    def overdue_answers(self) -> dict[str, str]:
        """The default answers of the questions that should have been answered by now, by path."""
        now = time.time()
        return {
            question.path: question.default
            for question in self.questions()
            if question.expires_at is not None and question.expires_at <= now
        }

    def to_state(self, status: CheckpointStatus, **end: object) -> CheckpointState:
        """The state to save now.

        Args:
            status: What the run is doing.
            end: `outputs` or `error`, at the run's end.
        """
        root, plan = self.root, self.root.plan
        context: dict[str, Any] = {
            "started_at": root.started_at,
            "blocks": root.records_data,
            **end,
        }
        if self.nested.definitions:
            context["workflows"] = dict(self.nested.definitions)
        questions = list(self.questions()) if status is CheckpointStatus.PAUSED else []
        asking = questions[0] if questions else None
        return CheckpointState(
            checkpoint_id=new_id(),
            workflow_name=root.name,
            created_at=max(time.time(), math.nextafter(self.saved_at, math.inf)),
            runtime_inputs=root.inputs_data,
            context=context,
            completed_blocks=root.completed,
            current_wave_index=root.wave_index,
            execution_waves=plan.wave_lists,
            block_definitions=plan.block_data,
            workflow_stack=[plan.frame_data, *_frames_of(root)],
            parent_checkpoint_id=self.parent_checkpoint_id,
            paused_block_id=None if asking is None else asking.path,
            pause_prompt=None if asking is None else asking.record.prompt,
            pause_metadata=None if asking is None else _pause_metadata(questions),
            run_id=self.run_id,
            status=status,
        )

    @classmethod
    def from_state(cls, state: CheckpointState, find_plan: FindPlan) -> "Progress":
        """How far the run had come when this was saved.

        Args:
            state: What was saved.
            find_plan: Gives the workflows that blocks may run by a name which is known only then.

        Raises:
            WorkflowDefinitionError: Another program saved it, or the workflow in it cannot run any more, say
                because a block type is gone.
        """
        label = f"the workflow in checkpoint {state.checkpoint_id!r}"
        try:
            frame, *stack = state.workflow_stack
            blocks = [state.block_definitions[block_id] for block_id in frame["blocks"]]
            definitions = state.context.get("workflows", {})
            records = _records_of(state.context["blocks"])
            started_at = state.context["started_at"]
            if state.run_id is None:
                raise WorkflowDefinitionError(
                    f"checkpoint {state.checkpoint_id!r} belongs to no run (a downgrade of the schema drops the runs), "
                    "and cannot be continued"
                )
            plan = plan_workflow(define_workflow({**frame, "blocks": blocks}, label), label)
            if plan.wave_lists != state.execution_waves:
                raise WorkflowDefinitionError(f"{label}: its waves are not those of its blocks")
            nested = NestedWorkflows.from_data(plan, definitions, find_plan, label)
            root = Frame(plan, state.runtime_inputs, state.run_id, None, started_at, records, state.current_wave_index)
            _nest(stack, root, nested)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError):
            raise WorkflowDefinitionError(
                f"checkpoint {state.checkpoint_id!r} was not saved by this executor, or by a newer version of it, "
                "and cannot be continued by it"
            ) from None
        progress = cls(
            root=root,
            nested=nested,
            saved_at=state.created_at,
            checkpoint_id=state.checkpoint_id,
            parent_checkpoint_id=state.parent_checkpoint_id,
            uses_scratch=True,
        )
        asking = next(progress.questions(), None)
        if state.paused_block_id != (asking.path if asking is not None and state.is_paused else None):
            raise WorkflowDefinitionError(f"{label}: the block that waits for an answer is not the one it names")
        return progress


def _questions_in(frame: Frame) -> Iterator[Question]:
    # Not only those of the wave: with another definition, blocks that wait may stand in a later one.
    for block_id in frame.plan.blocks:
        record = frame.records.get(block_id)
        if record is None or record.status != "paused":
            continue
        items = [(None, record)] if record.items is None else list(record.items.items())
        for key, item in items:
            if item.status != "paused":
                continue
            if item.child is not None:
                yield from _questions_in(item.child)
            else:
                yield Question(frame.path_of(block_id, key), frame, block_id, key, item)


def _pause_metadata(questions: list[Question]) -> dict[str, Any]:
    told = {name: value for name, value in (questions[0].record.pause_metadata or {}).items() if name != "expires_at"}
    metadata = {**told, "pending": [question.path for question in questions[1:]]}
    ends = [question.expires_at for question in questions if question.expires_at is not None]
    if ends:
        metadata["expires_at"] = min(ends)
    return metadata


def _frames_of(root: Frame) -> list[dict[str, Any]]:
    """The nested frames as plain JSON data, each with the index of its parent in the whole stack."""
    stack: list[dict[str, Any]] = []
    waiting = [(0, root)]
    while waiting:
        index, frame = waiting.pop(0)
        for child in frame.children():
            parent = child.parent
            assert parent is not None
            stack.append(
                {
                    "parent": index,
                    "block": parent.block_id,
                    "key": parent.key,
                    "workflow": child.name,
                    "inputs": child.inputs_data,
                    "started_at": child.started_at,
                    "wave_index": child.wave_index,
                    "records": child.records_data,
                }
            )
            waiting.append((len(stack), child))
    return stack


def _nest(stack: list[Any], root: Frame, nested: NestedWorkflows) -> None:
    """Make the frames that `_frames_of` made data of, and put them into their places."""
    frames = [root]
    for data in stack:
        parent = Parent(frames[data["parent"]], data["block"], data["key"])
        plan = nested.saved(data["workflow"])
        records = _records_of(data["records"])
        frame = Frame(plan, data["inputs"], root.run_id, parent, data["started_at"], records, data["wave_index"])
        parent.record.child = frame
        frames.append(frame)


def _records_of(data: dict[str, Any]) -> dict[str, BlockRecord]:
    return {block_id: BlockRecord.from_data(record) for block_id, record in data.items()}
