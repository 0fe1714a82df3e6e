"""The question that a run waits with, as a person is shown it, and the answer that is meant."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import overload

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.server.services import Services
from workflows_mcp.server.texts import text_of, texts_of
from workflows_mcp.server.ui.values import MOST_AT_LENGTH, Scrub, Value, in_short

__all__ = ["Question", "answer_in", "question_of"]


_MOST_BLOCKS, _MOST_OUTPUTS, _MOST_INPUTS = 8, 12, 50
"""So many blocks are shown, and of each so many outputs; and so many inputs."""

_MOST_CHOICES, _MOST_PENDING = 1_000, 100

_FEWEST_LETTERS = 100
"""So much is shown of each choice, however many there are."""


@dataclass(frozen=True)
class Question:
    """What a run asks, without secrets, as far as a page shows it.

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
        outputs: What the blocks that are done gave, by their names, the last one first.
        is_whole: Whether prompt and choices are all that is asked; else there is more of them.
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
    inputs: tuple[Value, ...]
    outputs: tuple[tuple[str, tuple[Value, ...]], ...]
    is_whole: bool = True


def question_of(services: Services, state: CheckpointState) -> Question:
    """The question of a paused checkpoint; for a thread, since the state may be large."""
    scrub = services.without_secrets
    metadata: object = scrub(state.pause_metadata)
    told = metadata if isinstance(metadata, dict) else {}
    expires = told.get("expires_at")
    prompt: str = scrub(state.pause_prompt) or ""
    choices = texts_of(told.get("choices"))
    letters = max(MOST_AT_LENGTH // max(len(choices), 1), _FEWEST_LETTERS)
    return Question(
        checkpoint_id=state.checkpoint_id,
        run_id=state.run_id,
        workflow=state.workflow_name,
        block=scrub(state.paused_block_id) or "",
        prompt=_beginning(prompt),
        asked_at=state.created_at,
        choices=tuple(_beginning(one, letters) for one in choices[:_MOST_CHOICES]),
        pattern=_beginning(text_of(told.get("pattern"))),
        default=_beginning(text_of(told.get("default"))),
        expires_at=expires if isinstance(expires, int | float) else None,
        pending=tuple(_beginning(one, _FEWEST_LETTERS) for one in texts_of(told.get("pending"))[:_MOST_PENDING]),
        inputs=in_short(state.runtime_inputs, scrub, _MOST_INPUTS),
        outputs=_outputs_of(state, scrub),
        is_whole=len(prompt) <= MOST_AT_LENGTH
        and len(choices) <= _MOST_CHOICES
        and all(len(one) <= letters for one in choices),
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


def _outputs_of(state: CheckpointState, scrub: Scrub) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    """What is known by now; of another program's state what can be told of it."""
    context: object = state.context
    blocks = context.get("blocks") if isinstance(context, dict) else None
    if not isinstance(blocks, dict):
        return ()
    records = ((name, record.get("outputs")) for name, record in reversed(blocks.items()) if isinstance(record, dict))
    known = islice(((name, outputs) for name, outputs in records if outputs), _MOST_BLOCKS)
    return tuple((_beginning(scrub(name), _FEWEST_LETTERS), in_short(one, scrub, _MOST_OUTPUTS)) for name, one in known)


@overload
def _beginning(text: str, most: int = ...) -> str: ...
@overload
def _beginning(text: str | None, most: int = ...) -> str | None: ...
def _beginning(text: str | None, most: int = MOST_AT_LENGTH) -> str | None:
    return text if text is None or len(text) <= most else f"{text[:most]}…"
