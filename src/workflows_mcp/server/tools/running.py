"""Tools that run workflows, and go on with those that wait for an answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import (
    AcceptedElicitation,
    CancelledElicitation,
    DeclinedElicitation,
    ElicitationResult,
    Resolve,
)
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field

from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.engine.workflow import WorkflowName, read_workflow
from workflows_mcp.errors import CheckpointAlreadyClaimedError, WorkflowNotFoundError
from workflows_mcp.server.answers import Answer, can_ask, is_no_answer, load_waiting, meant_answer, put_question
from workflows_mcp.server.progress import telling_progress
from workflows_mcp.server.replies import RunReply, run_reply
from workflows_mcp.server.services import Services
from workflows_mcp.server.shelf import why_not_found
from workflows_mcp.server.tools.tool import Call, TextOrNone, Tool, services_of

__all__ = ["TOOLS", "Inputs", "RunId", "Wait", "WaitSeconds", "run_as_asked", "tell_run"]

_LONGEST_WAIT_SECONDS = 86400.0

Inputs = Annotated[
    dict[str, Any] | None,
    Field(description='The workflow\'s inputs by name, such as {"environment": "staging"}.'),
]
RunId = Annotated[
    TextOrNone,
    Field(
        description="A name of your own for the run, such as deploy-2026-11-27. A call that is repeated with it does "
        "not run the workflow twice: it tells what the run has come to. Without it the run gets a fresh one."
    ),
]
Wait = Annotated[
    bool, Field(description="false: return as soon as the run is safely stored, and let it go on; get_run follows it.")
]
WaitSeconds = Annotated[
    float | None,
    Field(
        ge=0,
        le=_LONGEST_WAIT_SECONDS,
        allow_inf_nan=False,
        description="Wait so many seconds at most: then the status is running, and the run goes on.",
    ),
]


Response = Annotated[
    TextOrNone,
    Field(
        description="The human's answer, word for word: one of the choices where there are some. Without it, or where "
        "it is empty, your user is asked directly, if your client can show a form; if it cannot, you are told the "
        "question."
    ),
]


async def execute_workflow(
    call: Call,
    *,
    workflow: Annotated[str, Field(description="The workflow's name, as list_workflows has it; never a path or YAML.")],
    inputs: Inputs = None,
    run_id: RunId = None,
    wait: Wait = True,
    wait_seconds: WaitSeconds = None,
) -> Annotated[CallToolResult, RunReply]:
    """Run a workflow to its end, or to a question for a human.

    Its state is stored after every step, so that it survives crashes and restarts. It goes on when this call ends
    early; cancel_run ends it. The status tells what it has come to: success (see outputs), failure (see error), paused
    (see prompt; resume_workflow gives the answer) or running (get_run follows it).

    Example: execute_workflow(workflow="deploy", inputs={"version": "1.4.2"}, run_id="deploy-1.4.2"). get_workflow_info
    tells which inputs a workflow takes.
    """
    services = await services_of(call)
    executor = services.executor
    name = WorkflowName(workflow)
    try:
        result = await run_as_asked(
            call,
            services,
            lambda: executor.execute_workflow(name, inputs, run_id=run_id),
            lambda: executor.start_workflow(name, inputs, run_id=run_id),
            wait=wait,
            wait_seconds=wait_seconds,
        )
    except WorkflowNotFoundError:
        why = await asyncio.to_thread(why_not_found, services, workflow)
        if why is None:  # it is one that this one calls
            raise
        raise ToolError(why) from None
    return await tell_run(call, services, result, workflow)


async def execute_inline_workflow(
    call: Call,
    *,
    workflow_yaml: Annotated[str, Field(description="The workflow as YAML text; get_workflow_schema describes it.")],
    inputs: Inputs = None,
    run_id: RunId = None,
    wait: Wait = True,
    wait_seconds: WaitSeconds = None,
) -> Annotated[CallToolResult, RunReply]:
    """Run a workflow that is given as YAML, once; it is not kept under a name.

    As execute_workflow in all else. For what a library has already, execute_workflow is the better choice;
    validate_workflow_yaml checks YAML without running it.

    Example of workflow_yaml: {name: region, blocks: [{id: ask, type: Prompt, inputs: {prompt: "Which region?", choices:
    [eu, us]}}], outputs: {region: "{{ blocks.ask.outputs.response }}"}}
    """
    services = await services_of(call)
    executor = services.executor
    # One that stands in a single line is YAML, too.
    definition = await services.reader.read(lambda: read_workflow(f"{workflow_yaml}\n"))
    result = await run_as_asked(
        call,
        services,
        lambda: executor.execute_workflow(definition, inputs, run_id=run_id),
        lambda: executor.start_workflow(definition, inputs, run_id=run_id),
        wait=wait,
        wait_seconds=wait_seconds,
    )
    return await tell_run(call, services, result, definition.name)


async def resume_workflow(
    call: Call,
    *,
    checkpoint_id: Annotated[str, Field(description="The checkpoint of the pause: checkpoint_id of a paused run.")],
    human: Annotated[ElicitationResult[Answer], Resolve(put_question)],
    response: Response = None,
    definition: Annotated[
        Literal["saved", "current"],
        Field(
            description="saved: the run goes on with its workflow as it was when it began. current: as the library has "
            "it now, where what is done or under way is still the same."
        ),
    ] = "saved",
    wait: Wait = True,
    wait_seconds: WaitSeconds = None,
) -> Annotated[CallToolResult, RunReply]:
    """Answer the question that a paused run waits with, and let it go on to its end or to the next question.

    The answer is the human's to give: pass on what your user said, or leave response out to have them asked. Any
    server that shares the database can take the answer, at any later time; of several answers the first one counts.
    The status is as for execute_workflow.

    Example: resume_workflow(checkpoint_id="0199f2…", response="yes"). list_checkpoints(status="paused") shows all
    that waits.
    """
    services = await services_of(call)
    state = await load_waiting(services, checkpoint_id)
    run_id, name = state.run_id or "", state.workflow_name
    response, note = None if is_no_answer(response) else response, ""
    match human:
        case AcceptedElicitation(data=Answer() as given):
            response = given.response  # also an empty one: a human has given it
        case DeclinedElicitation():
            note = "Your user was asked, and declined to answer: nothing was done, and the run still waits."
        case CancelledElicitation():
            note = "Your user was asked, and did not answer: nothing was done, and the run still waits."
    if response is None:
        waiting = WorkflowResult("paused", run_id, checkpoint_id=checkpoint_id, prompt=state.pause_prompt)
        asks = can_ask(call)
        return run_reply(services, waiting, workflow=name, question=state.pause_metadata, asks=asks, note=note)
    executor, answer = services.executor, meant_answer(services, state, response)
    try:
        result = await run_as_asked(
            call,
            services,
            lambda: executor.resume_workflow(checkpoint_id, answer, definition=definition),
            lambda: executor.start_resume(checkpoint_id, answer, definition=definition),
            wait=wait,
            wait_seconds=wait_seconds,
        )
    except CheckpointAlreadyClaimedError:
        raise ToolError(
            f"checkpoint {checkpoint_id!r} was answered already, or is being answered now, by somebody else: this "
            f'answer was not taken. get_run with run_id="{run_id}" shows what becomes of the run'
        ) from None
    except ValueError as error:
        raise ToolError(f"{error}. Nothing was done, and the run still waits: ask again") from None
    return await tell_run(call, services, result, name)


TOOLS = (
    Tool(
        execute_workflow,
        "Run a workflow",
        ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True),
    ),
    Tool(
        execute_inline_workflow,
        "Run a workflow given as YAML",
        ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True),
        switch="inline_workflows",
    ),
    Tool(
        resume_workflow,
        "Answer a paused workflow",
        ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True),
    ),
)


async def run_as_asked(
    call: Call,
    services: Services,
    finish: Callable[[], Awaitable[WorkflowResult]],
    start: Callable[[], Awaitable[WorkflowResult]],
    *,
    wait: bool,
    wait_seconds: float | None,
) -> WorkflowResult:
    """Have something run, and wait for it as the caller wants to: to its end, for some seconds, or not at all."""
    async with telling_progress(call):
        to_the_end = wait and wait_seconds is None
        result = await (finish() if to_the_end else start())
        seconds = _LONGEST_WAIT_SECONDS if to_the_end else wait_seconds
        if wait and seconds and result.status == "running":  # here, or on another server
            return await services.executor.wait_for_run(result.run_id, seconds)
        return result


async def tell_run(call: Call, services: Services, result: WorkflowResult, workflow: str) -> CallToolResult:
    """The answer to a call; with what the run asks, if it waits."""
    question = None
    if result.is_paused and result.checkpoint_id is not None:
        state = await services.store.load_checkpoint(result.checkpoint_id)
        question = None if state is None else state.pause_metadata
    return run_reply(services, result, workflow=workflow, question=question, asks=can_ask(call))
