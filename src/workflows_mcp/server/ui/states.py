"""The state of a checkpoint: looked through as a tree, or downloaded."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.comparing import fields_of, load_compared
from workflows_mcp.engine.pointers import Step, dotted, follow, pointer_of
from workflows_mcp.engine.stored import listing_of
from workflows_mcp.server.services import Services
from workflows_mcp.server.ui.page import Ui, Visit
from workflows_mcp.server.ui.paths import path_to
from workflows_mcp.server.ui.problems import Problem
from workflows_mcp.server.ui.tree import Node, tree_of

__all__ = ["download_state", "show_state", "state_tree"]

_MOST_BESIDE = 200
"""So many values are sent with the page of a run, where nearly all are folded at first: as many again take a fifth of
the time that the whole page does."""

_LONGEST_NUMBER = 12

_FIRST_CRUMBS, _LAST_CRUMBS = 3, 5
"""So many steps of a path are shown at its beginning and at its end."""

_MOST_LETTERS = 80

_NOT_IN_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Crumb:
    """A step of the way to a value.

    Attributes:
        label: What it is called.
        pointer: Where it leads; None: it stands for steps that are left out.
    """

    label: str
    pointer: str | None


async def show_state(ui: Ui, visit: Visit) -> Response:
    """A state, or a part of it that `path` names, from a key, item or character on; for an open page only that."""
    state, fields, steps, value = await _found(ui, visit)
    node = await asyncio.to_thread(tree_of, value, steps, first=_first(visit))
    if visit.is_fragment:
        goes_on = visit.asked("more") is not None
        return ui.render(visit, "_branch.html", checkpoint_id=state.checkpoint_id, node=node, goes_on=goes_on)
    listed = await listing_of(ui.services.store, state)
    return ui.render(
        visit,
        "state.html",
        checkpoint_id=state.checkpoint_id,
        run_id=state.run_id,
        about=fields,
        listed=listed,
        node=node,
        crumbs=_crumbs(steps),
    )


async def download_state(ui: Ui, visit: Visit) -> Response:
    """A state, or a part of it, as a file of JSON, without secrets."""
    state, _, steps, value = await _found(ui, visit)
    try:
        content = await asyncio.to_thread(_json_of, value)
    except RecursionError:
        there = path_to("state", checkpoint=state.checkpoint_id, path=pointer_of(steps) or None)
        raise Problem(
            422,
            "It is nested too deeply to be downloaded as a whole",
            "It can be looked through; parts of it can be downloaded by their own pages.",
            {"Look through it": there},
        ) from None
    name = _NOT_IN_FILE_NAME.sub("_", state.checkpoint_id)[:_MOST_LETTERS].lstrip(".") or "state"
    disposition = f'attachment; filename="{name}.json"'
    return Response(content, media_type="application/json", headers={"Content-Disposition": disposition})


async def state_tree(services: Services, state: CheckpointState) -> Node:
    """The tree of a state, for `tree` of `_state.html`, where it stands among other things."""
    return await asyncio.to_thread(lambda: tree_of(fields_of(state, services.without_secrets), most=_MOST_BESIDE))


async def _found(ui: Ui, visit: Visit) -> tuple[CheckpointState, dict[str, Any], tuple[Step, ...], Any]:
    """The checkpoint that a visit is about, its fields, and the value that `path` points at.

    Raises:
        CheckpointNotFoundError: There is no such checkpoint.
        Problem: There is nothing at this place.
    """
    checkpoint_id = visit.needed("checkpoint")
    await ui.services.prepare()
    state = await load_compared(ui.services.store, checkpoint_id)
    fields = await asyncio.to_thread(fields_of, state, ui.services.without_secrets)
    try:
        steps, value = follow(fields, visit.asked("path") or "")
    except (LookupError, ValueError) as error:
        whole = {"The whole state": path_to("state", checkpoint=checkpoint_id)}
        if isinstance(error, LookupError):
            text = f"In this state {error.args[0]}."
            raise Problem(404, "There is nothing at this place", text, whole) from None
        raise Problem(400, "This is no place in a state", f"Its path {error}.", whole) from None
    return state, fields, steps, value


def _first(visit: Visit) -> int:
    text = visit.asked("from") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise Problem(400, "This is no place in a state", "from= takes the number of a key, an item or a character.")
    return int(text)


def _crumbs(steps: Sequence[Step]) -> list[Crumb]:
    """The way to a value, without the middle of a long one."""
    crumbs = [Crumb("State", "")]
    crumbs += [Crumb(dotted([step]), pointer_of(steps[: index + 1])) for index, step in enumerate(steps)]
    more = len(crumbs) - _FIRST_CRUMBS - _LAST_CRUMBS
    if more <= 0:
        return crumbs
    return [*crumbs[:_FIRST_CRUMBS], Crumb(f"… {more} more …", None), *crumbs[-_LAST_CRUMBS:]]


def _json_of(value: Any) -> bytes:  # noqa: ANN401 - JSON data
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2)
    except TypeError:  # nested deeper than it goes
        return json.dumps(value, ensure_ascii=False).encode(errors="replace")
