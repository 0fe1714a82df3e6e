"""Completes names and ids for people who fill in the address of a resource, or a prompt's argument."""

import asyncio
from typing import Any

from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import CompleteRequestParams, Completion

from workflows_mcp.engine.abandoned import find_runs
from workflows_mcp.errors import WorkflowsError
from workflows_mcp.server.services import Services

__all__ = ["add_completions"]

_MOST_VALUES = 100
"""More is not allowed in an answer."""

_MOST_LOOKED_AT = 500


def add_completions(server: MCPServer[Services]) -> None:
    """Have a server complete names of workflows, and ids of checkpoints that wait and of runs."""
    # What the SDK asks for values has no way to the services; the middleware has, and fills them in.
    server.completion()(_no_values)  # type: ignore[no-untyped-call] # the SDK's
    server.middleware.append(_complete)


async def _no_values(*_: object) -> None:
    pass


async def _complete(ctx: ServerRequestContext[Services, Any], call_next: CallNext) -> HandlerResult:
    result = await call_next(ctx)
    if ctx.method != "completion/complete" or not isinstance(result, dict):
        return result
    argument = CompleteRequestParams.model_validate(ctx.params, by_name=False).argument
    begun = argument.value.casefold()
    known = await _known(ctx.lifespan_context, argument.name)
    fitting = [name for name in known if name.casefold().startswith(begun)]
    completion = Completion(values=fitting[:_MOST_VALUES], total=len(fitting), has_more=len(fitting) > _MOST_VALUES)
    return {**result, "completion": completion.model_dump(mode="json", by_alias=True)}


async def _known(services: Services, argument: str) -> list[str]:
    """What an argument of this name may be; nothing where the database cannot tell now."""
    if argument in {"name", "workflow"}:
        return await asyncio.to_thread(services.library.names)
    try:
        await services.prepare()
        if argument == "checkpoint_id":
            waiting = await services.store.list_checkpoints(is_paused=True, limit=_MOST_LOOKED_AT)
            return [str(one.checkpoint_id) for one in waiting]  # other programs may have saved other types
        if argument == "run_id":
            return [run.run_id for run in await find_runs(services.store, limit=_MOST_LOOKED_AT)]
    except WorkflowsError:
        pass
    return []
