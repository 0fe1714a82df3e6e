"""Turns the errors of this package into what a model can read, and act upon."""

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from mcp.server.mcpserver.exceptions import ToolError

from workflows_mcp.errors import WorkflowsError

__all__ = ["told_to_the_model"]

P = ParamSpec("P")
T = TypeVar("T")


def told_to_the_model(tool: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """A tool whose anticipated errors reach the model with their text; the text of any other stays in the log."""

    @functools.wraps(tool)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await tool(*args, **kwargs)
        except (WorkflowsError, ValueError) as error:
            raise ToolError(str(error)) from error

    return call
