"""A workflow made ready to run: checked as a whole, ordered into waves, its expressions compiled.

Whatever can be known to be wrong before anything runs is found here.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import ValidationError

from workflows_mcp.engine.blocks import BLOCK_TYPES, BlockType
from workflows_mcp.engine.expressions import (
    DICT_METHODS,
    Compiled,
    ExpressionError,
    Reference,
    Template,
    bounded_compilation,
    compile_value,
    references_in,
)
from workflows_mcp.engine.workflow import BlockDefinition, WorkflowDefinition, coerce_default
from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["BlockPlan", "Plan", "plan_workflow"]

_BLOCK_FIELDS = frozenset({"outputs", "succeeded", "failed", "skipped", "status"})
_METADATA_FIELDS = frozenset({"workflow_name", "run_id"})


@dataclass(frozen=True)
class BlockPlan:
    """A block made ready to run.

    Attributes:
        definition: What stands in the workflow.
        block_type: What runs it.
        inputs: Its inputs with their expressions compiled.
        condition: Its condition; True when it has none.
        ancestors: Ids of the blocks that it depends on, directly or not: those whose results it can read.
    """

    definition: BlockDefinition
    block_type: BlockType[Any]
    inputs: Compiled
    condition: Template | bool
    ancestors: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """A workflow made ready to run.

    Attributes:
        definition: What stands in its file.
        blocks: Its blocks by id, in the order of the definition.
        waves: Block ids by wave; in a wave they stand in the order of the definition.
        outputs: Its outputs with their expressions compiled.
    """

    definition: WorkflowDefinition
    blocks: Mapping[str, BlockPlan]
    waves: tuple[tuple[str, ...], ...]
    outputs: Mapping[str, Compiled]

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """The definition as plain JSON data, as it was written; not to be changed."""
        return self.definition.model_dump(mode="json", exclude_unset=True)


def plan_workflow(definition: WorkflowDefinition, label: str | None = None) -> Plan:
    """Check a definition as a whole and make it ready to run.

    Args:
        definition: What to run.
        label: What it is called in messages; by default its name.

    Raises:
        WorkflowDefinitionError: Two blocks have one id, a dependency or a block type is unknown, the blocks form a
            cycle, inputs of a block are missing, unknown or of a wrong type, a default is of a wrong type, an
            expression is broken, or reads what cannot be there when it is evaluated.
    """
    label = label or f"workflow {definition.name!r}"
    by_id: dict[str, BlockDefinition] = {}
    for block in definition.blocks:
        if block.id in by_id:
            raise WorkflowDefinitionError(f"{label}: two blocks have the id {block.id!r}")
        by_id[block.id] = block
    for name, declared in definition.inputs.items():
        _check_default(name, declared.default, label)
        if declared.has_default:
            coerce_default(declared, f"{label}: input {name!r} ({declared.type})")
        if declared.has_default and declared.required:
            raise WorkflowDefinitionError(f"{label}: input {name!r} is required and has a default: it can be one only")
    waves = _waves(by_id, label)
    with bounded_compilation():
        blocks = _plan_blocks(by_id, waves, definition, label)
        outputs: dict[str, Compiled] = {}
        for name, text in definition.outputs.items():
            where = f"outputs.{name}"
            outputs[name] = _compile(text, where, label)
            _check_references(outputs[name], where, label, _Scope(definition, by_id, frozenset(by_id), None))
    return Plan(definition, blocks, waves, outputs)


def _check_default(name: str, default: object, label: str) -> None:
    if isinstance(default, str) and "{{" in default:
        raise WorkflowDefinitionError(f"{label}: the default of input {name!r} must not hold an expression")


def _waves(blocks: Mapping[str, BlockDefinition], label: str) -> tuple[tuple[str, ...], ...]:
    for block in blocks.values():
        for dependency in block.depends_on:
            if dependency not in blocks:
                raise WorkflowDefinitionError(
                    f"{label}: block {block.id!r} depends on {dependency!r}, which is no block; "
                    f"the blocks are {', '.join(blocks)}"
                )
    sorter = TopologicalSorter({block.id: block.depends_on for block in blocks.values()})
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


def _plan_blocks(
    by_id: Mapping[str, BlockDefinition],
    waves: Iterable[Iterable[str]],
    definition: WorkflowDefinition,
    label: str,
) -> dict[str, BlockPlan]:
    ancestors: dict[str, frozenset[str]] = {}
    for wave in waves:
        for block_id in wave:
            parents = by_id[block_id].depends_on
            ancestors[block_id] = frozenset(parents).union(*(ancestors[parent] for parent in parents))
    return {
        block_id: _plan_block(block, _Scope(definition, by_id, ancestors[block_id], block_id), label)
        for block_id, block in by_id.items()
    }


def _plan_block(block: BlockDefinition, scope: "_Scope", label: str) -> BlockPlan:
    where = f"{label}: block {block.id!r}"
    block_type = BLOCK_TYPES.get(block.type)
    if block_type is None:
        raise WorkflowDefinitionError(
            f"{where}: there is no block type {block.type!r}; there are {', '.join(sorted(BLOCK_TYPES))}"
        )
    inputs = _compile(block.inputs, "inputs", where)
    _check_inputs(block_type, block.inputs, inputs, where)
    _check_references(inputs, "inputs", where, scope)
    condition = _compile_condition(block, where)
    if isinstance(condition, Template):
        _check_references(condition, "condition", where, scope)
    return BlockPlan(block, block_type, inputs, condition, scope.readable)


def _compile(value: Any, path: str, where: str) -> Compiled:  # noqa: ANN401 - JSON data
    try:
        return compile_value(value, path)
    except ExpressionError as error:
        raise WorkflowDefinitionError(f"{where}, {error}") from None


def _compile_condition(block: BlockDefinition, where: str) -> Template | bool:
    if block.condition is None:
        return True
    compiled = _compile(block.condition, "condition", where)
    if isinstance(compiled, Template):
        return compiled
    verdict = truth_of(compiled)
    if verdict is None:
        raise WorkflowDefinitionError(
            f"{where}, condition: it is neither an expression nor true or false; an expression stands in {{{{ }}}}"
        )
    return verdict


def truth_of(value: object) -> bool | None:
    """What a condition's value means: a bool, or the text `true` or `false`; None: neither."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def _check_inputs(block_type: BlockType[Any], inputs: dict[str, Any], compiled: Compiled, where: str) -> None:
    """Check the names of all inputs, and the values of those that hold no expression."""
    assert isinstance(compiled, dict)
    waiting = {name for name, value in compiled.items() if value != inputs[name]}
    try:
        block_type.inputs.model_validate(inputs)
    except ValidationError as error:
        problems = [
            problem
            for problem in error.errors(include_url=False, include_input=False)
            if (*problem["loc"], "")[0] not in waiting or problem["type"] == "extra_forbidden"
        ]
        if problems:
            raise WorkflowDefinitionError(f"{where}: {describe_inputs(block_type, problems)}") from None


