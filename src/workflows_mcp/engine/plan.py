"""A workflow made ready to run: checked as a whole, ordered into waves, its expressions compiled.

Whatever can be known to be wrong before anything runs is found here.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from workflows_mcp.engine.blocks import BLOCK_TYPES, BlockType
from workflows_mcp.engine.definition import BlockDefinition, ValueType, WorkflowDefinition
from workflows_mcp.engine.expressions import (
    Compiled,
    ExpressionError,
    Template,
    bounded_compilation,
    compile_value,
)
from workflows_mcp.engine.flaws import Flaws
from workflows_mcp.engine.graph import check_dependencies, waves_of
from workflows_mcp.engine.inputs import coerce_default
from workflows_mcp.engine.plain_json import sealed
from workflows_mcp.engine.scope import Scope, check_references
from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["BlockPlan", "Plan", "describe_inputs", "plan_workflow", "truth_of"]

_NESTING = "Workflow"
"""The block type whose `workflow` input names another workflow, and is given all of its `inputs` to keep."""

_WRITE_NO_FILES = frozenset({_NESTING, "Prompt"})


@dataclass(frozen=True)
class BlockPlan:
    """A block made ready to run.

    Attributes:
        definition: What stands in the workflow.
        block_type: What runs it.
        inputs: Its inputs with their expressions compiled.
        condition: Its condition; True when it has none.
        for_each: Its items; None when it runs once.
        files: The paths of its file outputs by name.
        reads: The names with which its expressions begin, such as `inputs`.
        asks_each: Whether its condition is asked for each item.
        is_handled: Whether the run goes well even if it fails.
    """

    definition: BlockDefinition
    block_type: BlockType[Any]
    inputs: Compiled
    condition: Template | bool
    for_each: Compiled
    files: Mapping[str, Compiled]
    reads: frozenset[str]
    asks_each: bool
    is_handled: bool

    @functools.cached_property
    def nested_name(self) -> str | None:
        """The name of the workflow that it runs, where that is written out."""
        name = self.inputs.get("workflow") if isinstance(self.inputs, dict) else None
        return name if self.definition.type == _NESTING and isinstance(name, str) else None


@dataclass(frozen=True)
class Plan:
    """A workflow made ready to run.

    Attributes:
        definition: What stands in its file.
        blocks: Its blocks by id, in the order of the definition.
        waves: Block ids by wave; in a wave they stand in the order of the definition.
        defaults: The defaults of its inputs with their expressions compiled, where there are any.
        outputs: Its outputs with their expressions compiled, and their types.
    """

    definition: WorkflowDefinition
    blocks: Mapping[str, BlockPlan]
    waves: tuple[tuple[str, ...], ...]
    defaults: Mapping[str, Compiled]
    outputs: Mapping[str, tuple[Compiled, ValueType | None]]

    @functools.cached_property
    def names_others(self) -> bool:
        """Whether its blocks name workflows that they run."""
        return any(block.nested_name is not None for block in self.blocks.values())

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """The definition as plain JSON data, as it was written; not to be changed."""
        return self.definition.model_dump(mode="json", exclude_unset=True)

    @functools.cached_property
    def block_data(self) -> dict[str, Any]:
        """The blocks' definitions by id, as plain JSON data; not to be changed."""
        blocks: dict[str, Any] = sealed({block["id"]: block for block in self.data["blocks"]}, depth=1)
        return blocks

    @functools.cached_property
    def frame_data(self) -> dict[str, Any]:
        """The rest of the definition, with the ids of the blocks in their order; not to be changed."""
        frame: dict[str, Any] = sealed({**self.data, "blocks": list(self.blocks)}, depth=2)
        return frame

    @functools.cached_property
    def wave_lists(self) -> list[list[str]]:
        """The waves as plain JSON data; not to be changed."""
        waves: list[list[str]] = sealed([list(wave) for wave in self.waves], depth=1)
        return waves


def plan_workflow(definition: WorkflowDefinition, label: str | None = None) -> Plan:
    """Check a definition as a whole and make it ready to run.

    Args:
        definition: What to run.
        label: What it is called in messages; by default its name.

    Raises:
        WorkflowDefinitionError: Two blocks have one id, a dependency or a block type is unknown, the blocks form a
            cycle, inputs of a block are missing, unknown or of a wrong type, a default is of a wrong type, an
            expression is broken, or reads what cannot be there when it is evaluated. Only once the graph is right
            is the rest looked at; then all that is wrong is told at once.
    """
    label = label or f"workflow {definition.name!r}"
    flaws = Flaws(label)
    by_id: dict[str, BlockDefinition] = {}
    for block in definition.blocks:
        with flaws.gathered():
            if block.id in by_id:
                raise WorkflowDefinitionError(f"{label}: two blocks have the id {block.id!r}")
            by_id[block.id] = block
    for block in definition.blocks:
        with flaws.gathered():
            check_dependencies(block, by_id, label)
    flaws.tell()
    waves = waves_of(by_id, label)
    with bounded_compilation():
        defaults = _plan_defaults(definition, label, flaws)
        blocks = _plan_blocks(by_id, waves, definition, label, flaws)
        outputs: dict[str, tuple[Compiled, ValueType | None]] = {}
        for name, declared in definition.outputs.items():
            where = f"outputs.{name}"
            with flaws.gathered():
                compiled = _compile(declared.value, where, label)
                check_references(compiled, where, label, Scope(definition, definition.inputs, by_id))
                outputs[name] = compiled, declared.type
    flaws.tell()
    return Plan(definition, blocks, waves, defaults, outputs)


