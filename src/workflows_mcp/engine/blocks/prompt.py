"""`Prompt`: asks a human, and goes on with the answer."""

import functools
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import SchemaError

from workflows_mcp.engine.blocks.block import BlockContext, BlockFailedError, BlockInputs, BlockType, Pause, Text

__all__ = ["MAX_TIMEOUT_SECONDS", "Prompt", "PromptInputs"]

MAX_TIMEOUT_SECONDS = 315_576_000.0
"""The longest time that an answer is waited for before the default is taken: ten years."""

_MAX_CHOICES_SHOWN = 20

# Named, though it is pydantic's default: its time is linear in the answer's length, that of Python's `re` is not.
_LINEAR = ConfigDict(regex_engine="rust-regex")


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> TypeAdapter[str]:
    return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern, strict=True)], config=_LINEAR)


def _whole(pattern: str) -> str:
    return rf"\A(?:{pattern})\z"


def _compilable(pattern: str) -> str:
    # First alone: `a)|(?:b` is broken, and would be whole, and anchored nowhere, inside a group.
    for text in (pattern, _whole(pattern)):
        try:
            _compiled(text)
        except SchemaError as error:
            reason = str(error).strip().rpartition("rror: ")[2]
            raise ValueError(f"it is no regular expression of the kind that is taken: {reason}") from None
    return pattern


def _not_empty(choice: str) -> str:
    if not choice:
        raise ValueError("a choice must not be empty")
    return choice


def _without_repeats(choices: list[str]) -> list[str]:
    if len(set(choices)) < len(choices):
        raise ValueError("a choice stands here twice")
    return choices


class PromptInputs(BlockInputs):
    """What a `Prompt` takes.

    Attributes:
        prompt: What is asked.
        choices: What may be answered; None: anything.
        pattern: A regular expression that the whole answer must match, in the syntax of Rust's `regex`; not
            together with `choices`.
        timeout_seconds: After so many seconds without an answer the `default` is taken; None: never.
        default: The answer that is taken then; one that is fit to be given.
    """

    prompt: Text
    choices: (
        Annotated[
            list[Annotated[Text, AfterValidator(_not_empty)]],
            Field(min_length=1),
            AfterValidator(_without_repeats),
        ]
        | None
    ) = None
    pattern: Annotated[str, AfterValidator(_compilable)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_SECONDS, allow_inf_nan=False)] | None = None
    default: Annotated[Text | None, Field(validate_default=True)] = None

    # Each check belongs to a field: an error of the whole model would have no place to be shown at.

    @field_validator("pattern")
    @classmethod
    def _stands_alone(cls, pattern: str | None, info: ValidationInfo) -> str | None:
        if pattern is not None and info.data.get("choices") is not None:
            raise ValueError("there are choices already; it can be one only")
        return pattern

    @field_validator("default")
    @classmethod
    def _fits(cls, default: str | None, info: ValidationInfo) -> str | None:
        """Check it as far as can be: a field that is in error, or not rendered yet, cannot be looked at."""
        given = info.data
        if "timeout_seconds" in given and (default is None) is not (given["timeout_seconds"] is None):
            raise ValueError("default and timeout_seconds stand together or not at all")
        rules = (given.get("choices"), given.get("pattern"))
        if default is not None and not any("{{" in text for text in (*(rules[0] or ()), rules[1] or "")):
            _fit(default, *rules, name="the default")
        return default


class Prompt(BlockType[PromptInputs]):
    """Pauses the run; its output `response` is the answer, or the choice that the answer means.

    The metadata of its pause holds those of `choices`, `pattern`, `timeout_seconds` and `default` that were given,
    for whoever asks.
    """

    name: ClassVar[str] = "Prompt"
    inputs = PromptInputs
    output_names: ClassVar[frozenset[str] | None] = frozenset({"response"})

    async def run(self, inputs: PromptInputs, context: BlockContext) -> Pause:  # noqa: ARG002 - the contract's
        """See `BlockType.run`."""
        metadata: dict[str, Any] = inputs.model_dump(exclude={"prompt"}, exclude_none=True)
        if inputs.default is not None:
            try:
                metadata["default"] = _fit(inputs.default, inputs.choices, inputs.pattern, name="the default")
            except ValueError as error:
                raise BlockFailedError(f"inputs.default: {error}") from None
        return Pause(inputs.prompt, metadata)

    def answer(self, response: str, inputs: PromptInputs) -> dict[str, Any]:
        """See `BlockType.answer`; case and surrounding white space do not matter where there are choices."""
        return {"response": _fit(response, inputs.choices, inputs.pattern, name="the answer")}


def _fit(answer: str, choices: list[str] | None, pattern: str | None, *, name: str) -> str:
    """The answer, or the choice that it means.

    Raises:
        ValueError: It is not one that may be given.
    """
    if choices is not None and answer not in choices:
        meant = [choice for choice in choices if _folded(choice) == _folded(answer)]
        if len(meant) != 1:
            raise ValueError(f"{name} must be one of: {_listed(choices)}")
        return meant[0]
    if pattern is not None:
        try:
            _compiled(_whole(pattern)).validate_python(answer)
        except ValidationError:
            # Raised below: the error of pydantic holds the answer, and must not be this one's context.
            pass
        else:
            return answer
        raise ValueError(f"{name} must match the pattern {pattern}")
    return answer


def _folded(text: str) -> str:
    return text.strip().casefold()


def _listed(choices: list[str]) -> str:
    more = len(choices) - _MAX_CHOICES_SHOWN
    return ", ".join(choices[:_MAX_CHOICES_SHOWN]) + (f" and {more} more" if more > 0 else "")
