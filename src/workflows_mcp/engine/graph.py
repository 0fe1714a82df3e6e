"""Which blocks of a workflow wait for which: checked, and ordered into waves."""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from workflows_mcp.engine.definition import BlockDefinition
from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["check_dependencies", "waves_of"]


def check_dependencies(block: BlockDefinition, blocks: Mapping[str, BlockDefinition], label: str) -> None:
    """Make sure that a block waits for blocks that are there, and for each once.

    Raises:
        WorkflowDefinitionError: It does not.
    """
    named: set[str] = set()
    for dependency in block.depends_on:
        if dependency.block in named:
            raise WorkflowDefinitionError(f"{label}: block {block.id!r} depends on {dependency.block!r} twice")
        named.add(dependency.block)
        if dependency.block not in blocks:
            raise WorkflowDefinitionError(
                f"{label}: block {block.id!r} depends on {dependency.block!r}, which is no block; "
                f"the blocks are {', '.join(blocks)}"
            )


def waves_of(blocks: Mapping[str, BlockDefinition], label: str) -> tuple[tuple[str, ...], ...]:
    """The ids of the blocks by wave: each in the earliest one that its dependencies allow.

    Raises:
        WorkflowDefinitionError: Blocks wait for each other.
    """
    sorter = TopologicalSorter({block.id: [one.block for one in block.depends_on] for block in blocks.values()})
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise WorkflowDefinitionError(f"{label}: the blocks wait for each other in a cycle: {cycle}") from None
    position = {block_id: index for index, block_id in enumerate(blocks)}
    waves = []
    while sorter.is_active():
        ready = sorter.get_ready()
        waves.append(tuple(sorted(ready, key=position.__getitem__)))
        sorter.done(*ready)
    return tuple(waves)