def _plan_defaults(definition: WorkflowDefinition, label: str, flaws: Flaws) -> dict[str, Compiled]:
    defaults: dict[str, Compiled] = {}
    known: list[str] = []
    for name, declared in definition.inputs.items():
        where = f"{label}: input {name!r}"
        with flaws.gathered():
            if declared.has_default and declared.required:
                raise WorkflowDefinitionError(f"{where} is required and has a default: it can be one only")
            compiled = _compile(declared.default, "default", where)
            reads = check_references(compiled, "default", where, Scope(definition, tuple(known)))
            if reads or _has_expressions(compiled):
                defaults[name] = compiled
            elif declared.has_default:
                coerce_default(declared, declared.default, f"{where} ({declared.type})")
        known.append(name)
    return defaults


def _has_expressions(compiled: Compiled) -> bool:
    if isinstance(compiled, dict | list):
        return any(map(_has_expressions, compiled.values() if isinstance(compiled, dict) else compiled))
    return isinstance(compiled, Template)


def _plan_blocks(
    by_id: Mapping[str, BlockDefinition],
    waves: Iterable[Iterable[str]],
    definition: WorkflowDefinition,
    label: str,
    flaws: Flaws,
) -> dict[str, BlockPlan]:
    ancestors: dict[str, frozenset[str]] = {}
    for wave in waves:
        for block_id in wave:
            parents = [one.block for one in by_id[block_id].depends_on]
            ancestors[block_id] = frozenset(parents).union(*(ancestors[parent] for parent in parents))
    handled = {one.block for block in by_id.values() for one in block.depends_on if not one.required}
    planned = {}
    for block_id, block in by_id.items():
        extra = {"tmp"}
        if block.type != _NESTING:
            extra.add("secrets")
        if block.for_each is not None:
            extra.add("each")
        readable = {one: by_id[one] for one in ancestors[block_id]}
        scope = Scope(definition, definition.inputs, readable, block_id, frozenset(extra))
        is_handled = block.continue_on_error or block_id in handled
        with flaws.gathered():
            planned[block_id] = _plan_block(block, scope, label, is_handled=is_handled)
    return planned


def _plan_block(block: BlockDefinition, scope: Scope, label: str, *, is_handled: bool) -> BlockPlan:
    where = f"{label}: block {block.id!r}"
    block_type = BLOCK_TYPES.get(block.type)
    if block_type is None:
        raise WorkflowDefinitionError(
            f"{where}: there is no block type {block.type!r}; there are {', '.join(sorted(BLOCK_TYPES))}"
        )
    for key in ("for_each_mode", "max_parallel"):
        if block.for_each is None and key in block.model_fields_set:
            raise WorkflowDefinitionError(f"{where}: {key} is there only for a block with for_each")
    inputs = _compile(block.inputs, "inputs", where)
    _check_inputs(block_type, block.inputs, inputs, where)
    reads = check_references(inputs, "inputs", where, scope)
    condition = _compile_condition(block, where)
    asked = check_references(condition, "condition", where, scope)
    outside = Scope(scope.definition, scope.inputs, scope.readable, scope.block_id, frozenset({"tmp"}))
    for_each = _compile(block.for_each, "for_each", where)
    reads_items = check_references(for_each, "for_each", where, outside)
    files = _plan_files(block, block_type, where)
    afterwards = Scope(scope.definition, scope.inputs, scope.readable, scope.block_id, scope.extra - {"secrets"})
    reads_files = check_references(dict(files), "outputs", where, afterwards)
    reads = reads | asked | reads_items | reads_files
    return BlockPlan(
        block, block_type, inputs, condition, for_each, files, reads, asks_each="each" in asked, is_handled=is_handled
    )


def _plan_files(block: BlockDefinition, block_type: BlockType[Any], where: str) -> dict[str, Compiled]:
    if block.outputs and block.type in _WRITE_NO_FILES:
        raise WorkflowDefinitionError(f"{where}: a {block.type} writes no files, so it takes no outputs")
    for name in block.outputs:
        if name in (block_type.output_names or ()):
            raise WorkflowDefinitionError(f"{where}: outputs.{name}: a {block.type} has an output of that name already")
    return {name: _compile(output.path, f"outputs.{name}.path", where) for name, output in block.outputs.items()}


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
