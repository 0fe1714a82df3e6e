"""What the two processes do of which the first is stopped in the middle of a run, and the second takes it over."""

import asyncio
import os
import time
from pathlib import Path

from tests.faults.crew import Journal, append
from workflows_mcp import CheckpointConfig, LeaseLostError, SQLAlchemyCheckpointStore, WorkflowExecutor, block_type
from workflows_mcp.engine.blocks import BlockContext

LEASE_SECONDS = 1.0

WORKFLOW = """\
name: stopped
inputs:
  items: {type: dict}
blocks:
  - id: before
    type: Note
    inputs: {waits: false}
  - id: held
    type: Note
    depends_on: [before]
    for_each: "{{ inputs.items }}"
    for_each_mode: sequential
    inputs: {waits: "{{ each.value }}", item: "{{ each.key }}"}
  - id: after
    type: Note
    depends_on: [held]
    inputs: {waits: false}
outputs:
  pid: "{{ blocks.after.outputs.result }}"
"""


def open_executor(store: SQLAlchemyCheckpointStore, folder: Path) -> WorkflowExecutor:
    """An executor of this process, with the block type `Note`."""

    async def note(*, waits: bool, context: BlockContext, item: str = "") -> int:
        Journal(folder).note(context.run_id, f"{context.block_id}[{item}]" if item else context.block_id)
        # Nothing else in this process gets a turn before the block is over, and so no renewal can stop the run.
        while waits and not (folder / "go").exists():
            time.sleep(0.005)  # noqa: ASYNC251 - see above
        return os.getpid()

    block_type("Note")(note)
    return WorkflowExecutor(store, CheckpointConfig(auto_cleanup=False), lease_seconds=LEASE_SECONDS)


async def begin(url: str, folder: Path, items: dict[str, bool]) -> None:
    """The process that is stopped.

    Args:
        url: The database.
        folder: Takes the journal, and `lost`, the error by which the process learns that the run is not its own.
        items: The items of the block in which it is stopped, and whether they wait for that.
    """
    async with SQLAlchemyCheckpointStore(url) as store:
        try:
            await open_executor(store, folder).execute_workflow(WORKFLOW, {"items": items}, run_id="r")
        except LeaseLostError as error:
            append(folder / "lost", str(error))


async def take_over(url: str, folder: Path) -> None:
    """The process that recovers the run as soon as it may; `taken` in the folder says what it came to, and where."""
    async with SQLAlchemyCheckpointStore(url) as store:
        executor = open_executor(store, folder)
        while not (found := await executor.recover()):
            await asyncio.sleep(0.05)
        append(folder / "taken", f"{[one.status for one in found]} {found[0].outputs['pid']}")
