"""The question that a run waits with, as a person is shown it, and the answer that is meant."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.server.services import Services
from workflows_mcp.server.texts import text_of, texts_of

__all__ = ["Question", "answer_in", "question_of"]


@dataclass(frozen=True)
class Question:
    """What a run asks, without secrets.

    Attributes:
        checkpoint_id: The checkpoint that waits.
        run_id: Names the run; None: it belongs to none.
        workflow: The workflow's name.
        block: The path of the block that asks.
        prompt: What is asked.
        asked_at: When, in Unix seconds.
        choices: What may be chosen; empty: the answer is typed. Told by their places, since two may look the same.
        pattern: What an answer must match.
        default: What is taken for the answer once the time is over.
        expires_at: When that is, in Unix seconds.
        pending: The paths of blocks that ask after it.
        inputs: What the run was started with.
        outputs: What the blocks that are done gave, the last one first.
    """

    checkpoint_id: str
    run_id: str | None
    workflow: str
    block: str
    prompt: str
    asked_at: float
    choices: tuple[str, ...]
    pattern: str | None
    default: str | None
    expires_at: float | None
    pending: tuple[str, ...]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


def question_of(services: Services, state: CheckpointState) -> Question:
    """The question of a paused checkpoint."""
    scrub = services.without_secrets
    told = scrub(state.pause_metadata) or {}
    expires = told.get("expires_at")
    return Question(
        checkpoint_id=state.checkpoint_id,
        run_id=state.run_id,
        workflow=state.workflow_name,
        block=state.paused_block_id or "",
        prompt=scrub(state.pause_prompt) or "",
        asked_at=state.created_at,
        choices=tuple(texts_of(told.get("choices"))),
        pattern=text_of(told.get("pattern")),
        default=text_of(told.get("default")),
        expires_at=expires if isinstance(expires, int | float) else None,
        pending=tuple(texts_of(told.get("pending"))),
        inputs=scrub(state.runtime_inputs),
        outputs=scrub(_outputs_of(state)),
    )


def answer_in(state: CheckpointState, form: Mapping[str, str]) -> str | None:
    """The answer that a form brings; None: it brings none.

    Args:
        state: What waits. A choice is told by its place, for it may be shown otherwise than it is.
        form: What was sent.
    """
    choices = texts_of((state.pause_metadata or {}).get("choices"))
    place = form.get("choice", "")
    if place.isdecimal() and len(place) < 10 and int(place) < len(choices):
        return choices[int(place)]
    response = form.get("response")
    # Browsers send the line breaks of other systems.
    return None if response is None else response.replace("\r\n", "\n")


def _outputs_of(state: CheckpointState) -> dict[str, Any]:
    """What is known by now; of another program's state nothing."""
    blocks = state.context.get("blocks")
    if not isinstance(blocks, dict):
        return {}
    records = [(name, record) for name, record in blocks.items() if isinstance(record, dict)]
    return {name: record["outputs"] for name, record in reversed(records) if record.get("outputs")}
