"""The rows of saves, begun on the event loop, and finished wherever there is time."""

import functools
import operator
from typing import Any

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.contract import columns_of
from workflows_mcp.engine.leases import Fence
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.persistence.deltas import Step
from workflows_mcp.persistence.dialects import Row, fenced
from workflows_mcp.persistence.row_codec import RowCodec
from workflows_mcp.persistence.statements import SAVED
from workflows_mcp.persistence.waiting import Draft

__all__ = ["draft"]

_VALUES = operator.itemgetter(*SAVED)


def draft(state: CheckpointState, max_bytes: int | None, fence: Fence | None, codec: RowCodec, step: Step) -> Draft:
    """Begin the row of a save, which lacks its payload yet; nothing of it refers to the state any more.

    Args:
        state: What is saved.
        max_bytes: How many bytes its plain JSON may have; None: any number.
        fence: What the save asks for; None: nothing.
        codec: Makes the payload.
        step: What the state may be a delta of.

    Raises:
        CheckpointEncodeError: The state holds something else than plain JSON, or too much of it.
    """
    plain = encode_state(state, max_bytes=max_bytes)
    columns = {**columns_of(state), "status": state.status._value_}
    finish = functools.partial(_row, columns, plain, fence, codec, step)
    make_whole = None if step.base is None else functools.partial(_whole_row, columns, plain, fence, codec, step)
    return Draft(state.checkpoint_id, len(plain), finish, fence, make_whole)


def _whole_row(columns: dict[str, Any], plain: bytes, fence: Fence | None, codec: RowCodec, step: Step) -> Row:
    """The same row as no delta."""
    step.base = None
    return _row(columns, plain, fence, codec, step)


def _row(columns: dict[str, Any], plain: bytes, fence: Fence | None, codec: RowCodec, step: Step) -> Row:
    """The values of `SAVED`, and what is asked for besides."""
    row: Row = _VALUES(codec.filled(columns, plain, step))
    return row if fence is None else fenced(row, fence)
