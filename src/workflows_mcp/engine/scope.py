"""What the expressions of a workflow may read, each in its place; checked before anything runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from workflows_mcp.engine.blocks import BLOCK_TYPES
from workflows_mcp.engine.definition import BlockDefinition, WorkflowDefinition
from workflows_mcp.engine.expressions import DICT_METHODS, Compiled, Reference, references_in
from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["BLOCK_NAMES", "Scope", "check_references"]

_METADATA_NAMES = frozenset({"workflow_name", "run_id", "started_at"})
_EACH_NAMES = frozenset({"key", "value", "index"})

_SHORTCUTS = frozenset({"succeeded", "failed", "skipped", "status"})

BLOCK_NAMES = _SHORTCUTS | {"outputs", "inputs", "metadata"}
"""What can be read of a block."""

_BLOCK_METADATA = _SHORTCUTS | {
    "started_at",
    "completed_at",
    "execution_time_ms",
    "message",
    "wave",
    "attempts",
}
_TOTALS = frozenset({"count", "count_failed", "count_skipped", "mode"})


@dataclass(frozen=True)
class Scope:
    """What the expressions of one place may read.

    Attributes:
        definition: The workflow.
        inputs: The inputs that are known there.
        readable: The blocks that are over there, by id.
        block_id: The block whose expressions they are; None: the workflow's own.
        extra: Which of `each`, `tmp` and `secrets` there are.
    """

    definition: WorkflowDefinition
    inputs: Iterable[str]
    readable: Mapping[str, BlockDefinition] = field(default_factory=dict)
    block_id: str | None = None
    extra: frozenset[str] = frozenset()

    def refusal(self, reference: Reference) -> str | None:
        """Why it cannot be read; None when it can."""
        root, *path = reference
        if root == "inputs":
            return self._refused_input(path)
        if root == "blocks":
            return self._refused_block(path)
        if root == "metadata":
            return _refused_name("metadata", path, _METADATA_NAMES)
        if root in self.extra:
            return self._refused_extra(root, path)
        return self._undefined(root)

    def _undefined(self, root: str) -> str:
        if root == "each":
            return "each is there only for a block with for_each"
        if root == "secrets":
            return (
                "secrets are there only in the inputs and the condition of a block, and not in those of a Workflow: "
                "what is given to it is kept, so let its own blocks read them"
            )
        names = ", ".join(["inputs", "blocks", "metadata", *sorted(self.extra)])
        return f"{root!r} is not defined; there are {names}"

    def _refused_extra(self, root: str, path: list[str]) -> str | None:
        if root == "each":
            return _refused_name("each", path, _EACH_NAMES)
        if root == "secrets" and (not path or path[0] in DICT_METHODS):
            return "secrets are read by name: secrets.NAME, with the name written out"
        return None

    def _refused_input(self, path: list[str]) -> str | None:
        if path and path[0] not in self.inputs and path[0] not in DICT_METHODS:
            if path[0] in self.definition.inputs:
                return f"input {path[0]!r} is declared further down: a default can read only the inputs before it"
            declared = ", ".join(self.definition.inputs) or "none"
            return f"the workflow declares no input {path[0]!r}; it declares {declared}"
        return None

    def _refused_block(self, path: list[str]) -> str | None:
        if not path:
            return "blocks is read by id: blocks.ID.outputs, with the id written out"
        block_id, *path = path
        block = self.readable.get(block_id)
        if block is None:
            return self._unreadable(block_id)
        if block.for_each is not None:
            return _refused_of_items(block, path)
        return _refused_field(block, f"blocks.{block_id}", path)

    def _unreadable(self, block_id: str) -> str:
        ids = [block.id for block in self.definition.blocks]
        if block_id not in ids:
            return f"there is no block {block_id!r}; there are {', '.join(ids)}"
        if block_id == self.block_id:
            return "a block cannot read its own results"
        if self.block_id is None:
            return f"it reads block {block_id!r} before any block has run"
        return f"it reads block {block_id!r} without waiting for it: add {block_id!r} to depends_on"


def _refused_name(what: str, path: list[str], known: frozenset[str]) -> str | None:
    if path and path[0] not in known | DICT_METHODS:
        return f"{what} has no {path[0]!r}; it has {', '.join(sorted(known))}"
    return None


def _refused_of_items(block: BlockDefinition, path: list[str]) -> str | None:
    """Of a block with for_each; the keys of its items are not known beforehand."""
    if not path:
        return None
    if path[0] in {"outputs", "inputs"}:
        return f"block {block.id!r} runs once for each item: read blocks.{block.id}['KEY'].{path[0]}"
    if path[0] == "metadata":
        return _refused_name(f"blocks.{block.id}.metadata", path[1:], _BLOCK_METADATA - {"attempts"} | _TOTALS)
    if path[0] in _SHORTCUTS | DICT_METHODS:
        return None
    return _refused_field(block, f"blocks.{block.id}['{path[0]}']", path[1:])


def _refused_field(block: BlockDefinition, what: str, path: list[str]) -> str | None:
    """Of a block that runs once, or of an item."""
    if path[:1] == ["metadata"]:
        return _refused_name(f"{what}.metadata", path[1:], _BLOCK_METADATA)
    if path[:1] == ["outputs"] and len(path) > 1:
        return _refused_output(block, path[1])
    return _refused_name(what, path, BLOCK_NAMES)


def _refused_output(block: BlockDefinition, name: str) -> str | None:
    block_type = BLOCK_TYPES.get(block.type)
    known = None if block_type is None else block_type.output_names
    if known is None or name in known or name in block.outputs or name in DICT_METHODS:
        return None
    names = ", ".join(sorted({*known, *block.outputs}))
    return f"block {block.id!r} has no output {name!r}; a {block.type} has {names}"


def check_references(compiled: Compiled, path: str, where: str, scope: Scope) -> frozenset[str]:
    """Check what all expressions in a value read.

    Returns:
        The names with which they begin: `inputs`, `blocks` and so on.

    Raises:
        WorkflowDefinitionError: One reads what cannot be there when it is evaluated.
    """
    roots = set()
    for place, reference in references_in(compiled, path):
        refusal = scope.refusal(reference)
        if refusal is not None:
            raise WorkflowDefinitionError(f"{where}, {place}: {refusal}, in {{{{ {'.'.join(reference)} }}}}")
        roots.add(reference[0])
    return frozenset(roots)
