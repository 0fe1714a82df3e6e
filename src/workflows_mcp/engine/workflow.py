"""Reads a workflow: from a file, from text, from the data in a checkpoint."""

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from workflows_mcp.engine.definition import (
    NAME_RULE,
    BlockDefinition,
    Dependency,
    FileOutput,
    InputDefinition,
    OutputDefinition,
    RetryPolicy,
    WorkflowDefinition,
)
from workflows_mcp.engine.flaws import flawed
from workflows_mcp.engine.plain_json import why_not_json
from workflows_mcp.engine.yaml_text import YAMLTextError, parse_yaml
from workflows_mcp.errors import WorkflowDefinitionError, WorkflowNotFoundError

__all__ = [
    "MAX_FILE_BYTES",
    "WorkflowName",
    "WorkflowSource",
    "define_workflow",
    "read_text",
    "read_workflow",
]

MAX_FILE_BYTES = 2**20
"""The largest file, or text, that is read as a workflow."""

_DEFINITION_DEPTH = 8


class WorkflowName(str):
    """A name, and nothing else: whoever gives it, such as an agent, has no file read that it names, nor any YAML."""

    __slots__ = ()


WorkflowSource = WorkflowDefinition | os.PathLike[str] | str
"""A definition, the path of a file, or a text: with a line break in it, it is YAML; else it is a path.

Where names are known, a text without a line break may be one of those first, and a `WorkflowName` is nothing else."""


def read_workflow(source: WorkflowSource) -> WorkflowDefinition:
    """Read a definition; its graph, block types and expressions are checked when it is planned.

    Args:
        source: See `WorkflowSource`.

    Raises:
        WorkflowNotFoundError: There is no such file.
        WorkflowDefinitionError: The file cannot be read, is too large or no YAML, or does not define a workflow.
    """
    if isinstance(source, WorkflowDefinition):
        return source
    if isinstance(source, str) and "\n" in source:
        return _parse(source, "the workflow's text")
    path = Path(source)
    return _parse(read_text(path), str(path))


def define_workflow(data: object, label: str) -> WorkflowDefinition:
    """The definition that plain data stands for.

    Args:
        data: As it stands in a file, or in a checkpoint.
        label: What it is called in messages.

    Raises:
        WorkflowDefinitionError: Fields are missing, unknown or of a wrong type.
    """
    if not isinstance(data, dict):
        raise flawed(label, ["a workflow is a mapping with name and blocks"])
    flaw = why_not_json(data, "workflow", depth=_DEFINITION_DEPTH)
    if flaw:
        raise flawed(label, [flaw])
    try:
        return WorkflowDefinition.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise flawed(label, [_describe(problem, data) for problem in problems]) from None


def read_text(path: Path) -> str:
    """The text of a workflow's file; of one that is too large, no more than what is needed to see that.

    Raises:
        WorkflowNotFoundError: There is no such file.
        WorkflowDefinitionError: It cannot be read, or is no UTF-8.
    """
    try:
        if not path.is_file():
            kind = "is not a file" if path.exists() else "does not exist"
            raise WorkflowNotFoundError(f"the workflow file {str(path)!r} {kind}")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is no path"
        raise WorkflowDefinitionError(f"the workflow file {str(path)!r} cannot be read: {reason}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if len(data) > MAX_FILE_BYTES:  # the cut may have split a character
            return data.decode("latin-1")
        raise WorkflowDefinitionError(f"{path}: it is not UTF-8 text; save it as UTF-8") from None


def _parse(text: str, label: str) -> WorkflowDefinition:
    if len(text.encode(errors="surrogatepass")) > MAX_FILE_BYTES:
        raise flawed(label, [f"a workflow has at most {MAX_FILE_BYTES:,} bytes; keep large data in files of their own"])
    try:
        data = parse_yaml(text)
    except YAMLTextError as error:
        raise flawed(label, [str(error)]) from None
    return define_workflow(data, label)


def _describe(problem: Any, data: dict[str, Any]) -> str:  # noqa: ANN401 - pydantic's error details
    kind, location = problem["type"], list(problem["loc"])
    what = ".".join(str(step) for step in location if step != "[key]")
    if len(location) > 1 and location[0] == "blocks":
        block = data["blocks"][location[1]]
        name = block.get("id") if isinstance(block, dict) else None
        shown = f"block {name!r}" if isinstance(name, str) else f"block number {location[1] + 1}"
        what = " ".join([shown, ".".join(map(str, location[2:]))]).strip()
    if kind == "extra_forbidden":
        return f"{what} is unknown; the fields are {', '.join(_fields_at(location))}"
    if kind == "missing":
        return f"{what} is missing"
    if kind == "string_pattern_mismatch":
        return f"{what} is no fit name: {NAME_RULE}"
    message = problem["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list")
    return f"{what}: {message.replace('Tuple should', 'List should')}"


_MODELS: dict[str, type[BaseModel]] = {
    "inputs": InputDefinition,
    "outputs": OutputDefinition,
    "blocks": BlockDefinition,
    "blocks.depends_on": Dependency,
    "blocks.retries": RetryPolicy,
    "blocks.outputs": FileOutput,
}
"""What stands at a place in a definition; list indexes and chosen names are left out of it."""


def _fields_at(location: list[Any]) -> list[str]:
    """The fields that the mapping has in which something unknown was found."""
    top = location[0] if len(location) > 1 else ""
    inner = f"{top}.{location[2]}" if len(location) > 3 else top
    model = _MODELS.get(inner) or _MODELS.get(str(top), WorkflowDefinition)
    return list(model.model_fields)
