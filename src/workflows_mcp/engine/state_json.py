"""A state as plain JSON bytes and back: exact, or refused.

What its values may be stands in `plain_json`. Here is which types its fields have, and what is said of damaged ones.
"""

import contextlib
import itertools
import operator
from typing import Any

import orjson

from workflows_mcp.engine.checkpoint import STATE_SCHEMA_VERSION, CheckpointState
from workflows_mcp.engine.filters import check_count
from workflows_mcp.engine.observing import note_bytes
from workflows_mcp.engine.plain_json import SealedDict, SealedList, bad_text_in, dump_json, is_json, refusal_of
from workflows_mcp.errors import CheckpointDecodeError, CheckpointEncodeError, CheckpointTooLargeError

__all__ = [
    "IMPORTING",
    "MAX_STATE_BYTES",
    "decode_state",
    "encode_state",
]

IMPORTING = "workflows-mcp checkpoints import FILE --on-conflict replace"
"""Puts checkpoints back that are damaged, out of a file that they were exported to."""

MAX_STATE_BYTES = 256 * 2**20
"""The largest plain JSON of a state that any store takes, and the most that decoding one may unpack."""

_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "checkpoint_id": (str,),
    "workflow_name": (str,),
    "created_at": (float,),
    "runtime_inputs": (dict, SealedDict),
    "context": (dict,),
    "completed_blocks": (list,),
    "current_wave_index": (int,),
    "execution_waves": (list, SealedList),
    "block_definitions": (dict, SealedDict),
    "workflow_stack": (list,),
    "parent_checkpoint_id": (str, type(None)),
    "paused_block_id": (str, type(None)),
    "pause_prompt": (str, type(None)),
    "pause_metadata": (dict, type(None)),
    "child_checkpoint_id": (str, type(None)),
    "schema_version": (int,),
    "run_id": (str, type(None)),
}

_FIELD_VALUES = operator.attrgetter(*_FIELD_TYPES)
_FITTING_TYPES = frozenset(itertools.product(*_FIELD_TYPES.values()))
"""All combinations: one look tells whether every field has a type that it may have."""


def encode_state(state: CheckpointState, *, max_bytes: int | None = None) -> bytes:
    """The plain JSON of a state.

    Args:
        state: What to encode; not changed, and not referred to afterwards.
        max_bytes: The most bytes that the JSON may have, besides `MAX_STATE_BYTES`.

    Raises:
        ValueError: `max_bytes` is no whole number of at least 1.
        CheckpointEncodeError: A value would not come back as it is; the message names its path.
        CheckpointTooLargeError: The JSON is larger than the limit.
    """
    values = _FIELD_VALUES(state)
    if tuple(map(type, values)) not in _FITTING_TYPES or not is_json(values, 0):
        _check_fields(state)
    if state.schema_version != STATE_SCHEMA_VERSION:
        raise CheckpointEncodeError(
            f"checkpoint {state.checkpoint_id!r}: schema_version is {state.schema_version}, "
            f"and this version writes {STATE_SCHEMA_VERSION} only"
        )
    fields = dict(zip(_FIELD_TYPES, values, strict=True))
    fields["status"] = state.status._value_
    try:
        data = dump_json(fields)
    except TypeError as error:
        refusal = str(error)
        data = None
    if data is None:
        _check_fields(state)
        raise CheckpointEncodeError(f"checkpoint {_shown(state.checkpoint_id)}: {bad_text_in(fields, []) or refusal}")
    limit = (
        MAX_STATE_BYTES if max_bytes is None else min(check_count("max_bytes", max_bytes, at_least=1), MAX_STATE_BYTES)
    )
    if len(data) > limit:
        raise CheckpointTooLargeError(
            f"checkpoint {state.checkpoint_id!r} of workflow {state.workflow_name!r} has {len(data):,} bytes of "
            f"JSON, and the limit is {limit:,}. Keep large data in files and their paths in the state, or raise "
            "max_checkpoint_size_mb"
        )
    note_bytes(len(data))
    return data


def decode_state(data: bytes | bytearray, checkpoint_id: str) -> CheckpointState:
    """The state that `encode_state` made these bytes of.

    Args:
        data: Plain JSON.
        checkpoint_id: The id that the state must have, for a payload that ended up in another's row.

    Raises:
        CheckpointDecodeError: The bytes are not a state's JSON, not this checkpoint's, or of a newer version.
    """
    note_bytes(len(data))
    fields = _parsed(data)
    # Raised outside any handler: the parser's error holds the payload, and must not be this one's context.
    if not isinstance(fields, dict):
        raise damaged(checkpoint_id, "it is not JSON, or no JSON object")
    if fields.get("checkpoint_id", checkpoint_id) != checkpoint_id:
        raise damaged(checkpoint_id, "it belongs to another checkpoint")
    return build_state(fields, checkpoint_id)


def build_state(fields: dict[str, Any], checkpoint_id: str) -> CheckpointState:
    """A state of decoded fields.

    Raises:
        CheckpointDecodeError: Fields are missing, unknown, or of a wrong type, or of a newer version.
    """
    version = fields.get("schema_version")
    if isinstance(version, int) and version > STATE_SCHEMA_VERSION:
        raise CheckpointDecodeError(
            f"checkpoint {checkpoint_id!r} was saved with schema version {version}, and this version of "
            f"workflows-mcp reads up to {STATE_SCHEMA_VERSION}: upgrade workflows-mcp"
        )
    if tuple(map(type, map(fields.get, _FIELD_TYPES))) not in _FITTING_TYPES:
        for name, types in _FIELD_TYPES.items():
            if name in fields and type(fields[name]) not in types:
                raise damaged(checkpoint_id, f"its {name} is a {type(fields[name]).__name__}")
    with contextlib.suppress(ValueError):
        return CheckpointState.from_fields(fields)
    # Which ones is not said: an unknown field's name, or a wrong value, is somebody's data.
    raise damaged(checkpoint_id, "its fields are missing, unknown, or contradict each other")


def damaged(checkpoint_id: str, why: str) -> CheckpointDecodeError:
    """The error for a payload that cannot be read."""
    error = CheckpointDecodeError(
        f"the payload of checkpoint {checkpoint_id!r} is damaged: {why}. Other checkpoints are unaffected, unless they "
        f"need it; restore {checkpoint_id!r} from a backup ({IMPORTING}), go on from an earlier checkpoint of its run, "
        "or delete it together with those that need it"
    )
    error.reason = f"is damaged: {why}"
    return error


def _parsed(data: bytes | bytearray) -> Any:  # noqa: ANN401 - any JSON
    """What JSON bytes say; None when they are no JSON."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _check_fields(state: CheckpointState) -> None:
    """Raise an error that names the first value which is not plain JSON, if there is one."""
    for (name, types), value in zip(_FIELD_TYPES.items(), _FIELD_VALUES(state), strict=True):
        flaw = refusal_of(value, name)
        if flaw is None and type(value) not in types:
            plain = (one for one in types if one not in {SealedDict, SealedList})
            expected = " or ".join("None" if one is type(None) else one.__name__ for one in plain)
            flaw = f"{name}: must be {expected}, not {type(value).__name__}"
        if flaw is not None:
            raise CheckpointEncodeError(f"checkpoint {_shown(state.checkpoint_id)}: {flaw}")


def _shown(checkpoint_id: object) -> str:
    return repr(checkpoint_id) if isinstance(checkpoint_id, str) else f"<{type(checkpoint_id).__name__}>"
