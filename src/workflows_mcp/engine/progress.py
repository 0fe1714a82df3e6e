"""How far a run has come, and the same as the state of a checkpoint.

A checkpoint alone is enough to go on from, in a process that has never seen the workflow. It holds:

- `runtime_inputs`: the run's inputs, checked and coerced.
- `block_definitions`: each block's definition by id, as it was written; `workflow_stack`: one frame with the rest
  of the workflow: `name`, `description`, `inputs`, `outputs`, and `blocks`, the ids in the order of the definition
  (JSON objects have none). Nested workflows will be further frames.
- `execution_waves` and `current_wave_index`: the wave to run next. While a run is paused that is the wave of the
  block that waits; those blocks of it that have a record do not run again.
- `context["blocks"]`: a record for each block that has run, was skipped, or waits (`BlockRecord`);
  `context["started_at"]`: when the run began; at its end `context["outputs"]` or `context["error"]`.
- `completed_blocks`: ids of the blocks that are over, however they ended, by wave.
- `pause_metadata["pending"]`: ids of the other blocks of the wave that wait for an answer, beside what the asking
  block itself put there.

Environment variables and what block types make of them never enter it.
"""

import dataclasses
import math
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from workflows_mcp.engine.checkpoint import CheckpointState, CheckpointStatus
from workflows_mcp.engine.plan import Plan, plan_workflow
from workflows_mcp.engine.workflow import define_workflow
from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["BlockRecord", "BlockStatus", "Progress", "new_id"]

BlockStatus = Literal["succeeded", "failed", "skipped", "paused"]

_FRAME_FIELDS = ("name", "description", "inputs", "outputs")


def new_id() -> str:
    """A fresh id; ids sort by the millisecond in which they were made, which keeps a database's index compact."""
    return f"{int(time.time() * 1000):012x}{secrets.token_hex(10)}"


