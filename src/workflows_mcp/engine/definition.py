"""What may stand in a workflow's file: the models that its data is checked against."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from workflows_mcp.engine.filters import check_name

__all__ = [
    "MAX_BLOCKS",
    "NAME_RULE",
    "BlockDefinition",
    "Dependency",
    "FileOutput",
    "InputDefinition",
    "OutputDefinition",
    "RetryPolicy",
    "ValueType",
    "WorkflowDefinition",
]

MAX_BLOCKS = 1000
"""The most blocks that a workflow may have."""

_MOST_SECONDS = 10 * 365 * 86400

# A hyphen would make `blocks.my-id.outputs` a subtraction.
_NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_]{0,63}$"
NAME_RULE = "a name has 1 to 64 letters, digits and underscores, and begins with a letter"

Name = Annotated[str, Field(pattern=_NAME_PATTERN)]
Bool = Annotated[bool, Field(strict=True)]  # else the texts "yes" and "off", which YAML 1.2 leaves alone, were bools
ValueType = Literal["str", "num", "bool", "list", "dict"]


class _Definition(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Abbreviated(_Definition):
    """A mapping for which its most important field alone may stand: `a` for `{block: a}`."""

    _short: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: object) -> object:
        return data if isinstance(data, dict | cls) else {cls._short: data}

    @model_serializer(mode="wrap")
    def _abbreviate(self, handler: SerializerFunctionWrapHandler) -> Any:  # noqa: ANN401 - JSON data
        data = handler(self)
        # A mapping in its place would be read as the whole.
        is_short = set(data) == {self._short} and not isinstance(data[self._short], dict)
        return data[self._short] if is_short else data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        whole = handler.resolve_ref_schema(handler(schema))
        short = {"type": ["array", "string", "number", "boolean", "null"], **whole["properties"][cls._short]}
        return {"anyOf": [short, whole]}


class InputDefinition(_Definition):
    """An input of a workflow.

    Attributes:
        type: `str`, `num`, `bool`, `list` or `dict`.
        description: For people.
        default: Its value when the caller gives none; may hold expressions that read the inputs before it.
        required: Whether the caller must give it; None: when there is no default. One that is neither required
            nor has a default is None when it is not given.
    """

    type: ValueType = "str"
    description: str = ""
    default: Any = None
    required: Bool | None = None

    @property
    def has_default(self) -> bool:
        """Whether a default is written down, be it null."""
        return "default" in self.model_fields_set

    @property
    def is_required(self) -> bool:
        """Whether a run cannot begin without it."""
        return not self.has_default if self.required is None else self.required


class Dependency(_Abbreviated):
    """A block that another one waits for; its id alone is one that is required.

    Attributes:
        block: Its id.
        required: Whether the other one is skipped when this block fails or is skipped; if not, it runs anyway.
    """

    _short: ClassVar[str] = "block"

    block: Name
    required: Bool = True


def _list_or_dict(value: object) -> object:
    if value is None or isinstance(value, list | dict | str):
        return value
    raise ValueError("it must be a list, a dict, or an expression that gives one")


Items = Annotated[Any, AfterValidator(_list_or_dict), WithJsonSchema({"type": ["array", "object", "string", "null"]})]
Seconds = Annotated[float, Field(strict=True, gt=0, le=_MOST_SECONDS)]


class RetryPolicy(_Abbreviated):
    """How often a block that fails is tried again; a number alone is `times`.

    Attributes:
        times: The most further attempts.
        delay_seconds: How long to wait before the first of them.
        backoff: What the wait is multiplied by for each further one.
    """

    _short: ClassVar[str] = "times"

    times: Annotated[int, Field(strict=True, ge=0, le=100)]
    delay_seconds: Annotated[float, Field(strict=True, ge=0, le=86400)] = 0.0
    backoff: Annotated[float, Field(strict=True, ge=1, le=100)] = 1.0


class FileOutput(_Definition):
    """An output of a block that is read from a file which the block wrote.

    Attributes:
        path: Where the file is, an expression maybe; a relative one counts from the block's `working_dir`.
        type: What its text is read as: `str` is the text as it is.
        description: For people.
    """

    path: str
    type: ValueType = "str"
    description: str = ""


class BlockDefinition(_Definition):
    """A block: one step of a workflow.

    Attributes:
        id: Its name in `depends_on` and in expressions.
        type: Which block type runs it.
        description: For people.
        inputs: What the block type is given; texts in it may hold expressions.
        depends_on: The blocks that it waits for.
        condition: An expression, a bool, or `true` or `false`; when it is false the block is skipped.
        for_each: A list or a dict, or an expression that gives one: the block runs once for each item.
        for_each_mode: Whether the items run at the same time, or one after the other.
        max_parallel: How many items run at the same time.
        continue_on_error: Whether the run goes well even if this block fails, and `sequential` goes on.
        timeout_seconds: How long an attempt may take.
        retries: How often a failure is tried again.
        outputs: Files that it writes, read as further outputs.
    """

    id: Name
    type: str
    description: str = ""
    inputs: dict[str, Any] = {}
    depends_on: tuple[Dependency, ...] = ()
    condition: Bool | str | None = None
    for_each: Items = None
    for_each_mode: Literal["parallel", "sequential"] = "parallel"
    max_parallel: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    continue_on_error: Bool = False
    timeout_seconds: Seconds | None = None
    retries: RetryPolicy = RetryPolicy(times=0)
    outputs: dict[Name, FileOutput] = {}


class OutputDefinition(_Abbreviated):
    """An output of a workflow; an expression alone is its `value`.

    Attributes:
        value: JSON data, whose texts may hold expressions.
        type: What it is coerced to; None: it stays what it is.
        description: For people.
    """

    _short: ClassVar[str] = "value"

    value: Any
    type: ValueType | None = None
    description: str = ""


def _fit_for_a_name(name: str) -> str:
    return check_name("a workflow's name", name)


def _as_text(value: object) -> object:
    return str(value) if type(value) in {int, float} else value


class WorkflowDefinition(_Definition):
    """A workflow.

    Attributes:
        name: 1 to 512 UTF-8 bytes.
        description: For people.
        version: For people.
        author: For people.
        tags: For finding it.
        inputs: What a run is given, by name.
        blocks: Its steps.
        outputs: What a run gives back, by name.
    """

    name: Annotated[str, AfterValidator(_fit_for_a_name)]
    description: str = ""
    version: Annotated[str, BeforeValidator(_as_text), WithJsonSchema({"type": ["string", "number"]})] = ""
    author: str = ""
    tags: tuple[str, ...] = ()
    inputs: dict[Name, InputDefinition] = {}
    blocks: Annotated[tuple[BlockDefinition, ...], Field(min_length=1, max_length=MAX_BLOCKS)]
    outputs: dict[Name, OutputDefinition] = {}
