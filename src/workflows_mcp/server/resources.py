"""What clients can read by its address: a workflow's YAML, a checkpoint's state, a run."""

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources import ResourceSecurity
from mcp_types import Resource

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.errors import CheckpointNotFoundError, WorkflowNotFoundError
from workflows_mcp.server.failures import explain
from workflows_mcp.server.folding import folded, json_text, size_of
from workflows_mcp.server.replies_runs import run_page
from workflows_mcp.server.services import Services
from workflows_mcp.server.shelf import why_not_found
from workflows_mcp.server.texts import one_line
from workflows_mcp.server.tools.tool import Call, services_of
from workflows_mcp.server.uris import CHECKPOINT_URI, RUN_URI, WORKFLOW_URI, uri_of

__all__ = ["MAX_CHARACTERS", "add_resources"]

MAX_CHARACTERS = 2**20
"""The longest JSON that is given of a checkpoint or a run."""

_FOLDED_CHARACTERS = 4096
_PAGE = 500
_YAML, _JSON = "application/yaml", "application/json"

# A name is never made a path of: it may hold dots and slashes like any other characters.
_NAMES_ARE_NO_PATHS = ResourceSecurity(exempt_params={"name", "checkpoint_id", "run_id"})


async def _workflow(name: str, call: Call) -> str:
    services: Services = call.request_context.lifespan_context
    return await asyncio.to_thread(_text_of, services, name)


async def _checkpoint(checkpoint_id: str, call: Call) -> str:
    services = await services_of(call)
    state = await services.store.load_checkpoint(checkpoint_id)
    if state is None:
        raise CheckpointNotFoundError(checkpoint_id)
    return await asyncio.to_thread(_state_text, services, state)


async def _run(run_id: str, call: Call) -> str:
    services = await services_of(call)
    page = run_page(await services.executor.get_run(run_id))
    return _as_text(page.model_dump(mode="json"), f"run {run_id!r}")


def add_resources(server: MCPServer[Services]) -> None:
    """Have a server offer them all, and list the workflows among them."""
    for template, read, about in _TEMPLATES:
        server.resource(template, security=_NAMES_ARE_NO_PATHS, **about)(_told(read))
    server.middleware.append(_list_workflows)


_Read = Callable[..., Awaitable[str]]

_TEMPLATES: tuple[tuple[str, _Read, dict[str, Any]], ...] = (
    (
        WORKFLOW_URI,
        _workflow,
        {
            "name": "workflow",
            "title": "A workflow",
            "description": "The YAML of a workflow, by its name.",
            "mime_type": _YAML,
        },
    ),
    (
        CHECKPOINT_URI,
        _checkpoint,
        {
            "name": "checkpoint",
            "title": "A checkpoint's state",
            "description": "All that a checkpoint holds of its run, without secrets: inputs, outputs of blocks, waves.",
            "mime_type": _JSON,
        },
    ),
    (
        RUN_URI,
        _run,
        {
            "name": "run",
            "title": "A run",
            "description": "What has become of a run and of its blocks, as get_run tells it.",
            "mime_type": _JSON,
        },
    ),
)


def _told(read: _Read) -> _Read:
    """The same with errors in our words: an address that leads nowhere, a state that cannot be read."""

    @functools.wraps(read)
    async def told(**arguments: Any) -> str:  # noqa: ANN401 - what stands in the address, and the call
        try:
            return await read(**arguments)
        except ResourceError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told or logged there
            kind = ResourceNotFoundError if isinstance(error, _NOT_FOUND) else ResourceError
            names = {name: value for name, value in arguments.items() if isinstance(value, str)}
            text = explain(error, "the resource", names)
        # Out here, so that what was raised first, and may quote what is stored, is no context of this one.
        raise kind(text)

    return told


_NOT_FOUND = (CheckpointNotFoundError, WorkflowNotFoundError)


def _text_of(services: Services, name: str) -> str:
    why = why_not_found(services, name)
    if why is not None:
        raise WorkflowNotFoundError(why)
    return services.library.text_of(name)


def _state_text(services: Services, state: CheckpointState) -> str:
    what = f"the state of checkpoint {state.checkpoint_id!r}"
    with contextlib.suppress(RecursionError):
        return _as_text(services.without_secrets(dataclasses.asdict(state)), what)
    raise ResourceError(f"{what} is nested too deeply to be shown")


def _as_text(value: dict[str, Any], what: str) -> str:
    """A value as JSON; large texts in it are left out where it would be too long with them.

    Raises:
        ResourceError: It is too long without them, too.
    """
    size = size_of(value)
    if size > MAX_CHARACTERS:
        value = folded(value, _FOLDED_CHARACTERS)
        if size_of(value) > MAX_CHARACTERS:
            raise ResourceError(
                f"{what} has {size:,} characters as JSON, and no more than {MAX_CHARACTERS:,} are given here. "
                "get_checkpoint_info and get_run tell it in short; on the server, `workflows-mcp checkpoints show` "
                "prints all of it"
            )
    return json_text(value)


async def _list_workflows(ctx: ServerRequestContext[Services, Any], call_next: CallNext) -> HandlerResult:
    """List the workflows that there are at this moment: the SDK's own list is made when a server is."""
    result = await call_next(ctx)
    if ctx.method != "resources/list" or not isinstance(result, dict):
        return result
    cursor = (ctx.params or {}).get("cursor") or ""
    resources, following = await asyncio.to_thread(_page_after, ctx.lifespan_context, cursor)
    return {**result, "resources": resources, **({"nextCursor": following} if following else {})}


def _page_after(services: Services, cursor: str) -> tuple[list[dict[str, Any]], str | None]:
    """A page of the workflows, and where the next one begins: after a name."""
    names = [name for name in services.library.names() if name > cursor]
    page = []
    for name in names[:_PAGE]:
        definition = services.library.find(name)
        if definition is not None:
            resource = Resource(
                uri=uri_of(WORKFLOW_URI, name),
                name=name,
                description=one_line(definition.description) or None,
                mime_type=_YAML,
            )
            page.append(resource.model_dump(mode="json", by_alias=True, exclude_none=True))
    return page, names[_PAGE - 1] if len(names) > _PAGE else None
