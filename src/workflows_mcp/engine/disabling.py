"""Block types that a server does not offer: what a workflow with one of them comes to here."""

from collections.abc import Collection

from workflows_mcp.engine.blocks import block_type_names
from workflows_mcp.engine.plan import Plan
from workflows_mcp.engine.progress import Progress
from workflows_mcp.errors import BlockTypeDisabledError, StoreConfigurationError

__all__ = ["DisabledBlocks"]


class DisabledBlocks:
    """The block types that are switched off.

    Args:
        names: Their names.

    Raises:
        StoreConfigurationError: There is no such block type.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        if isinstance(names, str):  # of which every character would be taken for a name
            names = (names,)
        self._names = frozenset(names)
        unknown = sorted(map(repr, self._names.difference(block_type_names()))) if self._names else []
        if unknown:
            raise StoreConfigurationError(
                f"WORKFLOWS_DISABLED_BLOCKS (disabled_blocks): there is no block type {', '.join(unknown)}; there are "
                f"{', '.join(block_type_names())}"
            )

    def __bool__(self) -> bool:
        return bool(self._names)

    def check(self, plan: Plan) -> None:
        """Make sure that a workflow may run here.

        Raises:
            BlockTypeDisabledError: A block is of a type that is switched off.
        """
        for block_id, block in plan.blocks.items() if self._names else ():
            if block.definition.type in self._names:
                raise BlockTypeDisabledError(
                    f"workflow {plan.definition.name!r}: block {block_id!r}: the block type {block.definition.type!r} "
                    "is switched off on this server (WORKFLOWS_DISABLED_BLOCKS): run it on one that has it",
                    plan.data,
                )

    def check_run(self, progress: Progress) -> None:
        """Make sure that a run may go on here, by the workflows that are kept with it, nested ones too.

        They may have to be compiled, which belongs into a thread.

        Raises:
            BlockTypeDisabledError: It may not.
            WorkflowDefinitionError: A nested workflow cannot run any more.
        """
        if self._names:
            self.check(progress.root.plan)
            for name in progress.nested.definitions:
                self.check(progress.nested.saved(name))
