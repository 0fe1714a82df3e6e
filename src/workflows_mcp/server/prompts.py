"""Prompts: what a user may ask a model to do with this server, in the server's own words."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.prompts import Prompt
from mcp_types import INVALID_PARAMS
from pydantic import Field

from workflows_mcp.server.authoring import authoring_guide
from workflows_mcp.server.services import Services
from workflows_mcp.server.texts import one_line
from workflows_mcp.server.tools.tool import Call

__all__ = ["add_prompts"]


async def author_workflow(
    call: Call, task: Annotated[str, Field(description="What the workflow is to do, in your own words.")]
) -> str:
    """Write a new workflow in YAML, check it, and try it out."""
    services = call.request_context.lifespan_context
    settings = services.settings
    return authoring_guide(
        task,
        disabled_blocks=settings.disabled_blocks,
        inline=settings.inline_workflows,
        folders=[services.library.shown(folder) for folder in settings.template_paths],
    )


def answer_waiting_runs() -> str:
    """Go through all that waits for an answer, ask me each question, and pass on what I say."""
    return _ANSWER


def diagnose_run(run_id: Annotated[str, Field(description="The run that went wrong.")]) -> str:
    """Find out why a run failed or does not go on, and what to do about it."""
    return _DIAGNOSE.format(run_id=json.dumps(run_id))


def add_prompts(server: MCPServer[Services]) -> None:
    """Have a server offer them all, and say what is wrong with a call of one."""
    prompts = (
        Prompt.from_function(author_workflow, title="Write a workflow"),
        Prompt.from_function(answer_waiting_runs, title="Answer what waits"),
        Prompt.from_function(diagnose_run, title="Find out what is wrong with a run"),
    )
    for prompt in prompts:
        server.add_prompt(prompt)
    server.middleware.append(_Checked(prompts))


class _Checked:
    """A middleware that refuses a call which no prompt takes: to the SDK that is a failure of the server.

    Args:
        prompts: All that there are.
    """

    def __init__(self, prompts: tuple[Prompt, ...]) -> None:
        self._prompts = {prompt.name: prompt for prompt in prompts}

    async def __call__(self, ctx: ServerRequestContext[Services, Any], call_next: CallNext) -> HandlerResult:
        """Hand on what is right, and all that is no call of a prompt.

        Raises:
            MCPError: There is no such prompt, or its arguments are not those that it takes.
        """
        if ctx.method == "prompts/get" and (why := self._why_not(ctx.params or {})) is not None:
            raise MCPError(INVALID_PARAMS, why)
        return await call_next(ctx)

    def _why_not(self, params: Mapping[str, Any]) -> str | None:
        name, given = params.get("name"), params.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(given, Mapping):
            return None  # the SDK looks at the shape of a request
        prompt = self._prompts.get(name)
        if prompt is None:
            return f"there is no prompt {one_line(name, _LONGEST_NAME)!r}; there are {', '.join(self._prompts)}"
        taken = prompt.arguments or []
        missing = [f"`{one.name}`" for one in taken if one.required and one.name not in given]
        if missing:
            return f"{name} needs {' and '.join(missing)}"
        names = [one.name for one in taken]
        unknown = [repr(one_line(str(one), _LONGEST_NAME)) for one in given if one not in names]
        if unknown:
            return f"{name} takes no {unknown[0]}; it takes {', '.join(f'`{one}`' for one in names) or 'nothing'}"
        return None


_LONGEST_NAME = 80


_ANSWER = """Runs of workflows may be waiting for an answer of mine. Go through them with me:

1. Call list_runs with status="paused"; if its answer has a `next`, go on with before until there is nothing more.
2. If nothing waits, say so, and stop. Otherwise tell me how many there are, the one that has waited the longest first.
3. For each of them, tell me the workflow, how long it has waited, and its question word for word, with the choices if
   there are any. get_run with its run_id tells what was done before the question, if I want to know.
4. Wait for what I say. Do not answer in my place, and do not guess. If I want to leave it for later, leave it.
5. Pass my answer on with resume_workflow, and tell me what the run came to. It may ask something else at once.
"""

_DIAGNOSE = """Find out what is wrong with the run {run_id} of a workflow, and what can be done about it:

1. Call get_run with run_id={run_id}. Tell me its status, and what became of its blocks.
2. If it failed: which block failed first, and what does its message say? checkpoint://CHECKPOINT_ID, with the
   checkpoint_id of that answer, holds what that block was given and what it printed, if you can read resources.
   get_workflow_info with include_yaml=true shows how the workflow is made.
3. If it is paused, tell me what it asks, and for how long. If it is abandoned, a server takes it up again by itself.
4. Say what the cause is, as far as you can tell, and what you only suppose.
5. Propose what to do, and do it only when I agree: fork_run tries again what failed, and keeps what was done;
   cancel_run ends a run that nobody needs.
"""
