"""A workflow's definition: what may stand in its file, and how it is read."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from workflows_mcp.engine.filters import check_name
from workflows_mcp.engine.state_json import why_not_json
from workflows_mcp.engine.yaml_text import YAMLTextError, parse_yaml
from workflows_mcp.errors import WorkflowDefinitionError, WorkflowNotFoundError

__all__ = [
    "MAX_BLOCKS",
    "MAX_FILE_BYTES",
    "BlockDefinition",
    "InputDefinition",
    "WorkflowDefinition",
    "WorkflowSource",
    "coerce_inputs",
    "define_workflow",
    "read_workflow",
]

MAX_FILE_BYTES = 2**20
"""The largest file, or text, that is read as a workflow."""

MAX_BLOCKS = 1000
"""The most blocks that a workflow may have."""

_DEFINITION_DEPTH = 8
_MAX_ERRORS_SHOWN = 5

# A hyphen would make `blocks.my-id.outputs` a subtraction.
_NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_]{0,63}$"
_NAME_RULE = "a name has 1 to 64 letters, digits and underscores, and begins with a letter"

Name = Annotated[str, Field(pattern=_NAME_PATTERN)]
InputType = Literal["str", "num", "bool", "list", "dict"]


class _Definition(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputDefinition(_Definition):
    """An input of a workflow.

    Attributes:
        type: `str`, `num`, `bool`, `list` or `dict`.
        description: For people.
        default: Its value when the caller gives none.
        required: Whether the caller must give it; None: when there is no default. One that is neither required
            nor has a default is None when it is not given.
    """

    type: InputType = "str"
    description: str = ""
    default: Any = None
    required: bool | None = None

    @property
    def has_default(self) -> bool:
        """Whether a default is written down, be it null."""
        return "default" in self.model_fields_set

    @property
    def is_required(self) -> bool:
        """Whether a run cannot begin without it."""
        return not self.has_default if self.required is None else self.required


class BlockDefinition(_Definition):
    """A block: one step of a workflow.

    Attributes:
        id: Its name in `depends_on` and in expressions.
        type: Which block type runs it.
        description: For people.
        inputs: What the block type is given; texts in it may hold expressions.
        depends_on: Ids of the blocks that must have succeeded before this one runs.
        condition: An expression, a bool, or `true` or `false`; when it is false the block is skipped.
    """

    id: Name
    type: str
    description: str = ""
    inputs: dict[str, Any] = {}
    depends_on: tuple[str, ...] = ()
    condition: bool | str | None = None


def _fit_for_a_name(name: str) -> str:
    return check_name("a workflow's name", name)


class WorkflowDefinition(_Definition):
    """A workflow.

    Attributes:
        name: 1 to 512 UTF-8 bytes.
        description: For people.
        inputs: What a run is given, by name.
        blocks: Its steps.
        outputs: What a run gives back: an expression by name.
    """

    name: Annotated[str, AfterValidator(_fit_for_a_name)]
    description: str = ""
    inputs: dict[Name, InputDefinition] = {}
    blocks: Annotated[tuple[BlockDefinition, ...], Field(min_length=1, max_length=MAX_BLOCKS)]
    outputs: dict[Name, str] = {}


WorkflowSource = WorkflowDefinition | os.PathLike[str] | str
"""A definition, the path of a file, or a text: with a line break in it, it is YAML; else it is a path."""


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
    return _parse(_read_file(path), str(path))


def define_workflow(data: object, label: str) -> WorkflowDefinition:
    """The definition that plain data stands for.

    Args:
        data: As it stands in a file, or in a checkpoint.
        label: What it is called in messages.

    Raises:
        WorkflowDefinitionError: Fields are missing, unknown or of a wrong type.
    """
    if not isinstance(data, dict):
        raise WorkflowDefinitionError(f"{label}: a workflow is a mapping with name and blocks")
    flaw = why_not_json(data, "workflow", depth=_DEFINITION_DEPTH)
    if flaw:
        raise WorkflowDefinitionError(f"{label}: {flaw}")
    try:
        return WorkflowDefinition.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        shown = [_describe(problem, data) for problem in problems[:_MAX_ERRORS_SHOWN]]
        more = len(problems) - len(shown)
        raise WorkflowDefinitionError(f"{label}: {'; '.join(shown)}{f'; and {more} more' if more else ''}") from None


def _read_file(path: Path) -> str:
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
        raise WorkflowDefinitionError(
            f"{label}: a workflow has at most {MAX_FILE_BYTES:,} bytes; keep large data in files of their own"
        )
    try:
        data = parse_yaml(text)
    except YAMLTextError as error:
        raise WorkflowDefinitionError(f"{label}: {error}") from None
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
        return f"{what} is no fit name: {_NAME_RULE}"
    message = problem["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list")
    return f"{what}: {message.replace('Tuple should', 'List should')}"


def _fields_at(location: list[Any]) -> list[str]:
    model: type[BaseModel] = WorkflowDefinition
    if len(location) > 1:
        model = BlockDefinition if location[0] == "blocks" else InputDefinition
    return list(model.model_fields)


def coerce_inputs(declared: dict[str, InputDefinition], given: dict[str, Any], label: str) -> dict[str, Any]:
    """The inputs of a run: the given ones, checked and coerced, and the defaults of the others.

    Text is taken for a `num` or a `bool` when it reads as one, and for a `list` or a `dict` when it is the JSON of
    one, so that a command line may pass what was typed; a `str` is text only.

    Args:
        declared: The workflow's inputs.
        given: The caller's values by name.
        label: What the workflow is called in messages.

    Returns:
        A value for each declared input, sharing no list or dict with the arguments.

    Raises:
        WorkflowDefinitionError: One is missing, unknown or of a wrong type; the message names it and shows no value.
    """
    unknown = sorted(str(name) for name in given.keys() - declared.keys())
    if unknown:
        known = f"has the inputs {', '.join(declared)}" if declared else "takes none"
        raise WorkflowDefinitionError(f"{label}: unknown input {', '.join(map(repr, unknown))}; it {known}")
    values: dict[str, Any] = {}
    for name, definition in declared.items():
        wanted = f"input {name!r} ({definition.type})"
        if name not in given:
            if definition.is_required:
                about = f": {definition.description}" if definition.description else ""
                raise WorkflowDefinitionError(f"{label}: {wanted} is missing{about}")
            values[name] = coerce_default(definition, f"{label}: {wanted}")
            continue
        values[name] = _coerce(definition, given[name], f"{label}: {wanted}")
    return values


def coerce_default(definition: InputDefinition, label: str) -> Any:  # noqa: ANN401 - JSON data
    """An input's value when none is given.

    Raises:
        WorkflowDefinitionError: The default is not of the input's type.
    """
    return _coerce(definition, definition.default, f"{label}: its default")


def _coerce(definition: InputDefinition, value: object, label: str) -> Any:  # noqa: ANN401 - JSON data
    flaw = why_not_json(value, "value", depth=2)
    if flaw:
        raise WorkflowDefinitionError(f"{label}: {flaw}")
    if value is None and not definition.is_required:
        return None
    coerced = _from_text(definition.type, value) if isinstance(value, str) else value
    kinds: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "num": (int, float),
        "bool": (bool,),
        "list": (list,),
        "dict": (dict,),
    }
    if type(coerced) not in kinds[definition.type]:
        given = "null" if value is None else type(value).__name__
        hint = " (put it in quotes)" if definition.type == "str" else ""
        raise WorkflowDefinitionError(f"{label} must be a {definition.type}, and is a {given}{hint}")
    return json.loads(json.dumps(coerced)) if isinstance(coerced, list | dict) else coerced


def _refuse_constant(name: str) -> object:
    raise ValueError(name)  # NaN and Infinity, which json takes and JSON does not


def _from_text(wanted: InputType, text: str) -> object:
    """What a text stands for where another type is wanted; the text itself when it is nothing of the kind."""
    if wanted == "str":
        return text
    if wanted == "bool":
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text
    return text if why_not_json(found, "value", depth=2) else found