def describe_inputs(block_type: BlockType[Any], problems: Iterable[Any]) -> str:
    """What is wrong with a block's inputs, by pydantic's error details; shows no value."""
    fields = block_type.inputs.model_fields
    described = []
    for problem in problems:
        path = "inputs." + ".".join(str(step) for step in problem["loc"] if step != "[key]")
        if problem["type"] == "missing":
            described.append(f"{path} is missing")
        elif problem["type"] == "extra_forbidden":
            described.append(f"{path} is unknown; {block_type.name} takes {', '.join(fields)}")
        else:
            described.append(f"{path}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(described)


@dataclass(frozen=True)
class _Scope:
    """What the expressions of one place may read: of `block_id`, or of the workflow's outputs when that is None."""

    definition: WorkflowDefinition
    blocks: Mapping[str, BlockDefinition]
    readable: frozenset[str]
    block_id: str | None

    def refusal(self, reference: Reference) -> str | None:
        """Why it cannot be read; None when it can."""
        root, *path = reference
        if root == "inputs":
            return self._refused_input(path)
        if root == "blocks":
            return self._refused_block(path)
        if root == "metadata":
            if path and path[0] not in _METADATA_FIELDS | DICT_METHODS:
                return f"metadata has no {path[0]!r}; it has {', '.join(sorted(_METADATA_FIELDS))}"
            return None
        return f"{root!r} is not defined; there are inputs, blocks and metadata"

    def _refused_input(self, path: list[str]) -> str | None:
        if path and path[0] not in self.definition.inputs and path[0] not in DICT_METHODS:
            declared = ", ".join(self.definition.inputs) or "none"
            return f"the workflow declares no input {path[0]!r}; it declares {declared}"
        return None

    def _refused_block(self, path: list[str]) -> str | None:
        if not path:
            return "blocks is read by id: blocks.ID.outputs, with the id written out"
        block_id, *path = path
        if block_id not in self.readable:
            return self._unreadable(block_id)
        if path and path[0] not in _BLOCK_FIELDS | DICT_METHODS:
            return f"blocks.{block_id} has no {path[0]!r}; it has {', '.join(sorted(_BLOCK_FIELDS))}"
        if len(path) > 1 and path[0] == "outputs":
            return self._refused_output(block_id, path[1])
        return None

    def _unreadable(self, block_id: str) -> str:
        if block_id not in self.blocks:
            return f"there is no block {block_id!r}; there are {', '.join(self.blocks)}"
        if block_id == self.block_id:
            return "a block cannot read its own results"
        return f"it reads block {block_id!r} without waiting for it: add {block_id!r} to depends_on"

    def _refused_output(self, block_id: str, name: str) -> str | None:
        block_type = BLOCK_TYPES.get(self.blocks[block_id].type)
        known = None if block_type is None else block_type.output_names
        if known is None or name in known or name in DICT_METHODS:
            return None
        return (
            f"block {block_id!r} has no output {name!r}; a {self.blocks[block_id].type} has {', '.join(sorted(known))}"
        )


def _check_references(compiled: Compiled, path: str, where: str, scope: _Scope) -> None:
    for place, reference in references_in(compiled, path):
        refusal = scope.refusal(reference)
        if refusal is not None:
            raise WorkflowDefinitionError(f"{where}, {place}: {refusal}, in {{{{ {'.'.join(reference)} }}}}")
