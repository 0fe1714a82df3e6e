"""The ways that a run can go, each as the executor has saved it once; of these, copies are made."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflows_mcp import CheckpointState, InMemoryCheckpointStore, WorkflowExecutor
from workflows_mcp.engine.contract import columns_of
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.persistence.row_codec import RowCodec

__all__ = ["CHECKPOINTS_A_RUN", "Copy", "Saved", "make_fates"]

_NAME, _CHECKPOINT, _RUN = "WORKFLOW-NAME", "CHECKPOINT-ID", "RUN-ID"
"""Stand in what the executor has made, where each copy has its own."""

_WORKFLOW = f"""
name: {_NAME}
inputs: {{asks: {{type: bool, default: false}}, code: {{type: num, default: 0}}}}
blocks:
  - {{id: fetch, type: Shell, inputs: {{command: "echo 1,204 rows"}}}}
  - {{id: check, type: Shell, inputs: {{command: "exit {{{{ inputs.code }}}}"}}, depends_on: [fetch]}}
  - {{id: sort, type: Shell, inputs: {{command: "echo sorted"}}, depends_on: [check]}}
  - {{id: build, type: Shell, inputs: {{command: "echo built"}}, depends_on: [sort]}}
  - id: confirm
    type: Prompt
    condition: "{{{{ inputs.asks }}}}"
    inputs: {{prompt: "1,204 rows are ready. Publish them?", choices: ["yes", "no"]}}
    depends_on: [build]
  - id: publish
    type: Shell
    inputs: {{command: "echo published"}}
    depends_on: [{{block: confirm, required: false}}]
  - {{id: notify, type: Shell, inputs: {{command: "echo sent"}}, depends_on: [publish]}}
  - {{id: tidy, type: Shell, inputs: {{command: "echo removed"}}, depends_on: [notify]}}
"""

CHECKPOINTS_A_RUN = 10
"""What a run has that went through: before the first of its eight waves, after each, and at its end."""

_INPUTS: dict[str, dict[str, Any]] = {
    "completed": {},
    "answered": {"asks": True},
    "cancelled": {"asks": True},
    "waiting": {"asks": True},
    "failed": {"code": 3},
}

_TIME = re.compile(r"\b\d{10}\.\d+")
_SLOTS = re.compile(rf"({_NAME}|{_CHECKPOINT}|{_RUN}|{_TIME.pattern})")


@dataclass(frozen=True)
class Copy:
    """What is a copy's own.

    Attributes:
        run_id: Its id; 32 hexadecimal digits.
        workflow: The name of its workflow.
        begun: When it began, in Unix seconds.
        seconds: How long it would take to its end.
        lease: Until when a process holds it; None: none does.
    """

    run_id: str
    workflow: str
    begun: float
    seconds: float
    lease: float | None


class Saved:
    """One state of a run as the executor has saved it.

    Args:
        state: That.
        shares: How far the run had come at each time that stands in its states, 0 to 1.

    Attributes:
        share: How far it had come when this was saved.
    """

    def __init__(self, state: CheckpointState, shares: Mapping[str, float]) -> None:
        self.share = shares[repr(state.created_at)]
        self._columns = columns_of(state)
        self._is_first = not state.completed_blocks
        named = dataclasses.replace(state, checkpoint_id=_CHECKPOINT, run_id=_RUN)
        # Every other part is to be filled in: a name, or a time.
        self._parts = [shares.get(part, part) for part in _SLOTS.split(encode_state(named).decode())]

    def row(self, copy: Copy, codec: RowCodec, *, is_head: bool) -> dict[str, Any]:
        """All columns of the same checkpoint of a copy.

        Args:
            copy: Whose it is.
            codec: Makes the payload.
            is_head: Whether no other checkpoint follows it.
        """
        created_at = round(copy.begun + self.share * copy.seconds, 4)
        # In the order of time, as the executor's are.
        checkpoint_id = f"{int(created_at * 1000):012x}{copy.run_id[:20]}"
        if self._is_first:
            checkpoint_id = f"{copy.run_id}-first"
        names = {_NAME: copy.workflow, _CHECKPOINT: checkpoint_id, _RUN: copy.run_id}
        plain = "".join(
            names.get(part, part) if isinstance(part, str) else f"{copy.begun + part * copy.seconds:.4f}"
            for part in self._parts
        )
        columns = {
            **self._columns,
            "checkpoint_id": checkpoint_id,
            "workflow_name": copy.workflow,
            "created_at": created_at,
            "is_paused": is_head and self._columns["is_paused"],
            "run_id": copy.run_id,
            "superseded": not is_head,
            "pinned": False,
            "lease_owner": copy.run_id if is_head and copy.lease else None,
            "lease_expires_at": copy.lease if is_head else None,
        }
        return codec.filled(columns, plain.encode())


async def make_fates() -> dict[str, tuple[Saved, ...]]:
    """What the executor saves of a run, by what becomes of it.

    Returns:
        `completed`; `answered`, and completed then; `failed`; `cancelled`; and `waiting`.
    """
    store = InMemoryCheckpointStore()
    async with WorkflowExecutor(store) as executor:
        for fate, inputs in _INPUTS.items():
            result = await executor.execute_workflow(_WORKFLOW, inputs, run_id=fate)
            if fate == "answered":
                assert result.checkpoint_id is not None
                await executor.resume_workflow(result.checkpoint_id, "yes")
            elif fate == "cancelled":
                await executor.cancel(fate)
    return {fate: _saved([state async for state in store.iter_checkpoints(run_id=fate)]) for fate in _INPUTS}


def _saved(newest_first: Sequence[CheckpointState]) -> tuple[Saved, ...]:
    states = newest_first[::-1]
    times = sorted({text for state in states for text in _TIME.findall(encode_state(state).decode())})
    shares = {text: place / (len(times) - 1) for place, text in enumerate(times)}
    return tuple(Saved(state, shares) for state in states)