@dataclass
class BlockRecord:
    """What became of a block.

    Attributes:
        status: `succeeded`, `failed`, `skipped`, or `paused`: it waits for an answer.
        wave: Index of its wave.
        inputs: Its inputs with the expressions evaluated; None when it did not come to that.
        outputs: What it gave; a failed one may have some too.
        message: Why it failed or was skipped.
        started_at: Unix time in seconds.
        completed_at: Unix time in seconds.
        prompt: What it asks; kept when it is answered.
        pause_metadata: What else it told about its pause.
    """

    status: BlockStatus
    wave: int
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    message: str | None = None
    started_at: float | None = None
    completed_at: float | None = None
    prompt: str | None = None
    pause_metadata: dict[str, Any] | None = None

    def without_data(self) -> "BlockRecord":
        """The same without what can be large."""
        return dataclasses.replace(self, inputs=None, outputs={}, prompt=None, pause_metadata=None)


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        plan: The workflow.
        run_id: Names the run.
        inputs: The run's inputs.
        started_at: Unix time in seconds.
        records: What became of each block so far, by id.
        wave_index: The wave to run next.
        saved_at: `created_at` of the run's newest checkpoint.
        saved_blocks: The blocks whose records are in it.
        checkpoint_id: The run's newest checkpoint; None before the first.
        parent_checkpoint_id: The checkpoint that the run was forked from.
    """

    plan: Plan
    run_id: str
    inputs: dict[str, Any]
    started_at: float = field(default_factory=time.time)
    records: dict[str, BlockRecord] = field(default_factory=dict)
    wave_index: int = 0
    saved_at: float = -math.inf
    saved_blocks: frozenset[str] = frozenset()
    checkpoint_id: str | None = None
    parent_checkpoint_id: str | None = None

    @property
    def workflow_name(self) -> str:
        """Names the workflow."""
        return self.plan.definition.name

    @property
    def wave(self) -> tuple[str, ...]:
        """The blocks of the wave to run next; empty after the last."""
        return self.plan.waves[self.wave_index] if self.wave_index < len(self.plan.waves) else ()

    @property
    def waiting(self) -> list[str]:
        """The blocks of the wave that wait for an answer, in the order of the definition."""
        return [block_id for block_id in self.wave if self.status_of(block_id) == "paused"]

    @property
    def failed(self) -> list[str]:
        """The blocks that failed, in the order of the definition."""
        return [block_id for block_id in self.plan.blocks if self.status_of(block_id) == "failed"]

    def status_of(self, block_id: str) -> BlockStatus | None:
        """What became of a block; None: nothing yet."""
        record = self.records.get(block_id)
        return None if record is None else record.status

    def names(self) -> dict[str, Any]:
        """What expressions can read by now; that none reads a block which it does not wait for is the plan's care."""
        return {
            "inputs": self.inputs,
            "blocks": {block_id: _readable(record) for block_id, record in self.records.items()},
            "metadata": {"workflow_name": self.workflow_name, "run_id": self.run_id},
        }

    def to_state(self, status: CheckpointStatus, **end: object) -> CheckpointState:
        """The state to save now.

        Args:
            status: What the run is doing.
            end: `outputs` or `error`, at the run's end.
        """
        definition = self.plan.data
        blocks = {block["id"]: block for block in definition["blocks"]}
        frame = {name: definition[name] for name in _FRAME_FIELDS if name in definition}
        records = {block_id: dict(vars(record)) for block_id, record in self.records.items()}
        asking, *pending = self.waiting if status is CheckpointStatus.PAUSED else [None]
        record = self.records[asking] if asking is not None else None
        return CheckpointState(
            checkpoint_id=new_id(),
            workflow_name=self.workflow_name,
            created_at=max(time.time(), math.nextafter(self.saved_at, math.inf)),
            runtime_inputs=self.inputs,
            context={"started_at": self.started_at, "blocks": records, **end},
            completed_blocks=[
                block_id
                for wave in self.plan.waves
                for block_id in wave
                if self.status_of(block_id) not in {None, "paused"}
            ],
            current_wave_index=self.wave_index,
            execution_waves=[list(wave) for wave in self.plan.waves],
            block_definitions=blocks,
            workflow_stack=[{**frame, "blocks": list(blocks)}],
            parent_checkpoint_id=self.parent_checkpoint_id,
            paused_block_id=asking,
            pause_prompt=None if record is None else record.prompt,
            pause_metadata=None if record is None else {**(record.pause_metadata or {}), "pending": pending},
            run_id=self.run_id,
            status=status,
        )

    @classmethod
    def from_state(cls, state: CheckpointState) -> "Progress":
        """How far the run had come when this was saved.

        Raises:
            WorkflowDefinitionError: Another program saved it, or the workflow in it cannot run any more, say
                because a block type is gone.
        """
        label = f"the workflow in checkpoint {state.checkpoint_id!r}"
        try:
            (frame,) = state.workflow_stack
            blocks = [state.block_definitions[block_id] for block_id in frame["blocks"]]
            records = {block_id: BlockRecord(**record) for block_id, record in state.context["blocks"].items()}
            started_at = state.context["started_at"]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise WorkflowDefinitionError(
                f"checkpoint {state.checkpoint_id!r} was not saved by this executor, or by a newer version of it, "
                "and cannot be continued by it"
            ) from None
        plan = plan_workflow(define_workflow({**frame, "blocks": blocks}, label), label)
        if state.run_id is None:
            raise WorkflowDefinitionError(
                f"checkpoint {state.checkpoint_id!r} belongs to no run (a downgrade of the schema drops the runs), and "
                "cannot be continued"
            )
        if [list(wave) for wave in plan.waves] != state.execution_waves:
            raise WorkflowDefinitionError(f"{label}: its waves are not those of its blocks")
        progress = cls(
            plan=plan,
            run_id=state.run_id,
            inputs=state.runtime_inputs,
            started_at=started_at,
            records=records,
            wave_index=state.current_wave_index,
            saved_at=state.created_at,
            saved_blocks=frozenset(records),
            checkpoint_id=state.checkpoint_id,
            parent_checkpoint_id=state.parent_checkpoint_id,
        )
        if state.paused_block_id != next(iter(progress.waiting), None):
            raise WorkflowDefinitionError(f"{label}: the block that waits for an answer is not the one it names")
        return progress


def _readable(record: BlockRecord) -> dict[str, Any]:
    return {
        "outputs": record.outputs,
        "status": record.status,
        "succeeded": record.status == "succeeded",
        "failed": record.status == "failed",
        "skipped": record.status == "skipped",
    }
