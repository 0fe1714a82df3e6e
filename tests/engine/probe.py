"""A block type that tells the tests what ran, in which order, and lets them hold it."""

import asyncio
import json
from typing import Any, ClassVar

from workflows_mcp.engine.blocks import BlockContext, BlockFailedError, BlockInputs, BlockType, Pause


class ProbeInputs(BlockInputs):
    """What a `Probe` is told to do."""

    give: Any = None
    fail: str | None = None
    ask: str | None = None
    after: Any = None


class Probe(BlockType[ProbeInputs]):
    """Gives `give` as its output `value`, fails, or asks; blocks in `held` wait until they are released."""

    name: ClassVar[str] = "Probe"
    inputs = ProbeInputs

    def __init__(self) -> None:
        self.started: list[str] = []
        self.finished: list[str] = []
        self.held: dict[str, asyncio.Event] = {}
        self.all_started = asyncio.Event()
        self.wait_for = 0
        self.odd_outputs: dict[str, Any] = {}

    async def run(self, inputs: ProbeInputs, context: BlockContext) -> dict[str, Any] | Pause:
        """See `BlockType.run`."""
        self.started.append(context.block_id)
        if len(self.started) >= self.wait_for:
            self.all_started.set()
        if context.block_id in self.held:
            await self.held[context.block_id].wait()
        if inputs.fail is not None:
            raise BlockFailedError(inputs.fail, {"value": inputs.give})
        self.finished.append(context.block_id)
        if inputs.ask is not None:
            return Pause(inputs.ask, {"choices": ["yes", "no"]})
        return {"value": self.odd_outputs.get(context.block_id, inputs.give)}

    def hold(self, *block_ids: str, started: int) -> None:
        """Make these blocks wait; `all_started` is set once `started` blocks run."""
        self.held = {block_id: asyncio.Event() for block_id in block_ids}
        self.wait_for = started
        self.all_started.clear()

    def release(self) -> None:
        """Let all blocks go on."""
        for event in self.held.values():
            event.set()


def block(block_id: str, *needs: str, condition: object = None, **inputs: Any) -> dict[str, Any]:
    """A `Probe` block as it stands in a workflow."""
    made: dict[str, Any] = {"id": block_id, "type": "Probe", "depends_on": list(needs), "inputs": inputs}
    return made if condition is None else {**made, "condition": condition}


def shell(block_id: str, command: str, *needs: str, **inputs: Any) -> dict[str, Any]:
    """A `Shell` block as it stands in a workflow."""
    return {"id": block_id, "type": "Shell", "depends_on": list(needs), "inputs": {"command": command, **inputs}}


def text(*blocks: dict[str, Any], name: str = "flow", **rest: Any) -> str:
    """A workflow's file; JSON is YAML."""
    return json.dumps({"name": name, "blocks": list(blocks), **rest}) + "\n"
