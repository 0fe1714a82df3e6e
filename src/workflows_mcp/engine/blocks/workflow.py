"""`Workflow`: runs another workflow in its place."""

from typing import Any, ClassVar

from pydantic import Field

from workflows_mcp.engine.blocks.block import BlockContext, BlockInputs, BlockType, Call, Text

__all__ = ["Workflow", "WorkflowInputs"]


class WorkflowInputs(BlockInputs):
    """What a `Workflow` takes.

    Attributes:
        workflow: Names the workflow to run.
        inputs: Its inputs by name.
    """

    workflow: Text
    inputs: dict[str, Any] = Field(default_factory=dict)


class Workflow(BlockType[WorkflowInputs]):
    """Has another workflow run; its outputs are that one's, and so are not known beforehand."""

    name: ClassVar[str] = "Workflow"
    inputs = WorkflowInputs

    async def run(self, inputs: WorkflowInputs, context: BlockContext) -> Call:  # noqa: ARG002 - the contract's
        """See `BlockType.run`."""
        return Call(inputs.workflow, inputs.inputs)
