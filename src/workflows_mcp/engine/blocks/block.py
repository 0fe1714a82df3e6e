"""What a block type is: a name, the inputs it takes, and what it does with them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema

__all__ = ["BlockContext", "BlockFailedError", "BlockInputs", "BlockType", "Call", "Pause", "Text", "answered"]


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, bool | int | float) else value


Text = Annotated[
    str, BeforeValidator(_as_text), WithJsonSchema({"type": ["string", "number", "boolean"]}, mode="validation")
]
"""Text; a number or a bool, such as an expression may give, is taken as its text, Python style."""


def _check_type(what: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be a {kind.__name__}, not a {type(value).__name__}")


class BlockInputs(BaseModel):
    """The inputs of a block type: subclass it with the fields that the block type takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


InputsT = TypeVar("InputsT", bound=BlockInputs)


@dataclass(frozen=True)
class BlockContext:
    """Where a block runs.

    Attributes:
        workflow_name: Names the workflow.
        run_id: Names the run.
        block_id: Names the block.
        scrub: Gives a text without secrets. All that a block gives is scrubbed anyway; a text that is shortened must be
            before, since half of a secret is not known as one.
    """

    workflow_name: str
    run_id: str
    block_id: str
    scrub: Callable[[str], str] = str


@dataclass(frozen=True)
class Pause:
    """What a block returns to have a human asked; the answer goes to its `answer`, maybe in another process.

    Attributes:
        prompt: What is asked.
        metadata: Anything else for whoever asks, as plain JSON data. With a number `timeout_seconds` and
            a text `default` in it, the default is the answer when nobody has given another by then.

    Raises:
        TypeError: One of them is not of its type. Raised here, since here it is the block that fails.
    """

    prompt: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_type("the prompt of a Pause", self.prompt, str)
        _check_type("the metadata of a Pause", self.metadata, dict)


@dataclass(frozen=True)
class Call:
    """What a block returns to have another workflow run in its place.

    Attributes:
        workflow: Names the workflow.
        inputs: Its inputs by name, as plain JSON data.

    Raises:
        TypeError: One of them is not of its type; see `Pause`.
    """

    workflow: str
    inputs: dict[str, Any]

    def __post_init__(self) -> None:
        _check_type("the workflow of a Call", self.workflow, str)
        _check_type("the inputs of a Call", self.inputs, dict)


class BlockFailedError(Exception):
    """A block did not do what it was there for.

    Args:
        message: Why, for people.
        outputs: What it has to show nevertheless.
    """

    def __init__(self, message: str, outputs: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.outputs = outputs or {}


class BlockType(ABC, Generic[InputsT]):
    """Runs the blocks of one type. One object serves all of them, at the same time, so it keeps nothing.

    Attributes:
        name: What stands under `type` in a workflow.
        inputs: The model of its inputs.
        output_names: All that its outputs can hold, so that a misspelt one is found before anything runs; None:
            they are not known beforehand.
    """

    name: ClassVar[str]
    inputs: type[InputsT]
    output_names: ClassVar[frozenset[str] | None] = None

    @property
    def origin(self) -> str:
        """Where its code stands (`package.module.Class`); the same when the module is loaded anew."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @abstractmethod
    async def run(self, inputs: InputsT, context: BlockContext) -> dict[str, Any] | Pause | Call:
        """Do the work.

        When this is cancelled it must stop what it started before it lets the cancellation through. It may run
        again after a crash.

        Returns:
            The outputs, as plain JSON data; or a `Pause`; or a `Call`.

        Raises:
            BlockFailedError: It did not work.
        """

    def answer(self, response: str, inputs: InputsT) -> dict[str, Any]:  # noqa: ARG002 - for those who look at it
        """The outputs of a block that paused, once it is answered.

        Args:
            response: The answer, as it was given.
            inputs: What the block was run with.

        Raises:
            ValueError: The answer is not one that the block can take; the message says what it must be. The block
                still waits.
        """
        return {"response": response}


def answered(block_type: BlockType[Any], response: str, inputs: BlockInputs) -> dict[str, Any]:
    """The outputs of a block that paused, once it is answered; see `BlockType.answer`.

    Raises:
        ValueError: The answer is not one that the block can take, or the block type does not know what to do with it.
    """
    try:
        outputs: object = block_type.answer(response, inputs)
    except ValidationError as error:
        # It is a ValueError, whose text quotes the answer.
        raise ValueError(f"the answer is not what it must be: {error.errors()[0]['msg']}") from None
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"the block type {block_type.name!r} failed with the answer ({type(error).__name__})"
        ) from error
    if not isinstance(outputs, dict):
        kind = type(outputs).__name__
        raise ValueError(f"the block type {block_type.name!r} makes a {kind} of the answer, and no dict")  # noqa: TRY004
    return outputs
