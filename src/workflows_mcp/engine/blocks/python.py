"""Block types out of Python functions: `@block_type`."""

import asyncio
import inspect
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from pydantic import PydanticUserError, create_model
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic_core import SchemaError

from workflows_mcp.engine.blocks.block import BlockContext, BlockFailedError, BlockInputs, BlockType, Call, Pause
from workflows_mcp.engine.blocks.registry import register

__all__ = ["FunctionBlock", "block_type"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@overload
def block_type(function: FunctionT, /) -> FunctionT: ...
@overload
def block_type(name: str, /) -> Callable[[FunctionT], FunctionT]: ...
def block_type(function_or_name: Any, /) -> Any:
    """Let workflows of this process use a function as a block type: `@block_type` or `@block_type("Name")`.

    Its parameters are the block's inputs: their annotations are checked and converted to as pydantic does, one
    without a default is required. A parameter annotated with `BlockContext` is no input, and is given where the
    block runs. What the function returns are the outputs when it is a dict, none when it is None; anything else is
    the output `result`. It may return a `Pause` or a `Call` too. When it raises, the block fails.

    A function that is not `async` runs in a thread. It cannot be stopped: a run that is cancelled waits for it.

    Args:
        function_or_name: The function, whose name is the block type's then; or a name.

    Returns:
        The function as it is.

    Raises:
        TypeError: It is no function, or has parameters that cannot be inputs: without a name, with an annotation
            that cannot be resolved or checked, with a leading underscore.
        ValueError: Another block type has the name.
    """
    if not isinstance(function_or_name, str):
        register(FunctionBlock(_name_of(function_or_name), function_or_name))
        return function_or_name

    def decorate(function: FunctionT) -> FunctionT:
        register(FunctionBlock(function_or_name, function))
        return function

    return decorate


class FunctionBlock(BlockType[BlockInputs]):
    """A block type that calls a function; see `block_type`.

    Args:
        name: What stands under `type` in a workflow.
        function: What is called.

    Raises:
        TypeError: See `block_type`.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        if inspect.isclass(function) or not callable(function):
            raise TypeError(f"{function!r} is no function; an object of a BlockType subclass goes to register()")
        self.name = name  # type: ignore[misc] # one class serves all functions, and each has its own name
        self._origin = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"
        self.inputs, self._contexts = _read_signature(function)
        self._function = function
        # What else gives something to await, such as an object with an async `__call__`, takes the way of a thread.
        self._is_async = inspect.iscoroutinefunction(function)

    @property
    def origin(self) -> str:
        """See `BlockType.origin`; a function's own."""
        return self._origin

    async def run(self, inputs: BlockInputs, context: BlockContext) -> dict[str, Any] | Pause | Call:
        """See `BlockType.run`."""
        # Not model_dump(): it would turn nested models into dicts, and takes far longer.
        arguments = {**inputs.__dict__, **dict.fromkeys(self._contexts, context)}
        if self._is_async:
            result = await _awaited(self._function(**arguments))
        else:
            result = await _in_thread(self._function, arguments)
        if isinstance(result, dict | Pause | Call):
            return result
        return {} if result is None else {"result": result}


def _name_of(function: object) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f'{function!r} has no name of its own: @block_type("Name") gives one')
    return name


async def _awaited(work: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever it returns
    try:
        return await work
    except SystemExit as error:
        raise _exited(error) from error


async def _in_thread(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever it returns
    work = asyncio.ensure_future(asyncio.to_thread(_call, function, arguments))
    try:
        result = await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
    return await _awaited(result) if inspect.isawaitable(result) else result


def _call(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever it returns
    try:
        return function(**arguments)
    except SystemExit as error:
        raise _exited(error) from error
    except StopIteration as error:
        # No future takes one: before Python 3.12 whoever awaits the thread would wait forever.
        raise RuntimeError("StopIteration") from error


def _exited(error: SystemExit) -> BlockFailedError:
    """What an exit is turned into: let through, it would end the process with all its other runs."""
    return BlockFailedError(f"it asked the process to exit ({error.code})")


def _read_signature(function: Callable[..., Any]) -> tuple[type[BlockInputs], list[str]]:
    """The model of a function's inputs, and the names of the parameters that take the context."""
    what = f"the function {getattr(function, '__qualname__', repr(function))}"
    try:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
    except Exception as error:  # an annotation that is text is code, and may raise anything
        raise TypeError(f"{what} cannot be a block type: its signature cannot be read: {error}") from error
    fields: dict[str, Any] = {}
    contexts = []
    for parameter in parameters:
        name, annotation = parameter.name, parameter.annotation
        if parameter.kind not in _NAMED:
            raise TypeError(f"{what} cannot be a block type: {parameter} cannot be given by name, as inputs are")
        if name.startswith("_") or (name.startswith("model_") and hasattr(BlockInputs, name)):
            raise TypeError(f"{what} cannot be a block type: an input cannot have the name {name!r}")
        if annotation is BlockContext:
            contexts.append(name)
            continue
        fields[name] = (
            Any if annotation is parameter.empty else annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
    return _make_model(function, what, fields), contexts


def _make_model(function: Callable[..., Any], what: str, fields: dict[str, Any]) -> type[BlockInputs]:
    try:
        with warnings.catch_warnings():
            # `json` and `copy` are good names for inputs; the methods of models that they hide are not used.
            warnings.filterwarnings("ignore", message="Field name .* shadows an attribute", category=UserWarning)
            model = create_model(
                "Inputs", __base__=BlockInputs, __module__=getattr(function, "__module__", __name__), **fields
            )
        model.model_rebuild()
    except (PydanticUserError, PydanticUndefinedAnnotation, SchemaError) as error:
        reason = str(error).partition("\n")[0]
        raise TypeError(f"{what} cannot be a block type: its parameters cannot be checked: {reason}") from error
    return model
