"""Blocks that give what nobody expects fail, and take nothing else along."""

from typing import Any

import pytest

from workflows_mcp.engine.blocks import BLOCK_TYPES, Call, Pause
from workflows_mcp.engine.blocks.python import FunctionBlock
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor

ODD: dict[str, Any] = {
    "Prompt": lambda: Pause(5),  # type: ignore[arg-type] # that is the point, here and below
    "Metadata": lambda: Pause("?", ["list"]),  # type: ignore[arg-type]
    "Inputs": lambda: Call("odd", None),  # type: ignore[arg-type]
}

ODD_TEXTS = {
    "for_each: \"{{ {'\\\\ud800': 1} }}\"": "for_each",
    'for_each: "{{ [2 ** 70] }}"': "for_each",
    "outputs: {file: {path: \"{{ 'long' * 2000 }}\"}}": "outputs.file.path: it is no path of a file",
    'outputs: {file: {path: "{{ 5 }}"}}': "outputs.file.path: it is no path of a file",
    "outputs: {file: {path: /dev/zero}}": "the block wrote no file '/dev/zero'",
    "inputs: {working_dir: 5}, outputs: {file: {path: absent}}": "the block wrote no file 'absent'",
}


@pytest.fixture(autouse=True)
def _odd_block_types(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fine(working_dir: Any = None) -> None:
        """Gives nothing."""

    for name, function in {**ODD, "Fine": fine}.items():
        monkeypatch.setitem(BLOCK_TYPES, name, FunctionBlock(name, function))


async def blocks_after(type_and_more: str) -> dict[str, Any]:
    """What becomes of an odd block, and of one beside it."""
    store = InMemoryCheckpointStore()
    text = f"name: odd\nblocks:\n  - {{id: beside, type: Fine}}\n  - {type_and_more}\n"
    result = await WorkflowExecutor(store).execute_workflow(text)
    assert result.status == "failure"
    state = await store.load_checkpoint(result.checkpoint_id or "")
    assert state is not None
    blocks: dict[str, Any] = state.context["blocks"]
    assert blocks["beside"]["status"] == "succeeded"
    return blocks


@pytest.mark.parametrize("name", ODD)
async def test_a_block_type_that_gives_what_it_must_not_fails_its_block(name: str) -> None:
    """It is saved as failed, and all others run."""
    assert (await blocks_after(f"{{id: odd, type: {name}}}"))["odd"]["status"] == "failed"


@pytest.mark.parametrize("more", ODD_TEXTS)
async def test_a_value_that_cannot_be_what_it_is_for_fails_its_block(more: str) -> None:
    """The message says where, and stays short."""
    blocks = await blocks_after(f"{{id: odd, type: Fine, {more}}}")
    assert ODD_TEXTS[more] in blocks["odd"]["message"]
    assert len(blocks["odd"]["message"]) < 500
