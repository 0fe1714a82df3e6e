"""What waits for a person, and the person's answer."""

import asyncio
from functools import partial

from starlette.responses import Response

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState
from workflows_mcp.engine.filters import position_before
from workflows_mcp.engine.stored import listing_of
from workflows_mcp.errors import (
    CheckpointAlreadyClaimedError,
    CheckpointDecodeError,
    CheckpointNotFoundError,
    WorkflowDefinitionError,
)
from workflows_mcp.server.paging import page_of
from workflows_mcp.server.ui.page import Ui, Visit, redirect
from workflows_mcp.server.ui.paths import path_to
from workflows_mcp.server.ui.problems import OLD_FORM, Problem, sentence
from workflows_mcp.server.ui.questions import Question, answer_in, question_of

__all__ = ["ask_again", "show_question", "show_waiting", "take_answer"]

_PAGE = 10
"""Each of them is loaded: what may be answered stands in its state."""

_HELD = "somebody else is answering it just now; should that come to nothing, send it again in half a minute"


async def show_waiting(ui: Ui, visit: Visit) -> Response:
    """All runs that wait, the one that was saved last first, each with its form; a part of it: how many there are."""
    before = visit.asked("before")
    await ui.services.prepare()
    list_paused = partial(ui.services.store.list_checkpoints, is_paused=True)
    if visit.is_fragment:
        # Not the questions: somebody may be typing an answer.
        newest, pulse = await asyncio.gather(list_paused(limit=1), ui.services.store.take_pulse())
        is_old = bool(newest) and _is_later(newest[0].cursor, visit.asked("newest"))
        return ui.render(visit, "_waiting_lead.html", pulse=pulse, is_old=is_old)
    found, pulse = await asyncio.gather(list_paused(limit=_PAGE + 1, before=before), ui.services.store.take_pulse())
    # On a further page, too, it is told when there are new ones.
    newest = found if before is None else await list_paused(limit=1)
    page, following = page_of(found, _PAGE)
    questions = [await _question(ui, one) for one in page]  # not at once: each state may be large
    return ui.render(
        visit,
        "waiting.html",
        questions=[one for one in questions if one is not None],
        pulse=pulse,
        newest=newest[0].cursor if newest else None,
        is_old=False,
        before=before,
        following=following,
    )


def _is_later(cursor: str, than: str | None) -> bool:
    """Whether a place in a listing is a newer one than another."""
    place, other = position_before(cursor), position_before(than)
    return other is None or (place is not None and place > other)


async def show_question(ui: Ui, visit: Visit) -> Response:
    """One question by itself."""
    state = await _waiting_state(ui, visit)
    return ui.render(visit, "question.html", question=await _made(ui, state), flaw=None, given="")


async def ask_again(ui: Ui, visit: Visit) -> Response:
    """The same question with what was typed in a form that is too old to be taken."""
    return await _again(ui, visit, await _waiting_state(ui, visit), OLD_FORM)


async def take_answer(ui: Ui, visit: Visit) -> Response:
    """Let a run go on with an answer: of several people, the first one's."""
    state = await _waiting_state(ui, visit)
    answer = answer_in(state, visit.form)
    flaw, is_claimed = "nothing was chosen or typed" if answer is None else None, False
    if answer is not None:
        try:
            await ui.services.executor.start_resume(state.checkpoint_id, answer)
        except CheckpointAlreadyClaimedError:
            is_claimed = True
        except WorkflowDefinitionError as error:
            raise Problem(
                409,
                "It cannot be answered here",
                f"{sentence(error)}. Nothing was done, and the run still waits.",
                _run_link(state) | {"All that waits": path_to("waiting")},
            ) from None
        except ValueError as error:
            if type(error) is not ValueError:
                raise
            flaw = str(error)
    if is_claimed:
        listed = await listing_of(ui.services.store, state)
        if listed is None or listed.superseded:
            raise _too_late(state)
        # Whoever holds it may be gone, and nobody has answered then.
        return await _again(ui, visit, state, _HELD, status=409)
    if flaw is not None:
        return await _again(ui, visit, state, flaw)
    return redirect(path_to("run", id=state.run_id, answered=state.checkpoint_id))


async def _again(ui: Ui, visit: Visit, state: CheckpointState, flaw: str, status: int = 422) -> Response:
    question = await _made(ui, state)
    given = visit.form.get("response", "")
    return ui.render(visit, "question.html", status=status, question=question, flaw=flaw, given=given)


async def _waiting_state(ui: Ui, visit: Visit) -> CheckpointState:
    """The checkpoint that a visit is about, which waits.

    Raises:
        Problem: It does not, or does not any more.
        CheckpointNotFoundError: There is none.
    """
    checkpoint_id = visit.needed("checkpoint")
    await ui.services.prepare()
    store = ui.services.store
    state = await store.load_checkpoint(checkpoint_id)
    if state is None:
        raise CheckpointNotFoundError(f"there is no checkpoint {checkpoint_id!r}")
    head = await store.list_checkpoints(run_id=state.run_id, limit=1) if state.run_id is not None else []
    if not state.is_paused:
        raise Problem(
            409, "There is nothing to answer", "This checkpoint does not wait for an answer.", _run_link(state)
        )
    if head and head[0].checkpoint_id != checkpoint_id:
        raise _too_late(state)
    return state


def _too_late(state: CheckpointState) -> Problem:
    return Problem(
        409,
        "It was answered already",
        "Somebody else was a moment quicker, or the run was cancelled: it goes on without your answer, which was not "
        "taken. Its page shows what has become of it.",
        _run_link(state) | {"What else waits": path_to("waiting")},
    )


def _run_link(state: CheckpointState) -> dict[str, str]:
    return {} if state.run_id is None else {"The run": path_to("run", id=state.run_id)}


async def _question(ui: Ui, listed: CheckpointMetadata) -> Question | Problem | None:
    """A question that is listed; a problem: it cannot be read; None: it was answered since."""
    try:
        state = await ui.services.store.load_checkpoint(listed.checkpoint_id)
    except CheckpointDecodeError as error:
        links = {"Run": path_to("run", id=listed.run_id)} if listed.run_id is not None else {}
        return Problem(500, f"Checkpoint {listed.checkpoint_id} cannot be read", sentence(error), links)
    return None if state is None or not state.is_paused else await _made(ui, state)


async def _made(ui: Ui, state: CheckpointState) -> Question:
    return await asyncio.to_thread(question_of, ui.services, state)
