"""Puts the question that a run waits with to the human at the client, where the client can show it."""

import json
from collections.abc import Mapping
from typing import Any

from mcp.server.mcpserver import Elicit
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types.version import is_version_at_least
from pydantic import BaseModel, Field, create_model
from pydantic.config import JsonDict

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.result import RESULT_STATUSES
from workflows_mcp.errors import CheckpointNotFoundError
from workflows_mcp.server.services import Services
from workflows_mcp.server.texts import texts_of
from workflows_mcp.server.tools.tool import Call, services_of
from workflows_mcp.server.visible import visible

__all__ = ["Answer", "can_ask", "is_no_answer", "load_waiting", "meant_answer", "put_question"]

_ASKS_WITHIN_THE_CALL = "2026-07-28"
"""The protocol from which on a question needs no request of the server's own, and so no way back to the client."""


class Answer(BaseModel):
    """What the human says."""

    response: str


def can_ask(call: Call) -> bool:
    """Whether the client of a call would show a form to its user."""
    declared = call.client_capabilities
    shows = None if declared is None else declared.elicitation
    # One that says nothing of either kind is of the time when there were only forms.
    if shows is None or (shows.form is None and shows.url is not None):
        return False
    version = call.protocol_version
    is_current = version is not None and is_version_at_least(version, _ASKS_WITHIN_THE_CALL)
    return is_current or call.session.can_send_request


async def put_question(call: Call, checkpoint_id: str, response: str | None) -> Elicit[Answer] | None:
    """Ask the human what a run waits for; None: there is an answer already, or the client cannot ask.

    Raises:
        ToolError: It does not wait for an answer.
        CheckpointStoreError: The store failed.
    """
    if not is_no_answer(response) or not can_ask(call):
        return None
    services = await services_of(call)
    state = await load_waiting(services, checkpoint_id)
    return Elicit(_shown(services, state.pause_prompt or ""), _form_for(services, state.pause_metadata or {}))


def is_no_answer(response: str | None) -> bool:
    """Whether a call gives no answer: a model that has none to pass on may send an empty text."""
    return response is None or not response.strip()


def meant_answer(services: Services, state: CheckpointState, response: str) -> str:
    """The choice that an answer stands for: one that holds a secret, or what would hide there, is shown otherwise."""
    return _choices_of(services, state.pause_metadata or {}).get(response, response)


async def load_waiting(services: Services, checkpoint_id: str) -> CheckpointState:
    """A checkpoint that waits for an answer.

    Raises:
        ToolError: It does not; the text tells what has become of its run.
        CheckpointNotFoundError: There is none of this id.
        CheckpointStoreError: The store failed.
    """
    state = await services.store.load_checkpoint(checkpoint_id)
    if state is None:
        raise CheckpointNotFoundError(checkpoint_id)
    found = await services.store.list_checkpoints(run_id=state.run_id, limit=1) if state.run_id else []
    head = found[0] if found else None
    is_newest = head is None or head.checkpoint_id == checkpoint_id
    if is_newest and state.is_paused:
        return state
    if is_newest:
        why = (
            "its run is at work" if state.status == "running" else f"its run is over ({RESULT_STATUSES[state.status]})"
        )
    else:
        why = "it was answered already, or its run cancelled" if state.is_paused else "its run has gone on since"
    where = f"get_run with run_id={json.dumps(state.run_id)} shows what the run has come to"
    if head is not None and head.is_paused:
        where = f"its run waits now at checkpoint_id={json.dumps(head.checkpoint_id)}"
    raise ToolError(f"checkpoint {checkpoint_id!r} does not wait for an answer: {why}; {where}")


def _form_for(services: Services, told: Mapping[str, Any]) -> type[Answer]:
    """A form with one field, for what a question takes.

    What it takes is said, and looked at by the run alone: a client that sends something else is to be told why not.
    """
    choices, pattern = list(_choices_of(services, told)), told.get("pattern")
    description = f"Must match {_shown(services, pattern)}" if pattern else None
    extra: JsonDict | None = {"enum": [*choices]} if choices else None
    field = Field(title="Answer", description=description, json_schema_extra=extra)
    return create_model("Answer", __base__=Answer, response=(str, field))


def _choices_of(services: Services, told: Mapping[str, Any]) -> dict[str, str]:
    """The choices of a question, by how they are shown; none if two of them would look the same."""
    choices = texts_of(told.get("choices"))
    shown = {_shown(services, choice): choice for choice in choices}
    return shown if len(shown) == len(choices) else {}


def _shown(services: Services, text: str) -> str:
    """A text as people are shown it: without secrets, and with all that is in it."""
    return visible(str(services.without_secrets(text)))
