"""What is kept of a run whose state cannot be saved."""

import dataclasses
import math

from workflows_mcp.engine.checkpoint import CheckpointState, CheckpointStatus
from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.progress import Progress

__all__ = ["smaller_states"]


def smaller_states(progress: Progress, error: str) -> list[CheckpointState]:
    """Final states of a run that does not fit, the fullest first.

    Args:
        progress: How far it has come.
        error: Why it ends.
    """
    failed = CheckpointStatus.FAILED
    root = progress.root
    states = []
    unsaved = {one for one, record in root.records.items() if (record.completed_at or math.inf) > progress.saved_at}
    for dropped in (unsaved, root.records.keys()):
        records = {
            block_id: record.without_data() if block_id in dropped else record
            for block_id, record in root.records.items()
            if record.is_over
        }
        bare = Frame(root.plan, root.inputs, root.run_id, None, root.started_at, records, root.wave_index)
        states.append(dataclasses.replace(progress, root=bare).to_state(failed, error=error))
    last = dataclasses.replace(
        states[-1], runtime_inputs={}, block_definitions={}, workflow_stack=[], execution_waves=[], completed_blocks=[]
    )
    context = {"started_at": root.started_at, "blocks": {}, "error": error}
    return [*states, dataclasses.replace(last, context=context)]
