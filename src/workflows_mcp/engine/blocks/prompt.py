"""`Prompt`: asks a human, and goes on with the answer."""

from typing import ClassVar

from workflows_mcp.engine.blocks.block import BlockContext, BlockInputs, BlockType, Pause, Text

__all__ = ["Prompt", "PromptInputs"]


class PromptInputs(BlockInputs):
    """What a `Prompt` takes.

    Attributes:
        prompt: What is asked.
    """

    prompt: Text


class Prompt(BlockType[PromptInputs]):
    """Pauses the run; its output `response` is the answer."""

    name: ClassVar[str] = "Prompt"
    inputs = PromptInputs
    output_names: ClassVar[frozenset[str] | None] = frozenset({"response"})

    async def run(self, inputs: PromptInputs, context: BlockContext) -> Pause:  # noqa: ARG002 - the contract's
        """See `BlockType.run`."""
        return Pause(inputs.prompt)
