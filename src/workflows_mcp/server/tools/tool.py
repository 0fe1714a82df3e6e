"""What every tool is made of."""

import functools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool as OfferedTool
from mcp_types import ToolAnnotations
from pydantic import ConfigDict, WithJsonSchema, WrapValidator

from workflows_mcp.errors import CheckpointNotFoundError, CheckpointStoreError
from workflows_mcp.server.failures import explain_call
from workflows_mcp.server.services import Services
from workflows_mcp.server.visible import visible

if TYPE_CHECKING:
    from workflows_mcp.settings import Settings

__all__ = ["READS", "Call", "TextOrNone", "Tool", "offered", "services_of"]

Call = Context[Services, Any]
"""The call of a tool: a parameter of this type is given by the SDK, and no model sees it."""


def _text_or_none(value: object, check: Callable[[object], str]) -> str | None:
    return None if value is None else check(value)


if TYPE_CHECKING:
    TextOrNone = str | None
else:
    # Of `str | None` the SDK takes a text that looks like JSON for JSON, so that 'null' would be nothing at all.
    TextOrNone = Annotated[
        str, WrapValidator(_text_or_none), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})
    ]
"""A parameter that takes a text, word for word, or null."""

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
"""Of a tool that changes nothing."""


@dataclass(frozen=True, eq=False)
class Tool:
    """A tool as the server offers it; its name is its function's, its description the function's docstring.

    Attributes:
        function: What it does.
        title: What people see.
        annotations: What a client may assume about it, before it asks its user.
        switch: The setting that must be on for it to be offered; None: it always is.
    """

    function: Callable[..., Awaitable[Any]]
    title: str
    annotations: ToolAnnotations
    switch: str | None = None


async def services_of(call: Call) -> Services:
    """What the server works with, once the database is fit to be used.

    Raises:
        CheckpointStoreError: It is not.
    """
    services = call.request_context.lifespan_context
    await services.prepare()
    return services


def offered(tools: Iterable[Tool], settings: "Settings") -> list[OfferedTool]:
    """The tools that the settings have not switched off, made ready for the SDK's server."""
    return [_offered(tool) for tool in tools if tool.switch is None or getattr(settings, tool.switch)]


@functools.cache  # making the models of its arguments takes as long as a few hundred calls
def _offered(tool: Tool) -> OfferedTool:
    made = _Tool.from_function(tool.function, title=tool.title, annotations=tool.annotations)
    made.description = _unwrapped(made.description)
    if made.parameters.get("properties"):
        # A parameter that is misspelt must not count for nothing. One that has none may be sent anything: some clients
        # do not call a tool without an argument.
        strict = ConfigDict(extra="forbid", hide_input_in_errors=True)
        model = made.fn_metadata.arg_model
        made.fn_metadata.arg_model = type(model.__name__, (model,), {"model_config": strict, "__module__": __name__})
        made.parameters["additionalProperties"] = False  # what the model's own schema, made anew, would have besides
    return made


def _unwrapped(docstring: str) -> str:
    """A description with one line a paragraph: how wide the code is means nothing to a model."""
    paragraphs = docstring.split("\n\n")
    return "\n\n".join(" ".join(line.strip() for line in paragraph.splitlines()).strip() for paragraph in paragraphs)


class _Tool(OfferedTool):
    """A tool whose errors are told in our words, whatever raises them: its arguments, a question to a human, itself."""

    async def run(
        self,
        arguments: dict[str, Any],
        context: Context[Any, Any],
        convert_result: bool = False,  # noqa: FBT001, FBT002 - the SDK's signature
    ) -> Any:  # noqa: ANN401 - as above
        """See the SDK's.

        Raises:
            ToolError: The call failed; its text is for the model, and the server goes on.
        """
        try:
            return await super().run(arguments, context, convert_result)
        except ToolError as error:
            parameters = list(self.parameters.get("properties", {}))
            text = explain_call(error, self.name, arguments, parameters)
            is_unknown = isinstance(error.__cause__, CheckpointNotFoundError)
        if is_unknown:
            text += await _if_it_is_a_run(context, arguments.get("checkpoint_id"))
        text = visible(context.request_context.lifespan_context.without_secrets(text))
        # Out here, so that what was raised first, and may quote what is stored, is no context of this one.
        raise ToolError(text)


async def _if_it_is_a_run(call: Call, checkpoint_id: object) -> str:
    """A sentence for whoever gave the id of a run where that of a checkpoint is wanted; empty: it is none."""
    if not isinstance(checkpoint_id, str):
        return ""
    services = await services_of(call)
    try:
        found = await services.store.list_checkpoints(run_id=checkpoint_id, limit=1)
    except (CheckpointStoreError, ValueError):
        return ""  # what has been said stands without it
    return f". That is the id of a run, whose newest checkpoint is {found[0].checkpoint_id!r}" if found else ""
